"""The pages' own files: nothing inline, nothing from elsewhere, no HTML from strings, and a policy that holds them to it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.client import client
from support.sessions import KEY, SegmentWriter, WrappedStore

from api.routes.pages import FOLDER, POLICY

pytestmark = pytest.mark.anyio

FILES = sorted(FOLDER.iterdir())
PAGES = [file for file in FILES if file.suffix == ".html"]
SCRIPTS = [file for file in FILES if file.suffix == ".js"]
ADDRESSES = {
    "sessions.html": "/",
    "compare.html": "/compare",
    "token.html": "/token",
    "session.html": f"/sessions/{KEY}/overview",
    "tail.html": f"/sessions/{KEY}/tail",
}
BUDGET = 110_000
MADE_FROM_STRINGS = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc|javascript:"
)


class Reader(HTMLParser):
    """The tags of a page, and the text inside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style"):
            self.inline += data.strip()


def test_there_is_a_page_for_each_address() -> None:
    assert {file.name for file in PAGES} == set(ADDRESSES)


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_a_page_has_nothing_inline(file: Path) -> None:
    page = Reader(file.read_text())
    assert page.inline == ""
    assert [name for _, attrs in page.tags for name in attrs if name == "style" or name.startswith("on")] == []
    assert {"html", "title", "main", "h1"} & {tag for tag, _ in page.tags} >= {"html", "title", "main"}


@pytest.mark.parametrize("file", [*PAGES, *SCRIPTS, FOLDER / "style.css"], ids=lambda file: file.name)
def test_no_file_names_another_host(file: Path) -> None:
    named = set(
        re.findall(r"(?:https?:)?//[\w.-]+\.\w+", re.sub(r"^\s*//.*$", "", file.read_text(), flags=re.MULTILINE))
    )
    assert named <= {"http://www.w3.org"}


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_no_script_makes_html_from_a_string(file: Path) -> None:
    assert re.findall(MADE_FROM_STRINGS, file.read_text()) == []


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_scripts_import_what_is_there(file: Path) -> None:
    text = file.read_text()
    for names, source in re.findall(r'import \{([^}]*)\} from "\./([^"]+)"', text):
        exported = set(
            re.findall(r"^export (?:async )?(?:const|function) ([\w$]+)", (FOLDER / source).read_text(), re.MULTILINE)
        )
        wanted = {name.strip() for name in names.split(",") if name.strip()}
        assert wanted <= exported
        body = text.partition(f'"./{source}";')[2]
        assert {name for name in wanted if not re.search(rf"(?<![\w.$]){re.escape(name)}(?!\w)", body)} == set()


def test_all_of_it_is_small() -> None:
    assert sum(file.stat().st_size for file in FILES) < BUDGET


@pytest.mark.parametrize("name", ADDRESSES)
async def test_a_page_and_all_it_loads_is_served_under_the_policy(name: str) -> None:
    store = WrappedStore()
    await SegmentWriter(store).begin()
    async with client(store) as http:
        page = await http.get(ADDRESSES[name])
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        links = [
            attrs.get("href") or attrs.get("src")
            for tag, attrs in Reader(page.text).tags
            if tag in ("link", "script", "img")
        ]
        assert len(links) >= 5
        for link in filter(None, links):
            answer = await http.get(str(page.url.join(link)))
            assert answer.status_code == 200, link
            assert answer.headers["content-security-policy"] == POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
            again = await http.get(str(page.url.join(link)), headers={"If-None-Match": answer.headers["etag"]})
            assert again.status_code == 304
        assert page.headers["content-security-policy"] == POLICY
        assert page.headers["cache-control"] == "no-cache"


async def test_the_policy_allows_nothing_but_our_own_files() -> None:
    rules = {rule.split()[0]: rule.split()[1:] for rule in POLICY.split("; ")}
    assert rules["default-src"] == ["'none'"]
    assert {tuple(value) for name, value in rules.items() if name.endswith("-src") and name != "default-src"} == {
        ("'self'",)
    }
    assert rules["require-trusted-types-for"] == ["'script'"]
    assert "unsafe" not in POLICY


@pytest.mark.parametrize(
    "path",
    ["/ui/", "/ui/nope.js", "/ui/sessions.html", "/ui/..%2fapp.py", "/ui/%2e%2e/app.py", "/ui/..%5capp.py", "/ui/page.js%00.css", "/ui/../routes/pages.py"],
)  # fmt: skip
async def test_nothing_but_scripts_styles_and_pictures_stands_below_ui(path: str) -> None:
    async with client(WrappedStore()) as http:
        answer = await http.get(path)
    assert answer.status_code == 404
    assert answer.json()["result"] is False


async def test_a_page_takes_no_other_method() -> None:
    async with client(WrappedStore()) as http:
        assert (await http.post("/")).status_code == 405
        assert (await http.head("/")).status_code == 200
