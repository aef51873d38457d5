"""What the pages show is right: percentiles, activity, failures put together, differences between two sessions."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.indexes import index_of

from api.index.session_index import SessionIndex
from api.status import LOST_AFTER_MS, status_of
from api.views import durations, failures
from api.views.activity import activity
from api.views.compare import compare, profile
from api.views.durations import NameTimes, by_name, named
from api.views.failures import UNREAD
from api.views.overview import Counts, Overview, counts, overview
from api.views.session_list import ListQuery, Summary, line, page
from api.views.tasks import task_codes
from api.views.text import MAX_TEXT, clipped, normalised, telling_line
from pipeline.events import TASK_STATUS, Record, TaskDefinition, TaskUpdate
from pipeline.layout import SessionKey
from pipeline.stores.catalog import SessionMetadata, new_metadata

JOB = b"\x01\0\0\0"
MS = 1_000_000
T = 1_795_379_310_000
T0 = T * MS
CREATED, RUNNING, FINISHED, FAILED = (
    TASK_STATUS.index(state) for state in ("PENDING_ARGS_AVAIL", "RUNNING", "FINISHED", "FAILED")
)


def task_id(number: int) -> bytes:
    return number.to_bytes(8, "big") + b"\xff" * 12 + JOB


def attempt(
    number: int, name: str = "f", states: dict[int, int] | None = None, error: str | None = None, function: str = "fn"
) -> list[Record]:
    """One attempt; ``states`` are ms after T0."""
    told = [(state, T0 + at * MS) for state, at in (states or {}).items()]
    kind = None if error is None else "TASK_EXECUTION_EXCEPTION"
    return [
        TaskDefinition(task_id(number), 0, JOB, "NORMAL_TASK", "PYTHON", function, name),
        TaskUpdate(task_id(number), 0, JOB, told, error_type=kind, error_message=error),
    ]


def ran(number: int, ms: int, name: str = "f") -> list[Record]:
    return attempt(number, name, {CREATED: 0, RUNNING: 10, FINISHED: 10 + ms})


def failed(number: int, error: str, name: str = "f") -> list[Record]:
    return attempt(number, name, {CREATED: 0, RUNNING: 10, FAILED: 20 + number}, error)


def index(*attempts: list[Record]) -> SessionIndex:
    return index_of([record for records in attempts for record in records])


def seen(*attempts: list[Record]) -> Overview:
    return overview(index(*attempts), 10)


# -- run times --------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 100_000), min_size=1, max_size=30), min_size=1))
def test_percentiles_by_name_are_numpys(spent: dict[str, list[int]]) -> None:
    numbered = [(name, ms) for name, each in spent.items() for ms in each]
    found = {row.name: row for row in seen(*(ran(n, ms, name) for n, (name, ms) in enumerate(numbered))).names}
    assert set(found) == set(spent)
    for name, each in spent.items():
        row = found[name]
        wanted = np.quantile(each, [0.5, 0.95, 0.99, 1.0])
        assert (row.p50_ms, row.p95_ms, row.p99_ms, row.max_ms) == pytest.approx(wanted, abs=0.001)
        assert (row.attempts, row.ran, row.failed, row.total_ms) == (len(each), len(each), 0, sum(each))


def test_the_slowest_names_come_first_and_those_that_never_ran_last() -> None:
    rows = seen(ran(1, 5, "quick"), ran(2, 500, "slow"), attempt(3, "waits", {CREATED: 0})).names
    assert [row.name for row in rows] == ["slow", "quick", "waits"]
    assert (rows[2].attempts, rows[2].ran, rows[2].p50_ms) == (1, 0, None)


def test_a_failed_attempt_ran_until_it_failed_and_a_running_one_has_no_run_time() -> None:
    (row,) = seen(failed(1, "x"), attempt(2, states={CREATED: 0, RUNNING: 5})).names
    assert (row.attempts, row.failed, row.ran, row.max_ms) == (2, 1, 1, 11.0)


def test_an_end_before_its_beginning_is_no_run_time() -> None:
    (row,) = seen(attempt(1, states={RUNNING: 50, FINISHED: 20})).names
    assert (row.ran, row.p50_ms) == (0, None)


def test_names_without_end_are_put_together_by_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durations, "MAX_NAMES", 3)
    few, many = ([ran(n, 5, f"train-{n}") for n in range(count)] for count in (3, 4))
    assert seen(*few).grouped_by == "name"
    made = seen(*many)
    assert (made.grouped_by, [(row.name, row.attempts) for row in made.names]) == ("function", [("fn", 4)])


def test_of_functions_without_end_the_most_frequent_keep_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durations, "MAX_NAMES", 2)
    numbers = iter(range(100))
    many = [
        attempt(next(numbers), f"n{at}", {}, function=f"fn{at}") for at, times in enumerate((1, 3, 2, 1)) for _ in range(times)
    ]  # fmt: skip
    codes = task_codes(index(*many))
    rows = codes.listed(exclude_driver=True)
    name, grouped_by = named(codes, rows)
    assert grouped_by == "function"
    assert {row.name: row.attempts for row in by_name(codes, rows, name)} == {"fn1": 3, "fn2": 2, "(others)": 2}


# -- activity ---------------------------------------------------------------------------------

lives = st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 300) | st.none(), st.integers(0, 300) | st.none(), st.booleans()),
    min_size=1, max_size=12,
)  # fmt: skip


@given(lives, st.integers(1, 8))
def test_each_bin_holds_the_time_that_attempts_spent_in_it(
    told: list[tuple[int, int | None, int | None, bool]], bins: int
) -> None:
    attempts, spans = [], []
    for number, (created, wait, run, good) in enumerate(told):
        states = {CREATED: created}
        if wait is not None:
            states[RUNNING] = created + wait
            if run is not None:
                states[FINISHED if good else FAILED] = created + wait + run
        attempts.append(attempt(number, states=states))
        spans.append((created, states.get(RUNNING), states.get(FINISHED, states.get(FAILED)), good))
    codes = task_codes(index(*attempts))
    made = activity(codes, codes.listed(exclude_driver=True), bins)
    first = min(created for created, *_ in spans)
    last = max([first + 1, *(time for span in spans for time in span[:3] if time is not None)])
    width = (last - first) / bins
    assert (made.start_ms, made.bin_ms) == (pytest.approx(T0 / MS + first), pytest.approx(width))
    for number in range(bins):
        low, high = first + number * width, first + (number + 1) * width

        def held(start: float, end: float, low: float = low, high: float = high) -> float:
            return max(0.0, min(end, high) - max(start, low)) / (high - low)

        running = sum(held(run, last if end is None else end) for _, run, end, _ in spans if run is not None)
        waiting = sum(held(created, last if run is None else run) for created, run, _, _ in spans)
        assert made.running[number] == pytest.approx(running, abs=0.002)
        assert made.waiting[number] == pytest.approx(waiting, abs=0.002)
    ended = [good for *_, end, good in spans if end is not None]
    assert (sum(made.finished), sum(made.failed)) == (ended.count(True), ended.count(False))


def test_what_has_not_ended_is_shown_until_the_time_given() -> None:
    codes = task_codes(index(attempt(1, states={CREATED: 0, RUNNING: 0})))
    made = activity(codes, codes.listed(exclude_driver=True), 4, T0 + 1000 * MS)
    assert (made.bin_ms, made.running) == (250.0, [1.0] * 4)


def test_times_at_both_ends_of_what_a_record_may_say_make_a_picture_all_the_same() -> None:
    wild = TaskUpdate(task_id(1), 0, JOB, [(CREATED, 1), (RUNNING, 2), (FINISHED, 2**63 - 1)])
    made = overview(index(attempt(1), [wild]), 10, 2**70)
    assert len(made.activity.running) == 10
    assert sum(made.activity.finished) == 1


# -- failures ---------------------------------------------------------------------------------

TRACEBACK = """User exception:
ray::work() (pid=24628, ip=192.0.2.2)
  File "/home/ray/work.py", line 43, in work
    raise ValueError("row 17 is bad")
