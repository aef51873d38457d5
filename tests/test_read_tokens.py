"""Where tokens are set nobody reads without one, and nobody beyond the namespaces that his opens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import httpx
import pytest
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route
from support.client import client, running
from support.sessions import SegmentWriter, WrappedStore, tasks
from support.streaming import live_server

from api.auth import digest
from api.cli.commands import ray_history
from api.cli.settings import tokens
from pipeline.config import Token
from pipeline.errors import ConfigError
from pipeline.layout import SessionKey

pytestmark = pytest.mark.anyio

OURS = SessionKey("team", "demo", "session_2026-01-16_02-00-00_123456_1")
THEIRS = SessionKey("other", "demo", "session_2026-01-17_02-00-00_123456_1")
ALL, TEAM, WRONG = "opens-everything", "opens-team-only", "opens-nothing"
TOKENS = (Token(digest=digest(ALL)), Token(digest=digest(TEAM), namespaces=frozenset({"team"})))
OPEN = {"/livez", "/readyz", "/readz", "/healthz", "/metrics", "/token", "/ui/{name}", "/api/authentication_mode"}
"""What a GET gets without a token. Posts apart: pushing has its own token, authenticating is saying one."""
PAGE = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
async def store() -> WrappedStore:
    made = WrappedStore()
    for count, key in enumerate((OURS, THEIRS), start=1):
        writer = SegmentWriter(made, key)
        await writer.begin(ended_ms=1_768_532_400_000)
        await writer.write(tasks(count))
    return made


@pytest.fixture
async def http(store: WrappedStore) -> AsyncIterator[httpx.AsyncClient]:
    async with client(store, tokens=TOKENS) as made:
        yield made


def saying(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def addresses(routes: list[BaseRoute], before: str = "") -> Iterator[tuple[str, str]]:
    """Every path of the application that takes GET, as its route has it and with something in place of its parameters."""
    for route in routes:
        if isinstance(route, Mount):
            yield from addresses(route.routes, before + route.path)
        elif isinstance(route, Route) and "GET" in (route.methods or {"GET"}):
            path = before + route.path
            names = {"namespace": OURS.namespace, "cluster": OURS.cluster, "session": OURS.session}
            filled = "".join(
                names.get(part.split(":")[0], "x") if at % 2 else part
                for at, part in enumerate(path.replace("}", "{").split("{"))
            )
            yield route.path, filled


async def test_nothing_but_the_probes_and_the_way_in_is_answered_without_a_token(store: WrappedStore) -> None:
    async with running(store, tokens=TOKENS) as app:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
            asked = {filled: path for path, filled in addresses(app.routes)}
            answered = set()
            for filled, path in asked.items():
                answer = await http.get(filled)
                if answer.status_code != 401:
                    answered.add(path)
    assert len(asked) > 100
    assert answered == OPEN


@pytest.mark.parametrize(
    "headers",
    [
        saying(ALL),
        {"Authorization": f"bearer {ALL}"},
        {"X-Ray-Authorization": f"Bearer {ALL}"},
        {"Cookie": f"ray-authentication-token={ALL}"},
    ],
    ids=["header", "lower case", "ray's header", "cookie"],
)
async def test_a_token_is_taken_wherever_ray_says_it(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await http.get(f"/sessions/{OURS}/api/v0/tasks", headers=headers)

    assert answer.json()["data"]["result"]["total"] == 1


@pytest.mark.parametrize("said", [WRONG, "", "Basic xyz", "Bearer", "Bearer a b", "\xff", "x" * 5000])
async def test_what_is_no_token_of_this_server_is_refused_in_rays_words(http: httpx.AsyncClient, said: str) -> None:
    answer = await http.get("/clusters", headers={"Authorization": f"Bearer {said}".encode("latin-1")})

    assert (answer.status_code, answer.text) == (403, "Forbidden: Invalid authentication token")
    assert (await http.get("/clusters")).text == "Unauthorized: Missing authentication token"


async def test_a_token_opens_its_namespaces_and_no_other(http: httpx.AsyncClient) -> None:
    ours, theirs = saying(TEAM), f"/sessions/{THEIRS}"

    assert (await http.get(f"/sessions/{OURS}/nodes?view=summary", headers=ours)).status_code == 200
    for path in (
        f"{theirs}/api/v0/tasks",
        f"{theirs}/nodes?view=summary",
        f"{theirs}/v1/overview",
        f"{theirs}/v1/summary",
        f"{theirs}/completeness",
        f"{theirs}/live",
        f"{theirs}/api/v0/logs?node_id=x",
        f"{theirs}/",
        theirs,
        f"/enter_cluster/{THEIRS}",
        "/enter_cluster/other/raycluster/demo/latest",
        f"/v1/compare?a={OURS}&b={THEIRS}",
        "/sessions/other/nope/latest/api/v0/tasks",
    ):
        answer = await http.get(path, headers=ours)
        assert answer.status_code == 403, path
        assert answer.json()["msg"] == "this token does not open namespace other"


async def test_a_session_that_was_entered_with_another_token_stays_shut(http: httpx.AsyncClient) -> None:
    entered = await http.get(f"/enter_cluster/{THEIRS}", headers=saying(ALL))
    assert entered.status_code == 200

    assert (await http.get("/api/v0/tasks", headers=saying(ALL))).status_code == 200
    assert (await http.get("/api/v0/tasks", headers=saying(TEAM))).status_code == 403


async def test_lists_show_what_a_token_opens(http: httpx.AsyncClient) -> None:
    for token, namespaces in ((ALL, {"team", "other"}), (TEAM, {"team"})):
        clusters = (await http.get("/clusters", headers=saying(token))).json()
        sessions = (await http.get("/v1/sessions", headers=saying(token))).json()
        assert {row["namespace"] for row in clusters} == namespaces
        assert {row["namespace"] for row in sessions["sessions"]} == namespaces
        assert "other" in str(sessions) or token == TEAM


async def test_a_browser_is_led_to_where_it_can_say_its_token_and_back(http: httpx.AsyncClient) -> None:
    path = f"/sessions/{OURS}/overview"
    sent = await http.get(f"{path}?x=1", headers=PAGE)

    assert sent.status_code == 303
    assert sent.headers["cache-control"] == "no-store"
    there = sent.url.join(sent.headers["location"])
    assert (there.path, there.params["next"]) == ("/token", f"{path[1:]}?x=1")
    assert "token.js" in (await http.get(there)).text


async def test_saying_it_once_sets_a_cookie_that_scripts_and_other_sites_do_not_get(http: httpx.AsyncClient) -> None:
    for at in ("", f"/sessions/{OURS}"):
        http.cookies.clear()
        answer = await http.post(f"{at}/api/authenticate", headers=saying(TEAM))
        assert answer.json() == {"status": "authenticated", "message": "Token is valid"}
        flags = answer.headers["set-cookie"].lower()
        assert all(flag in flags for flag in ("httponly", "samesite=strict", "path=/"))
        assert (await http.get("/clusters")).status_code == 200


async def test_saying_a_wrong_one_or_by_a_cookie_alone_sets_nothing(http: httpx.AsyncClient) -> None:
    for headers, status in ((saying(WRONG), 403), ({}, 401), ({"Cookie": f"ray-authentication-token={ALL}"}, 401)):
        answer = await http.post("/api/authenticate", headers=headers)
        assert (answer.status_code, answer.headers.get("set-cookie")) == (status, None)


async def test_rays_pages_are_told_to_ask_for_a_token(http: httpx.AsyncClient) -> None:
    assert (await http.get(f"/sessions/{OURS}/api/authentication_mode")).json() == {"authentication_mode": "token"}


async def test_without_tokens_everyone_reads_and_nobody_is_asked(store: WrappedStore) -> None:
    async with client(store) as everyone:
        assert (await everyone.get("/api/authentication_mode")).json() == {"authentication_mode": "disabled"}
        refused = await everyone.post("/api/authenticate", headers=saying(ALL))
        assert (refused.status_code, refused.text) == (401, "Unauthorized: Token authentication is not enabled")
        assert (await everyone.get("/clusters", headers=saying(WRONG))).status_code == 200


async def test_a_web_socket_without_a_token_is_never_accepted(store: WrappedStore) -> None:
    async with running(store, tokens=TOKENS) as app:
        assert await first_word(app, []) == "websocket.close"
        assert await first_word(app, [(b"authorization", f"Bearer {ALL}".encode())]) == "websocket.accept"


async def test_a_web_socket_into_another_namespace_is_closed_with_the_reason(store: WrappedStore) -> None:
    async with running(store, tokens=TOKENS) as app:
        sent = await socket(app, [(b"authorization", f"Bearer {TEAM}".encode())])
    assert "namespace other" in str(sent[-1]["reason"])


async def first_word(app: Starlette, headers: list[tuple[bytes, bytes]]) -> object:
    return (await socket(app, headers))[0]["type"]


async def socket(app: Starlette, headers: list[tuple[bytes, bytes]]) -> list[dict[str, object]]:
    path, sent = f"/sessions/{THEIRS}/api/jobs/x/logs/tail", []
    connect = [{"type": "websocket.connect"}]

    async def receive() -> object:
        return connect.pop() if connect else await anyio.sleep_forever()

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": path, "root_path": "", "headers": headers, "query_string": b""}
    with anyio.fail_after(10):
        await app(scope | {"scheme": "ws", "subprotocols": [], "server": ("s", 80)}, receive, send)
    return sent


async def test_a_stream_of_events_asks_for_the_token_too(store: WrappedStore) -> None:
    async with live_server(store, tokens=TOKENS) as server, httpx.AsyncClient() as http:
        assert (await http.get(f"{server.url}/sessions/{OURS}/live")).status_code == 401
        async with http.stream("GET", f"{server.url}/sessions/{OURS}/live", headers=saying(TEAM)) as answer:
            assert answer.status_code == 200


def options(tmp_path: Path, token: str | None, lines: str | None) -> dict[str, object]:
    file = None
    if lines is not None:
        file = tmp_path / "tokens"
        file.write_text(lines)
    return {"token": token, "tokens_file": file}


def test_tokens_come_from_an_option_and_a_file(tmp_path: Path) -> None:
    found = tokens(options(tmp_path, "one-of-them", "# ours\n\nanother-one\n  a-third-one  team,other\n"))

    assert found == (
        Token(digest=digest("one-of-them")),
        Token(digest=digest("another-one")),
        Token(digest=digest("a-third-one"), namespaces=frozenset({"team", "other"})),
    )
    assert tokens(options(tmp_path, None, None)) == ()


@pytest.mark.parametrize(
    ("token", "lines"),
    [
        ("short", None),
        ("with a space", None),
        ("täuschend-lang", None),
        (None, "# nothing\n"),
        (None, "long-enough team other\n"),
        (None, "long-enough ../x\n"),
        (None, "a-good-one\nshort\n"),
    ],
)
def test_a_token_that_cannot_be_one_ends_the_start_and_is_not_said(
    tmp_path: Path, token: str | None, lines: str | None
) -> None:
    with pytest.raises(ConfigError) as raised:
        tokens(options(tmp_path, token, lines))
    assert not any(word in str(raised.value) for word in ("short", "with a", "täusch", "long-enough", "good"))


def test_the_options_say_where_they_are_to_be_set() -> None:
    said = CliRunner().invoke(ray_history, ["serve", "--help"]).output

    assert "RAY_HISTORY_TOKEN" in said
    assert "RAY_HISTORY_TOKENS_FILE" in said
