"""``ray-history tail`` prints each event once, on one harmless line, whatever breaks; and says in a line what else there is."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from hypothesis import given
from hypothesis import strategies as st
from support.collecting import NODE, RayFolder, key
from support.livechannel import post, posted
from support.processes import PROGRAM, Program, collector, on_disk, server, start_server
from support.rayhead import fetch, until
from support.sessions import KEY, SegmentWriter, tasks
from support.streaming import following, live_server

from api.cli.asking import Lost, Refused, Session
from api.cli.event_line import KIND, Look, line
from api.cli.following import LAST_RECORDS, LONGEST_WAIT, Follower
from api.cli.printable import printable
from api.cli.tail import json_line, stream_query
from api.cli.terminal import cut
from api.streams.live_data import KINDS
from api.streams.sse_reader import ServerEvent
from pipeline.config import StoreConfig
from pipeline.errors import ConfigError
from pipeline.stores.open_store import open_store
from pipeline.stores.store import MemoryStore

EVIL = "evil\x1b[2J\x1b]0;owned\x07\r\nsecond\x9b31m line\u202edrowssap\u2028end\x7f\ud800"
LOOK = Look(utc=True, whole=True, today=date(2026, 1, 16))
NAMES = str(KEY)
HEX = "0123456789abcdef"


# one harmless line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("a\nb\tc\r\n d", "a b c d"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x07", "link"),
        ("\x9b2Jclear", "clear"),
        ("ends in \x1b", "ends in"),
        ("abc\u202edef\u2066ghi\ufeff\u200b", "abcdefghi"),
        ("日本 é \ud800", "日本 é"),
        (EVIL, "evil second linedrowssap end"),
        ("x" * 5000, "x" * 1999 + "…"),
    ],
)
def test_text_from_outside_is_shown_without_what_a_terminal_would_obey(text: str, shown: str) -> None:
    assert printable(text) == shown


ANY = st.one_of(st.text(), st.sampled_from([EVIL, "\x1b", "\n"]), st.integers(), st.none(), st.floats(), st.booleans())
FIELDS = [
    "name",
    "state",
    "status",
    "severity",
    "message",
    "class_name",
    "func_or_class_name",
    "task_id",
    "actor_id",
    "node_id",
    "job_id",
    "worker_id",
    "entrypoint",
    "submission_id",
    "error_message",
    "error_type",
    "death_cause",
    "exit_type",
    "exit_detail",
    "label",
    "created_ms",
    "pid",
    "attempt_number",
    "node_name",
    "is_head_node",
    "reason",
]


@given(
    kind=st.one_of(st.sampled_from([*KINDS, "resync"]), st.text()),
    data=st.dictionaries(st.sampled_from(FIELDS), st.one_of(ANY, st.lists(ANY))),
    whole=st.booleans(),
)
def test_an_event_is_one_printable_line_whatever_it_says(kind: str, data: dict[str, Any], whole: bool) -> None:
    spans = line(kind, data, Look(utc=True, whole=whole, today=LOOK.today))
    text = "".join(text for text, _ in spans)

    assert text.isprintable()
    text.encode()
    assert len(text) < 4000
    assert "".join(text for text, _ in cut(spans, 30)).isprintable()


@given(data=st.dictionaries(st.text(), ANY))
def test_an_event_as_json_is_a_line_of_printable_ascii_that_says_the_same(data: dict[str, Any]) -> None:
    said = json.dumps(data, allow_nan=False) if _finite(data) else "[1]"
    written = json_line(ServerEvent("task", said, "AQ"))

    assert written.endswith("\n")
    assert written[:-1].isascii()
    assert written[:-1].isprintable()
    told = json.loads(written)
    assert (told["kind"], told["id"]) == ("task", "AQ")


def _finite(data: dict[str, Any]) -> bool:
    return all(not isinstance(value, float) or abs(value) < 1e300 for value in data.values())


def test_a_failure_says_when_what_where_and_the_line_of_the_traceback_that_tells() -> None:
    task = "0b043f00f0a74796" + "f" * 24 + "01000000"
    data = {
        "task_id": task,
        "attempt_number": 2,
        "state": "FAILED",
        "created_ms": 1768528800123,
        "name": "train",
        "job_id": "01000000",
        "node_id": "ab" * 28,
        "error_type": "TASK_EXECUTION_EXCEPTION",
        "error_message": 'ray::train()\n  File "x.py", line 1, in train\n    fail()\nValueError: too\x1b[31m big',
    }
    whole = "".join(text for text, _ in line("task", data, LOOK))
    short = "".join(text for text, _ in line("task", data, Look(utc=True, whole=False, today=LOOK.today)))

    assert whole == (
        "2026-01-16 02:00:00.123 task    FAILED              train (attempt 2)        "
        f"{task} job=01000000 node={'ab' * 28}  ValueError: too big"
    )
    assert short.split() == [
        "02:00:00.123",
        "task",
        "FAILED",
        "train",
        "(attempt",
        "2)",
        "0b043f00f0a74796",
        "job=01000000",
        "node=abababab",
        "ValueError:",
        "too",
        "big",
    ]


def test_a_line_is_cut_by_columns_not_by_characters() -> None:
    assert cut([("日本語", "red"), ("abc", "")], 5) == [("日本…", "red")]
    assert cut([("ab", "red"), ("cd", "")], 4) == [("ab", "red"), ("cd", "")]


# what is asked for


def options(**said: Any) -> dict[str, Any]:
    plain: dict[str, Any] = dict.fromkeys(("kind", "job", "state", "name", "node", "filters"), ())
    return plain | {"since": None, "speed": "0", "follow": True} | said


def test_a_filter_is_the_same_as_the_option_of_its_name() -> None:
    asked = stream_query(options(state=("FAILED",), filters=("state=DEAD,ERROR", "name=a=b")))
    assert asked == {"state": ["FAILED", "DEAD,ERROR"], "name": ["a=b"]}


def test_what_there_is_by_now_begins_at_the_beginning() -> None:
    assert stream_query(options(follow=False)) == {"since": "0", "speed": "0"}
    assert stream_query(options(follow=False, since="-5m", speed="2")) == {"since": "-5m", "speed": "2"}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"filters": ("state!=FAILED",)}, "--filter state!=FAILED: a stream can only be asked for what is"),
        ({"filters": ("stat=x",)}, "--filter stat=x: say kind|job|state|name|node=VALUE"),
        ({"filters": ("state",)}, "say kind|job"),
        ({"kind": ("tusk",)}, "--kind: 'tusk' is none of task"),
        ({"since": "yesterday"}, "--since: 'yesterday' is neither"),
        ({"speed": "-1"}, "--speed: "),
        ({"name": ("x" * 300,)}, "--name: at most"),
    ],
)
def test_what_a_stream_would_refuse_is_refused_with_the_option_that_says_it(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        stream_query(options(**said))


# over all connections


class Scripted(Session):
    """A session whose streams are written down: pieces, or what is raised instead."""

    def __init__(self, *connections: list[bytes | Exception]) -> None:
        super().__init__("http://server/sessions/a/b/c", 1)
        self._connections = list(connections)
        self.asked: list[tuple[str | None, Any]] = []

    def pieces(
        self, path: str, query: Mapping[str, object], timeout: float | None, headers: Mapping[str, str] | None = None
    ) -> Iterator[bytes]:
        assert path == "/live"
        self.asked.append(((headers or {}).get("Last-Event-ID"), query.get("follow")))
        for piece in self._connections.pop(0):
            if isinstance(piece, Exception):
                raise piece
            yield piece


def told(number: int, position: str | None = None) -> bytes:
    named = f"id: {position}\n" if position else ""
    return f"{named}event: task\ndata: {json.dumps({'n': number})}\n\n".encode()


def said(status: str = "live", position: str | None = None) -> bytes:
    named = f"id: {position}\n" if position else ""
    data = {"namespace": "a", "name": "b", "session": "c", "status": status}
    return f"{named}event: session\ndata: {json.dumps(data)}\n\n".encode()


END = b"event: end\ndata: {}\n\n"
GONE = Lost("gone")


class Followed:
    """What a follower gave, said and slept."""

    def __init__(self, *connections: list[bytes | Exception], follow: bool = True) -> None:
        self.session = Scripted(*connections)
        self.words: list[str] = []
        self.slept: list[float] = []
        self.got: list[Any] = []
        follower = Follower(
            self.session, {}, self.words.append, follow=follow, sleep=self.slept.append, jitter=lambda: 1.0
        )
        try:
            for event in follower.events():
                data = json.loads(event.data)
                self.got.append(data["status"] if event.kind == "session" else data["n"])
        except Refused as exc:
            self.got.append(str(exc))


def test_events_of_a_write_that_broke_off_are_not_told_twice() -> None:
    it = Followed(
        [said(position="A"), told(1, "B"), told(2), told(3), GONE],
        [said(), told(2), told(3), told(4, "C"), END],
    )
    assert it.got == ["live", 1, 2, 3, 4]
    assert it.session.asked == [(None, None), ("B", None)]
    assert it.words == ["connection lost, trying again", "back"]


def test_where_no_position_can_be_given_events_are_not_held() -> None:
    assert Followed([said(position="!"), told(1), told(2), Refused("no", 403)]).got == ["live", 1, 2, "no"]


def test_half_an_event_is_none() -> None:
    it = Followed([said(), told(1, "A")[:-1], GONE], [said(), told(1, "A"), END])
    assert it.got == ["live", 1]


def test_a_server_that_stays_away_is_asked_ever_more_seldom_and_spoken_of_once() -> None:
    away: list[list[bytes | Exception]] = [[GONE]] * 8
    it = Followed([b"retry: 2000\n\n", said(position="A")], *away, [said(), told(1, "B"), END])
    assert it.got == ["live", 1]
    assert it.slept == [2, 4, 8, 16, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]
    assert it.words == ["connection lost, trying again", "back"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_ends_it_at_once_or_on_the_way(status: int) -> None:
    assert Followed([Refused("not you", status)]).got == ["not you"]
    assert Followed([said(), GONE], [Refused("not you", status)]).got == ["live", "not you"]


def test_a_server_that_is_not_there_at_first_is_not_waited_for() -> None:
    it = Followed([Lost("can't be reached")])
    assert (it.got, it.slept) == (["can't be reached"], [])


def test_a_server_that_is_starting_is_waited_for_on_the_way() -> None:
    assert Followed([said(), GONE], [Refused("busy", 503)], [said(), END]).got == ["live"]


def test_there_is_no_more_after_no_content() -> None:
    assert Followed([said(position="A"), GONE], [Refused("over", 204)]).got == ["live"]


def test_a_session_that_ends_is_read_to_its_end_and_not_waited_for() -> None:
    it = Followed([said(position="A"), told(1, "B"), said("ended"), told(2, "C")], [said("ended"), told(2, "C"), END])
    assert it.got == ["live", 1, "ended", 2]
    assert it.session.asked == [(None, None), ("B", 0)]
    assert (it.slept, it.words) == ([LAST_RECORDS], [])


@pytest.mark.parametrize(
    "hostile",
    [
        b"event: session\ndata: " + b"[" * 100_000 + b"\n\n",
        b"event: session\ndata: {}\n\n",
        b"data: " + b"x" * (17 << 20),
    ],
    ids=["deep", "empty", "endless"],
)
def test_a_server_that_sends_something_else_is_an_error(hostile: bytes) -> None:
    assert Followed([hostile]).got[0].startswith("http://server/sessions/a/b/c ")


# the stream's own end


@pytest.mark.anyio
async def test_who_does_not_follow_gets_what_there_is_and_the_end() -> None:
    store = MemoryStore()
    writer = SegmentWriter(store)
    await writer.begin(created_ms=int(time.time() * 1000))
    await writer.write(tasks(20))
    async with live_server(store) as it:
        url = f"{it.url}/sessions/{KEY}/live"
        async with following(url, since=0, follow=0, kind="task") as client:
            await client.until(lambda: client.ended, "end")
        assert len(client.told("task")) == 60
        assert [event.kind for event in client.events][-1] == "end"
        await writer.write(tasks(5, first=30))
        with anyio.fail_after(10):
            while len(client.told("task")) < 75:  # as soon as the server has looked
                async with following(url, resume=client, since=0, follow=0) as client:
                    await client.until(lambda: client.ended, "end")
                assert client.events[-1].kind == "end"
        assert len(set(client.states())) == 75
        async with following(url, follow="maybe") as client:
            await client.until(lambda: client.ended, "refusal")
        assert client.status == 400


# as a user runs it


class Tail:
    """The command as a process of its own."""

    def __init__(self, folder: Path, *arguments: str, name: str = "tail", **environment: str) -> None:
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [str(PROGRAM), "tail", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                preexec_fn=_interruptible,
            )

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait(10)

    @property
    def said(self) -> str:
        return self.err.read_text()

    def lines(self) -> list[str]:
        return self.out.read_text().split("\n")[:-1]

    def begun(self) -> Tail:
        until(lambda: " lives\n" in self.said, "it to be connected", timeout=20, pause=0.02)
        return self


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whatever the tests themselves were started with


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), "tail", *arguments], capture_output=True, text=True, timeout=40, check=False, env=environment
    )


async def record(url: str) -> None:
    async with open_store(StoreConfig(url=url)) as store:
        writer = SegmentWriter(store)
        await writer.begin(ended_ms=1768528900000)
        await writer.write(tasks(3))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    root = tmp_path_factory.mktemp("ended")
    anyio.run(record, f"file://{root / 'store'}")
    with server(on_disk(root / "store"), root) as program:
        until(lambda: fetch(f"{program.url}/readyz")[0] == 200, "the server is ready", timeout=20, pause=0.05)
        yield program


def test_a_session_that_has_ended_is_said_to_have_and_how_to_play_it_again(ended: Program) -> None:
    asked = run("default/demo", "--utc", "--address", ended.url)
    assert (asked.returncode, asked.stdout) == (0, "")
    assert asked.stderr == (
        f"ray-history: {NAMES} ended 2026-01-16 02:01:40.000. To play it again: ray-history tail {NAMES} --since 0\n"
    )


@pytest.mark.parametrize("how", [["--since", "0"], ["--no-follow"]])
def test_played_again_it_prints_all_and_ends(ended: Program, how: list[str]) -> None:
    asked = run(KEY.session, *how, "--state", "finished", "--utc", RAY_HISTORY_ADDRESS=ended.url)
    lines = asked.stdout.splitlines()
    assert asked.returncode == 0, asked.stderr
    assert len(lines) == 3
    assert re.fullmatch(r"2026-01-16 02:00:02\.\d{3} task    FINISHED            work {21}[0-9a-f]{48} .*", lines[0])
    assert lines == sorted(lines)


def test_a_sessions_page_is_its_address(ended: Program) -> None:
    asked = run(f"{ended.url}/sessions/{KEY}/overview?x#y", "--no-follow", "-o", "json")
    told = [json.loads(line) for line in asked.stdout.splitlines()]
    assert [each["kind"] for each in told] == ["session", *["task"] * 9]
    assert {each["data"]["name"] for each in told[1:]} == {"work"}
    assert len({each["id"] for each in told}) >= 9


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 1, f"no live session at URL: there are {NAMES} (ended)"),
        (["other"], 1, f"no session other at URL: there are {NAMES} (ended)"),
        (["default/other/live"], 1, f"no live session of default/other at URL: there are {NAMES} (ended)"),
        (["default/demo/session_none"], 1, "session default/demo/session_none is not in "),
        (["a/b/c/d"], 2, "'a/b/c/d' is no session: say namespace/cluster/session, or a part of it"),
        (["default/../x"], 2, ""),
    ],
)
def test_a_session_that_is_not_there_is_one_line(ended: Program, arguments: list[str], code: int, words: str) -> None:
    asked = run(*arguments, "--address", ended.url)
    assert (asked.returncode, asked.stdout) == (code, "")
    assert asked.stderr.startswith(f"ray-history: {words.replace('URL', ended.url)}")
    assert asked.stderr.count("\n") == 1


def test_a_server_that_is_not_there_is_one_line_that_says_where_to_say_it() -> None:
    asked = run("--address", "http://127.0.0.1:9")
    assert asked.returncode == 1
    assert asked.stderr.startswith("ray-history: http://127.0.0.1:9 can't be reached: ")
    assert asked.stderr.endswith(": --address or RAY_HISTORY_ADDRESS says where the server is\n")


def test_a_token_is_asked_for_in_one_line(tmp_path: Path) -> None:
    anyio.run(record, f"file://{tmp_path / 'store'}")
    token = {"RAY_HISTORY_TOKEN": "opens-this-server"}
    with server(on_disk(tmp_path / "store"), tmp_path, environment=token) as it:
        refused = run("default/demo", "--address", it.url)
        wrong = run(NAMES, "--address", it.url, "--token", "not-this-one")
        taken = run(NAMES, "--no-follow", "--address", it.url, **token)
    assert (refused.returncode, refused.stderr) == (1, "ray-history: Unauthorized: Missing authentication token\n")
    assert (wrong.returncode, wrong.stderr) == (1, "ray-history: Forbidden: Invalid authentication token\n")
    assert (taken.returncode, len(taken.stdout.splitlines())) == (0, 9)


def test_on_a_terminal_lines_are_coloured_and_fit_it_unless_told_otherwise(ended: Program) -> None:
    coloured = on_terminal(NAMES, "--no-follow", "--address", ended.url, TERM="xterm-256color")
    plain = on_terminal(NAMES, "--no-follow", "--address", ended.url, TERM="xterm-256color", NO_COLOR="1")
    told = on_terminal(NAMES, "--no-follow", "--no-color", "--address", ended.url, TERM="xterm-256color")

    assert re.search(r"\x1b\[32mFINISHED", coloured)
    assert "\x1b" not in plain + told
    assert {len(each) for each in plain.splitlines()} == {80}


def on_terminal(*arguments: str, **environment: str) -> str:
    """What the command prints on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [str(PROGRAM), "tail", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env=environment | {"COLUMNS": "80"},
        ) as process:
            os.close(theirs)
            parts = []
            try:
                while part := os.read(ours, 1 << 16):
                    parts.append(part)
            except OSError:  # how Linux says that nobody writes to a terminal any more
                pass
            assert process.wait(20) == 0
    finally:
        os.close(ours)
    return b"".join(parts).decode()


