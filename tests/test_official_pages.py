"""The official pages are served for every session from the build that suits it, and nothing else ever looks like a page."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from support.answers import told
from support.client import client
from support.sessions import KEY, SegmentWriter, WrappedStore, tasks

from pipeline.layout import SessionKey

pytestmark = pytest.mark.anyio

AT = f"/sessions/{KEY}"
OLDER = SessionKey("default", "demo", "session_2026-01-10_02-00-00_123456_1")
PROXIED = {"content-type": "application/json"}
"""What Ray's proxy adds to a request without a body."""


def builds(folder: Path, *versions: str) -> Path:
    for version in versions:
        build = folder / version
        (build / "static" / "js").mkdir(parents=True)
        (build / "index.html").write_text(f"<!doctype html>pages of {version}")
        (build / "static" / "js" / "main.abc.js").write_text(f"'{version}'")
        (build / "favicon.ico").write_bytes(b"icon")
    return folder


async def two_sessions() -> WrappedStore:
    store = WrappedStore()
    for key, version in ((KEY, "2.60.0"), (OLDER, "2.9.3")):
        writer = SegmentWriter(store, key)
        await writer.begin()
        await writer.write(tasks(1))
        await told(store, key, "/api/version", {"ray_version": version})
    return store


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a server without Ray beside it."""
    monkeypatch.setattr("api.dashboard._build_of_installed_ray", lambda: iter(()))


async def text(http: httpx.AsyncClient, path: str, **options: object) -> str:
    answer = await http.get(path, **options)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_two_sessions_are_shown_with_the_pages_of_their_own_ray_side_by_side(tmp_path: Path) -> None:
    async with client(await two_sessions(), dashboards=builds(tmp_path, "2.60.0", "2.9.3")) as http:
        assert await text(http, f"{AT}/") == "<!doctype html>pages of 2.60.0"
        assert await text(http, f"/sessions/{OLDER}/") == "<!doctype html>pages of 2.9.3"
        assert await text(http, f"{AT}/static/js/main.abc.js") == "'2.60.0'"
        assert await text(http, f"/sessions/{OLDER}/static/js/main.abc.js") == "'2.9.3'"
        assert await text(http, f"{AT}/favicon.ico") == "icon"


async def test_a_build_that_was_named_goes_before_what_is_installed(tmp_path: Path) -> None:
    mine = builds(tmp_path / "mine", "build") / "build"
    async with client(await two_sessions(), dashboard_dir=mine, dashboards=builds(tmp_path / "i", "2.60.0")) as http:
        assert await text(http, f"{AT}/") == await text(http, f"/sessions/{OLDER}/") == "<!doctype html>pages of build"


async def test_the_address_without_its_slash_leads_to_the_one_with_it(tmp_path: Path) -> None:
    async with client(await two_sessions(), dashboards=builds(tmp_path, "2.60.0")) as http:
        answer = await http.get(AT)
    assert (answer.status_code, answer.headers["location"]) == (308, f"{KEY.session}/")


async def test_what_never_changes_may_be_kept_for_ever_and_the_page_that_names_it_not(tmp_path: Path) -> None:
    async with client(await two_sessions(), dashboards=builds(tmp_path, "2.60.0")) as http:
        page, script = await http.get(f"{AT}/"), await http.get(f"{AT}/static/js/main.abc.js")
        again = await http.get(f"{AT}/", headers={"if-none-match": page.headers["etag"]})
    assert (page.headers["cache-control"], again.status_code) == ("no-cache", 304)
    assert "immutable" in script.headers["cache-control"]


async def test_the_pages_may_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with client(await two_sessions(), dashboards=builds(tmp_path, "2.60.0")) as http:
        policy = (await http.get(f"{AT}/")).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    "path",
    ["/api/v0/nothing", "/static/js/none.js", "/static/", "/static/../index.html", "/static/%2e%2e/%2e%2e/2.9.3/index.html",
     "/jobs", "/index.html", "/favicon.png", "/asset-manifest.json"],
)  # fmt: skip
async def test_where_there_is_nothing_the_answer_is_404_in_rays_shape_and_never_a_page(
    tmp_path: Path, path: str
) -> None:
    (tmp_path / "secret.js").write_text("secret")
    async with client(await two_sessions(), dashboards=builds(tmp_path, "2.60.0", "2.9.3")) as http:
        answer = await http.get(AT + path)
    assert (answer.status_code, answer.json()["result"]) == (404, False)


async def test_a_session_that_isnt_there_has_no_page(tmp_path: Path) -> None:
    async with client(await two_sessions(), dashboards=builds(tmp_path, "2.60.0")) as http:
        for path in ("/", "/static/js/main.abc.js", "/favicon.ico"):
            answer = await http.get(f"/sessions/default/demo/session_none{path}")
            assert (answer.status_code, answer.json()["result"]) == (404, False)


@pytest.mark.usefixtures("no_ray")
async def test_without_a_build_a_page_says_how_to_get_one_and_links_to_all_there_is() -> None:
    async with client(await two_sessions()) as http:
        page = await text(http, f"/sessions/{OLDER}/")
        assert "ray-history dashboard install 2.9.3" in page
        links = [part.partition('"')[0] for part in page.split('href="')[1:]]
        assert len(links) > 8
        for link in links:
            answer = await http.get(f"/sessions/{OLDER}/{link}".replace("&amp;", "&"))
            assert answer.status_code == 200, link


@pytest.mark.usefixtures("no_ray")
async def test_what_a_session_calls_itself_stays_text_on_that_page() -> None:
    store = await two_sessions()
    await told(store, OLDER, "/api/version", {"ray_version": "<script>1</script>"})
    async with client(store) as http:
        page = await text(http, f"/sessions/{OLDER}/")
    assert "<script>" not in page


# at the root, and behind Ray's own proxy


async def test_the_session_that_was_entered_is_shown_at_the_root_too(tmp_path: Path) -> None:
    async with client(await two_sessions(), dashboards=builds(tmp_path, "2.60.0", "2.9.3")) as http:
        await http.get(f"/enter_cluster/{OLDER}")
        assert await text(http, "/index.html") == "<!doctype html>pages of 2.9.3"
        assert await text(http, "/static/js/main.abc.js") == "'2.9.3'"


async def test_the_list_of_sessions_stays_at_the_root_for_who_comes_directly(tmp_path: Path) -> None:
    async with client(await two_sessions(), dashboards=builds(tmp_path, "2.60.0")) as http:
        before = await text(http, "/")
        await http.get(f"/enter_cluster/{KEY}")
        assert await text(http, "/") == before
        assert "pages of" not in before


async def test_rays_proxy_gets_the_page_of_the_session_that_was_entered(tmp_path: Path) -> None:
    async with client(await two_sessions(), dashboards=builds(tmp_path, "2.60.0")) as http:
        listed = await text(http, "/", headers=PROXIED)
        await http.get(f"/enter_cluster/{KEY}")
        assert await text(http, "/", headers=PROXIED) == "<!doctype html>pages of 2.60.0"
    assert "pages of" not in listed


@pytest.mark.usefixtures("no_ray")
async def test_rays_proxy_falls_back_to_its_own_pages_where_there_are_none_here() -> None:
    async with client(await two_sessions()) as http:
        await http.get(f"/enter_cluster/{KEY}")
        for path in ("/", "/static/js/main.abc.js", "/favicon.ico"):
            assert (await http.get(path, headers=PROXIED)).status_code == 404


async def test_without_a_session_there_are_no_files_at_the_root(tmp_path: Path) -> None:
    async with client(await two_sessions(), dashboards=builds(tmp_path, "2.60.0")) as http:
        for path in ("/static/js/main.abc.js", "/favicon.ico"):
            assert (await http.get(path)).status_code == 404
        assert (await http.get("/index.html")).status_code == 400
