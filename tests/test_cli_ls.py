"""``ray-history ls`` lists the sessions of a server or of a store, the newest first, for people, programs and xargs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from support.processes import PROGRAM, on_disk, server
from support.rayhead import fetch, until
from support.sessions import SegmentWriter, defined_task, task_states, tasks

from api.cli.asking import Refused, Server
from api.cli.finding import Place, find, ident, listed, path_of, place_of
from api.cli.ls import length_text, start_text, table
from api.views.overview import Counts
from api.views.session_list import Line, ListQuery, Summary, page
from pipeline.config import StoreConfig
from pipeline.errors import ConfigError
from pipeline.layout import SessionKey
from pipeline.stores.catalog import SessionMetadata, new_metadata, write_metadata
from pipeline.stores.open_store import open_store

DAY_MS = 86_400_000
BEGAN_MS = 1768528800000


def metadata(number: int, *, ended: bool = True, namespace: str = "default", cluster: str = "demo") -> SessionMetadata:
    key = SessionKey(
        namespace, cluster, f"session_2026-01-{1 + number // 24:02}_{number % 24:02}-00-00_000000_{number}"
    )
    return new_metadata(key, ended_ms=BEGAN_MS if ended else None)


KNOWN = [
    *(metadata(number) for number in range(450)),
    metadata(460, cluster="busy", ended=False),
    metadata(461, cluster="busy"),
    metadata(462, namespace="team", cluster="demo"),
]
NEWEST_FIRST = sorted(KNOWN, key=lambda known: (known.created_ms, known.key), reverse=True)


class Answering(Server):
    """A server that answers its list as the real one does, from ``known``; ``grows`` puts one before all others at each question."""

    def __init__(self, known: list[SessionMetadata]) -> None:
        super().__init__("http://server", 1)
        self.known, self.asked = known, 0
        self.grows = False

    def body(self, path: str, query: Mapping[str, object]) -> bytes:
        assert path == "/v1/sessions"
        self.asked += 1
        if self.grows:
            self.known = [metadata(500 + self.asked), *self.known]
        said: dict[str, Any] = {name: value for name, value in query.items() if value is not None and name != "sort"}
        return msgspec.json.encode(page(self.known, {}, ListQuery(**said), BEGAN_MS + 400 * DAY_MS))


# pages


def test_all_pages_are_asked_for_and_no_session_comes_twice() -> None:
    it = Answering(NEWEST_FIRST)
    assert [ident(line) for line in listed(it)] == [(m.namespace, m.cluster, m.session) for m in NEWEST_FIRST]
    assert it.asked == 3
    it.grows = True
    found = [ident(line) for line in listed(it)]
    assert len(found) == len(set(found)) == len(NEWEST_FIRST) + 1


def test_no_more_pages_are_asked_for_than_are_taken() -> None:
    it = Answering(NEWEST_FIRST)
    lines = listed(it)
    assert [next(lines).session for _ in range(5)] == [known.session for known in NEWEST_FIRST[:5]]
    assert it.asked == 1


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 100_000, b"<html>", b'{"sessions": [{}]}', b"\xff"])
def test_what_is_no_list_is_one_line(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    it = Answering([])
    monkeypatch.setattr(it, "body", lambda path, query: body)
    with pytest.raises(Refused, match="http://server doesn't answer as a history server does"):
        list(listed(it))


def test_a_server_whose_list_never_ends_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Answering(KNOWN[:3])
    always = it.body("/v1/sessions", {}).replace(b'"matched":3', b'"matched":1000000000')
    monkeypatch.setattr(it, "body", lambda path, query: always)
    assert len(list(listed(it))) == 3


# which one is meant


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (None, ("default", "busy", KNOWN[450].session)),
        ("live", ("default", "busy", KNOWN[450].session)),
        ("latest", ("team", "demo", KNOWN[452].session)),
        ("default/busy", ("default", "busy", KNOWN[450].session)),
        ("default/busy/latest", ("default", "busy", KNOWN[451].session)),
        ("default/demo", ("default", "demo", KNOWN[449].session)),
        ("busy", ("default", "busy", KNOWN[450].session)),
        (KNOWN[7].session, ("default", "demo", KNOWN[7].session)),
        ("not/looked/for", ("not", "looked", "for")),
    ],
)
def test_a_session_is_found_by_what_is_enough_of_it(said: str | None, found: tuple[str, str, str]) -> None:
    assert find(Answering(NEWEST_FIRST), said) == found


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("demo", "demo may be any of team/demo/"),
        ("default/demo/live", "no live session of default/demo at http://server: there are team/demo/"),
        ("nothing", "no session nothing at http://server: there are team/demo/"),
    ],
)
def test_what_is_not_enough_names_the_sessions_there_are(said: str, words: str) -> None:
    with pytest.raises(Refused, match=f"^{words}") as told:
        find(Answering(NEWEST_FIRST), said)
    assert len(str(told.value)) < 600


def test_a_server_without_sessions_says_so() -> None:
    with pytest.raises(Refused, match="no live session at http://server: there is none at all yet"):
        find(Answering([]), None)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("http://host:1", Place("http://host:1", None)),
        ("http://host/behind", Place("http://host/behind", None)),
        ("http://host/behind/sessions/a/b/c", Place("http://host/behind", ("a", "b", "c"))),
        ("http://host/sessions/a/b/c/", Place("http://host", ("a", "b", "c"))),
        ("http://host/sessions/a/b/c/tail?kind=task#x", Place("http://host", ("a", "b", "c"))),
        ("http://host/sessions/a/%62/c", Place("http://host", ("a", "b", "c"))),
    ],
)
def test_an_address_is_a_servers_or_a_sessions(address: str, place: Place) -> None:
    assert place_of(address) == place


@pytest.mark.parametrize("address", ["http://h/sessions/a/b", "http://h/sessions/a/b/", "http://h/sessions/a/%2e%2e/c"])
def test_an_address_that_is_neither_is_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        place_of(address)


def test_names_stay_names_in_an_address() -> None:
    assert path_of(("a b", "c?d", "e#f")) == "/sessions/a%20b/c%3Fd/e%23f"


# the table


def listed_line(**said: Any) -> Line:
    plain = {
        "namespace": "default",
        "name": "demo",
        "session": "session_1",
        "status": "ended",
        "owner_kind": "",
        "owner_name": "",
        "created_ms": None,
        "ended_ms": None,
        "heard_ms": None,
        "length_ms": None,
        "ray_version": None,
        "summary": None,
    }
    return Line(**plain | said)


def test_columns_stand_under_each_other_whatever_is_in_them() -> None:
    lines = [listed_line(), listed_line(name="日本", owner_kind="RayJob", owner_name="evil\x1b[2J\nname", status=None)]
    shown = ["".join(text for text, _ in row) for row in table(lines, utc=True)]

    assert shown == [
        "SESSION    CLUSTER       STATUS   OWNER             START  DURATION  TASKS  FAILED",
        "session_1  default/demo  ended    -                 -             -      -       -",
        "session_1  default/日本  unknown  RayJob/evil name  -             -      -       -",
    ]


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "-"),
        (-1, "-"),
        (0, "0s"),
        (59_999, "59s"),
        (61_000, "1m01s"),
        (3_600_000, "1h00m"),
        (90 * 3_600_000, "3d18h"),
    ],
)
def test_a_duration_is_its_two_largest_units(ms: int | None, text: str) -> None:
    assert length_text(ms) == text


def test_how_old_counts_are_is_told_where_they_may_have_grown() -> None:
    told = Summary(counts=Counts(tasks={"RUNNING": 3}), records=3, complete=True, heard_ms=0, as_of_ms=0, final=False)
    lines = [
        listed_line(status=status, summary=msgspec.structs.replace(told, as_of_ms=as_of_ms, final=final))
        for status, as_of_ms, final in (
            ("live", 0, False),
            ("live", 299_000, False),
            ("lost", 0, False),
            (None, 0, True),
        )
    ]
    shown = ["".join(text for text, _ in row) for row in table(lines, utc=True, now_ms=300_000)]
    assert [row.split()[-1] for row in shown] == ["COUNTED", "ago", "-", "-", "-"]
    assert "COUNTED" not in "".join(text for text, _ in table(lines[1:], utc=True, now_ms=300_000)[0])


def test_a_time_that_no_calendar_has_is_left_out() -> None:
    assert start_text(BEGAN_MS, utc=True) == "2026-01-16 02:00:00"
    assert [start_text(ms, utc=utc) for ms in (None, 0, 1 << 62) for utc in (True, False)] == ["-"] * 6


# as a user runs it


def failed_task(number: int) -> list[bytes]:
    return defined_task(number) + task_states(number, "RUNNING", "FAILED")


async def record(url: str) -> None:
    async with open_store(StoreConfig(url=url)) as store:
        for known in (*KNOWN[:3], *KNOWN[450:]):
            await write_metadata(store, known)
        writer = SegmentWriter(store, KNOWN[452].key)
        await writer.write(tasks(4))
        for number, failed in ((450, 2), (2, 1)):
            writer = SegmentWriter(store, KNOWN[number].key)
            await writer.write([line for at in range(failed) for line in failed_task(at)])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    anyio.run(record, f"file://{folder}")
    return folder


@pytest.fixture(scope="module")
def address(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(on_disk(store), tmp_path_factory.mktemp("server")) as program:
        until(lambda: fetch(f"{program.url}/readyz")[0] == 200, "the server is ready", timeout=20, pause=0.05)
        yield program.url


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), "ls", *arguments], capture_output=True, text=True, timeout=40, check=False, env=environment
    )


def names(text: str) -> list[str]:
    return [each.split()[0] for each in text.splitlines()[1:]]


def test_a_server_and_a_store_list_the_same_sessions(address: str, store: Path) -> None:
    by_server, by_store = run("--address", address), run(*on_disk(store))
    newest_first = [known.session for known in NEWEST_FIRST if known in KNOWN[:3] + KNOWN[450:]]

    assert (by_server.returncode, by_store.returncode) == (0, 0)
    assert names(by_server.stdout) == names(by_store.stdout) == newest_first


def counted(address: str) -> bool:
    """Whether the server has counted all its sessions."""
    return json.loads(fetch(f"{address}/v1/sessions")[1])["uncounted"] == 0


def test_a_server_knows_what_became_of_the_tasks_of_sessions_that_nobody_looked_at(address: str) -> None:
    key = KNOWN[452].key
    until(lambda: counted(address), "all sessions are counted", timeout=30, pause=0.1)
    row = run("--namespace", "team", "--utc", RAY_HISTORY_ADDRESS=address).stdout.splitlines()[1]

    assert row.split() == [
        *[key.session, "team/demo", "ended", "-", "2026-01-20", "06:00:00"],
        *[row.split()[6], "4", "0"],
    ]


def test_addresses_are_printed_for_other_commands(address: str, store: Path) -> None:
    by_server = run("-o", "name", "--cluster", "busy", "--address", f"{address}/sessions/any/of/them")
    by_store = run("-o", "name", "--cluster", "busy", *on_disk(store))

    assert by_server.stdout.split() == [f"{address}/sessions/{known.key}" for known in KNOWN[451:449:-1]]
    assert by_store.stdout.split() == [str(known.key) for known in KNOWN[451:449:-1]]


def test_programs_get_json_with_what_servers_have_counted(address: str, store: Path, tmp_path: Path) -> None:
    until(lambda: counted(address), "all sessions are counted", timeout=30, pause=0.1)
    (row,) = json.loads(run("-o", "json", "--search", "team", *on_disk(store)).stdout)
    assert (row["namespace"], row["status"], row["summary"]["counts"]["tasks"]) == ("team", "ended", {"FINISHED": 4})
    anyio.run(record, f"file://{tmp_path}")
    (row,) = json.loads(run("-o", "json", "--search", "team", *on_disk(tmp_path)).stdout)
    assert (row["status"], row["summary"]) == ("ended", None)


def test_those_with_most_failures_come_first_or_alone_at_a_server_and_in_a_store(address: str, store: Path) -> None:
    until(lambda: counted(address), "all sessions are counted", timeout=30, pause=0.1)
    worst = [KNOWN[450].session, KNOWN[2].session]
    for where in (["--address", address], on_disk(store)):
        by_failures = run("--sort", "failed", *where)
        assert names(by_failures.stdout)[:2] == worst
        assert "  2       2" in by_failures.stdout.splitlines()[1]
        assert sorted(names(run("--failed", *where).stdout)) == sorted(worst)
        assert names(run("--failed", "--namespace", "team", *where).stdout) == []
        assert names(run("--sort", "tasks", "--limit", "1", *where).stdout) == [KNOWN[452].session]
        assert names(run("--sort", "start", "--reverse", "--limit", "1", *where).stdout) == [KNOWN[0].session]
        assert names(run("--failed", "--cluster", "busy", "--limit", "1", *where).stdout) == worst[:1]


def test_what_is_not_counted_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    anyio.run(record, f"file://{tmp_path}")
    found = run("--failed", *on_disk(tmp_path))
    assert found.stderr.splitlines() == [
        f"ray-history: no session like that at file://{tmp_path}",
        "ray-history: 6 sessions aren't counted yet",
    ]


def test_fewer_may_be_asked_for_and_it_is_said_that_there_are_more(store: Path) -> None:
    few = run("--limit", "2", *on_disk(store))
    assert len(names(few.stdout)) == 2
    assert few.stderr == "ray-history: there are more: --limit is 2, 0 lists all\n"
    assert run("--limit", "0", *on_disk(store)).stderr == ""


@pytest.mark.parametrize("output", ["table", "name", "json"])
def test_none_is_no_error_and_said(store: Path, tmp_path: Path, output: str) -> None:
    unlike = run("--status", "lost", "--cluster", "nope", "-o", output, *on_disk(store))
    empty = run("-o", output, *on_disk(tmp_path))

    assert (unlike.returncode, unlike.stderr) == (0, f"ray-history: no session like that at file://{store}\n")
    assert (empty.returncode, empty.stderr) == (0, f"ray-history: no session at file://{tmp_path}\n")
    assert unlike.stdout == empty.stdout == ("[]\n" if output == "json" else "")


def test_of_a_server_and_a_store_the_command_line_decides(store: Path) -> None:
    away = "http://127.0.0.1:9"
    both = run("--address", away, *on_disk(store))
    assert (both.returncode, both.stderr) == (2, "ray-history: --address and --store: say one of them\n")
    assert run(*on_disk(store), RAY_HISTORY_ADDRESS=away).returncode == 0
    assert run(RAY_HISTORY_STORE=f"file://{store}").returncode == 0
    assert run("--address", away, RAY_HISTORY_STORE=f"file://{store}").returncode == 1
    assert run(RAY_HISTORY_ADDRESS=away, RAY_HISTORY_STORE=f"file://{store}").returncode == 1


@pytest.mark.parametrize(
    ("to", "said"),
    [(">/dev/full", "stdout can't be written: No space left on device"), (">&-", "stdout is closed")],
)
@pytest.mark.parametrize("how", [[], ["-o", "json"], ["-o", "name"]], ids=["table", "json", "name"])
def test_a_stdout_that_takes_nothing_is_one_line_and_exit_code_1(
    store: Path, how: list[str], to: str, said: str
) -> None:
    shell = ["sh", "-c", f'exec "$0" "$@" {to}', str(PROGRAM), "ls", *on_disk(store), *how]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=40, check=False, env={})

    assert (done.returncode, done.stderr) == (1, f"ray-history: {said}\n")