# while it lives


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Program]]:
    """A server, and a collector that pushes to it."""
    root = tmp_path_factory.mktemp("live")
    RayFolder(root / "ray").begin()
    plain = [f"--node-id={NODE}", "--no-logs", "--no-poll", "--segment-age=3600s"]
    with (
        server(on_disk(root / "store"), root) as it,
        collector(on_disk(root / "store"), root, root / "ray", f"--server={it.url}", *plain) as collects,
    ):
        until(lambda: b'"live"' in fetch(f"{it.url}/clusters")[1], "it to be heard", timeout=20, pause=0.05)
        yield it, collects


def test_what_happens_is_printed_and_ctrl_c_ends_it_quietly(live: tuple[Program, Program], tmp_path: Path) -> None:
    it, collects = live
    with Tail(tmp_path, "--kind", "task", RAY_HISTORY_ADDRESS=it.url) as tail:
        tail.begun()
        anyio.run(post, collects.url, posted(range(500, 503)))
        until(lambda: len(tail.lines()) == 9, "nine changes", timeout=20, pause=0.02)
        tail.process.send_signal(signal.SIGINT)
        assert tail.process.wait(10) == 130
        assert tail.said == f"ray-history: {key()} lives\n"


def test_a_reader_that_goes_ends_it_though_nothing_happens(live: tuple[Program, Program]) -> None:
    it, _ = live
    with subprocess.Popen(
        [str(PROGRAM), "tail"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"RAY_HISTORY_ADDRESS": it.url},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline() == f"ray-history: {key()} lives\n"
        process.stdout.close()
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


@pytest.mark.anyio
async def test_every_event_is_printed_once_though_the_server_is_killed(tmp_path: Path) -> None:
    RayFolder(tmp_path / "ray").begin()
    store = on_disk(tmp_path / "store")
    plain = [f"--node-id={NODE}", "--no-logs", "--no-poll", "--segment-age=300ms"]
    servers = [await to_thread.run_sync(start_server, store, tmp_path)]
    port, url = servers[0].port, servers[0].url

    def again() -> Program:
        return start_server(store, tmp_path, port=port)

    try:
        with collector(store, tmp_path, tmp_path / "ray", f"--server={url}", *plain) as collects:
            await to_thread.run_sync(until, lambda: b'"live"' in fetch(f"{url}/clusters")[1], "it to be heard")
            with Tail(tmp_path, "-o", "json", "--kind", "task", RAY_HISTORY_ADDRESS=url) as tail:
                await to_thread.run_sync(tail.begun)
                for at in range(0, 300, 100):
                    await post(collects.url, posted(range(at, at + 50)))
                    if at != 200:
                        servers[-1].kill()
                        await post(collects.url, posted(range(at + 50, at + 100)))
                        servers.append(await to_thread.run_sync(again))
                wanted = 3 * 250 + 1
                await to_thread.run_sync(lambda: until(lambda: len(tail.lines()) >= wanted, "all events", timeout=40))
                told = [json.loads(each)["data"] for each in tail.lines()[1:]]
                changes = [(data["task_id"], data["state"]) for data in told]
                assert len(changes) == len(set(changes)) == wanted - 1
                assert tail.process.poll() is None
                words = tail.said.splitlines()[1:]
                assert words[:2] == ["ray-history: connection lost, trying again", "ray-history: back"]
                assert words in ([*words[:2]], [*words[:2] * 2])
    finally:
        for each in servers:
            each.end()


def test_the_end_of_a_session_ends_it(tmp_path: Path) -> None:
    begun = int(time.time() * 1000)

    async def write(ended_ms: int | None) -> None:
        async with open_store(StoreConfig(url=f"file://{tmp_path / 'store'}")) as store:
            writer = SegmentWriter(store)
            await writer.begin(created_ms=begun, ended_ms=ended_ms)
            await writer.write(tasks(2))

    anyio.run(write, None)
    with (
        server(on_disk(tmp_path / "store"), tmp_path, "--refresh=200ms") as it,
        Tail(tmp_path, "--address", it.url) as tail,
    ):
        tail.begun()
        anyio.run(write, begun + 1)
        assert tail.process.wait(20) == 0
        moment = datetime.fromtimestamp((begun + 1) / 1000, UTC).astimezone()
        assert tail.said.splitlines()[1] == (
            f"ray-history: {NAMES} ended {moment:%Y-%m-%d %H:%M:%S}.{(begun + 1) % 1000:03}"
        )


def test_the_columns_hold_every_kind() -> None:
    assert max(map(len, KINDS)) <= KIND