ValueError: row 17 is bad
more of the message"""


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (TRACEBACK, "ValueError: row 17 is bad"),
        (f"CreationTaskError: {TRACEBACK}\n\nSystem error:\nOther: x", "ValueError: row 17 is bad"),
        (
            'Traceback (most recent call last):\n\n  File "a.py", line 1, in f\n    g()\n\nKeyError: 1\n\nDuring handling\n\n'
            '  File "b.py", line 2, in g\n    h()\n\nRuntimeError: second\n',
            "RuntimeError: second",
        ),
        (
            "The actor is dead because it was killed by `ray.kill`.",
            "The actor is dead because it was killed by `ray.kill`.",
        ),
        ("\n  \n  indented only", "indented only"),
        ("\x1b[36mray::f()\x1b[39m (pid=1)\nmore", "ray::f() (pid=1)"),
        ('  File "x", line 1', 'File "x", line 1'),
        ("", ""),
        ("\n\n", ""),
    ],
)
def test_the_telling_line_of_a_message(message: str, line: str) -> None:
    assert telling_line(message) == line


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("ValueError: row 17 is bad", "ValueError: row # is bad"),
        ("at 0x7ff662c76850", "at #"),
        ("Worker 5e1a2550344fe60073c63bbb02000000 died", "Worker # died"),
        ("run 123e4567-e89b-12d3-a456-426614174000", "run #"),
        ("can't reach 10.0.0.7:6379, after 3.5 s", "can't reach #, after # s"),
        ("KeyError: 'user_12345'", "KeyError: 'user_#'"),
        ("expected int64, not float32", "expected int64, not float32"),
        ("deadbeef is a word, cafebabe1 an id", "deadbeef is a word, # an id"),
        ("x" * 5000, "x" * MAX_TEXT + "…"),
    ],
)
def test_what_changes_from_error_to_error_is_taken_out(line: str, same: str) -> None:
    assert normalised(line) == same


def test_texts_no_json_can_carry_are_made_fit() -> None:
    assert clipped("a\ud800b") == "a?b"
    assert clipped("x" * MAX_TEXT) == "x" * MAX_TEXT


def test_failures_of_one_cause_are_put_together_whatever_their_ids() -> None:
    made = seen(
        *(failed(n, TRACEBACK.replace("17", str(n)), f"f{n % 2}") for n in range(1, 6)), failed(9, "other"), ran(10, 5)
    ).failures
    assert (made.total, made.group_count) == (6, 2)
    group, other = made.groups
    assert (group.error_type, group.message, group.count) == (
        "TASK_EXECUTION_EXCEPTION",
        "ValueError: row # is bad",
        5,
    )
    assert [(name.name, name.count) for name in group.names] == [("f1", 3), ("f0", 2)]
    assert (group.first_ms, group.last_ms) == (T0 / MS + 21, T0 / MS + 25)
    assert (group.example.task_id, group.example.job_id) == (task_id(5).hex(), JOB.hex())
    assert "row 5 is bad" in group.example.message
    assert (other.message, other.count) == ("other", 1)


def test_of_messages_without_end_the_most_frequent_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MAX_MESSAGES", 1)
    made = seen(failed(1, "often"), failed(2, "often"), failed(3, "rare"), failed(4, "rarer")).failures
    assert {(group.message, group.count) for group in made.groups} == {("often", 2), (UNREAD, 2)}


def test_a_failure_that_only_its_jobs_end_implies_is_a_failure() -> None:
    from pipeline.events import DriverJobUpdate

    left = attempt(1, states={CREATED: 0, RUNNING: 10})
    made = overview(index(left, [DriverJobUpdate(JOB, is_dead=True, end_time_ms=T0 // MS + 500)]), 5)
    (group,) = made.failures.groups
    assert group.message.startswith("Job finishes (#) as driver exits")
    assert made.names[0].max_ms == 490.0


# -- comparison -------------------------------------------------------------------------------


def side(name: str, *spent: int, bad: int = 0) -> SessionIndex:
    return index(*(ran(n, ms, name) for n, ms in enumerate(spent)), *(failed(100 + n, "x", name) for n in range(bad)))


@pytest.mark.parametrize(
    ("before", "after", "differs"),
    [
        (side("f", 100, 100, 100), side("f", 100, 100, 100), []),
        (side("f", 100, 100, 100), side("f", 115, 115, 115), []),
        (side("f", 100, 100, 100), side("f", 130, 130, 130), ["p50", "p95"]),
        (side("f", 130, 130, 130), side("f", 100, 100, 100), ["p50", "p95"]),
        (side("f", 1, 1, 1), side("f", 4, 4, 4), []),
        (side("f", 100, 100), side("f", 500, 500), []),
        (side("f", 100, 100, 100), side("f", 100, 100, 100, bad=1), ["count", "failed"]),
        (side("f", 100), side("f", 100, 100), ["count"]),
    ],
)
def test_a_difference_is_what_is_worth_a_look(before: SessionIndex, after: SessionIndex, differs: list[str]) -> None:
    compared = compare(profile(before), profile(after))
    assert [row.differs for row in compared.rows] == [differs]
    assert compared.different == bool(differs)


def test_the_most_striking_difference_comes_first_and_equals_last() -> None:
    same = [ran(n, 50, "same") for n in range(3)]
    before = index(
        *same,
        *(ran(10 + n, 100, "slower") for n in range(3)),
        ran(20, 1, "gone"),
        *(ran(40 + n, 9, "bad") for n in range(3)),
    )
    after = index(
        *same,
        *(ran(10 + n, 300, "slower") for n in range(3)),
        ran(30, 1, "new"),
        *(failed(40 + n, "x", "bad") for n in range(3)),
    )
    rows = compare(profile(before), profile(after)).rows
    assert [row.name for row in rows] == ["bad", "gone", "new", "slower", "same"]
    assert [row.p50_ratio for row in rows if row.name == "slower"] == [3.0]


# -- counts, status, lists --------------------------------------------------------------------


def test_counts_span_all_that_is_told_of() -> None:
    known = counts(index(ran(1, 500), attempt(2, states={CREATED: 100})))
    assert (known.first_ms, known.last_ms) == (T0 // MS, T0 // MS + 510)
    assert known.tasks == {"FINISHED": 1, "PENDING_ARGS_AVAIL": 1}
    assert counts(SessionIndex()).last_ms == 0


@pytest.mark.parametrize(
    ("ended", "created", "heard", "status"),
    [
        (5, 0, None, "ended"),
        (5, 10**12, 10**12, "ended"),
        (None, 10**12, None, "live"),
        (None, 10**12 - LOST_AFTER_MS, None, None),
        (None, 10**12 - LOST_AFTER_MS, 0, "lost"),
        (None, 0, 10**12 - LOST_AFTER_MS + 1, "live"),
        (None, 0, 10**12 + 10**9, "live"),
    ],
)
def test_a_status_is_what_was_said_or_heard(
    ended: int | None, created: int, heard: int | None, status: str | None
) -> None:
    assert status_of(ended, created, heard, 10**12) == status


def test_a_page_of_many_thousands_holds_what_was_asked_for() -> None:
    sessions = [
        new_metadata(SessionKey("ns", f"c{n % 10}", f"session_2026-01-16_02-00-00_{n:06d}_1"), ended_ms=n)
        for n in range(20_000)
    ]
    summaries = {("ns", known.cluster, known.session): _summary(known) for known in sessions[::100]}
    found = page(sessions, summaries, ListQuery(search="C3", sort="failed", offset=10, limit=7), 10**13)
    assert (found.total, found.matched, len(found.sessions)) == (20_000, 2000, 7)
    assert all(row.name == "c3" for row in found.sessions)


@pytest.mark.parametrize(
    ("heard", "as_of", "now", "status"),
    [
        (0, 1000, LOST_AFTER_MS - 1, "live"),
        (0, 1000, LOST_AFTER_MS + 500, "lost"),  # it may have said something since, but it was looked at just now
        (0, 1000, LOST_AFTER_MS + 1000, None),
        (0, LOST_AFTER_MS, 10 * LOST_AFTER_MS, "lost"),
    ],
)
def test_an_old_count_does_not_tell_that_a_session_is_lost(
    heard: int, as_of: int, now: int, status: str | None
) -> None:
    known = new_metadata(SessionKey("ns", "c", "session_1"))
    summary = Summary(counts=Counts(), records=1, complete=True, heard_ms=T + heard, as_of_ms=T + as_of, final=False)
    assert line(known, summary, T + now).status == status
    final = msgspec.structs.replace(summary, final=True)
    assert line(known, final, T + now).status == ("live" if now < LOST_AFTER_MS else "lost")


def test_failed_tasks_come_before_failed_jobs_before_none_before_what_is_not_counted() -> None:
    def of(tasks: int, jobs: int) -> Summary:
        made = Counts(tasks={"FAILED": tasks, "FINISHED": 9}, jobs={"FAILED": jobs} if jobs else {})
        return Summary(counts=made, records=1, complete=True, heard_ms=0, as_of_ms=0, final=True)

    told = {"a": of(0, 0), "b": of(0, 2), "c": of(3, 0), "d": of(3, 1), "e": of(0, 1)}
    sessions = [new_metadata(SessionKey("ns", name, "session_1"), ended_ms=1) for name in "fedcba"]
    summaries = {("ns", name, "session_1"): summary for name, summary in told.items()}
    by_failures = page(
        sessions, summaries, ListQuery(sort="failed"), T, {("ns", "f", "session_1"): 7, ("ns", "a", "session_1"): 7}
    )
    assert [row.name for row in by_failures.sessions] == ["d", "c", "b", "e", "a", "f"]
    assert [row.too_large for row in by_failures.sessions] == [None] * 5 + [7]
    assert (by_failures.uncounted, by_failures.failed) == (1, 4)
    alone = page(sessions, summaries, ListQuery(failed=True), T)
    assert [row.name for row in alone.sessions] == ["e", "d", "c", "b"]
    assert (alone.matched, alone.statuses, alone.uncounted) == (4, {"ended": 4}, 1)


def _summary(known: SessionMetadata) -> Summary:
    tally = counts(index(failed(1, "x")))
    return Summary(counts=tally, records=2, complete=True, heard_ms=0, as_of_ms=0, final=True)


def test_a_name_is_shown_once_even_where_two_were_cut_to_the_same() -> None:
    rows = seen(ran(1, 5, "x" * 400), ran(2, 5, "x" * 500)).names
    assert [(row.name, row.attempts) for row in rows] == [("x" * MAX_TEXT + "…", 2)]
    assert isinstance(rows[0], NameTimes)
