"""A dead session answers what its live dashboard answered: every recorded request of every recording, leaf by leaf.

Each recording goes through a real collector, whose poll its own dashboard answers, and is asked of a real server that
has nothing but the store. Where the answers may differ, and why, stands in ``docs/parity.md``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.captures import DATA, captures, posts, session_name
from support.dialects import DIALECTS, found_untold, is_a_list, near, quoted, table, untold_by
from support.parity import Compared, ask, compare, exactly, mean, polled_of, share
from support.play import play, play_alone
from support.processes import server, session_url, wait_for_session
from support.skips import need
from support.storecheck import objects_with
from support.workload_runs import SECRET

pytestmark = pytest.mark.timeout(120)
OWN = ("posted", "export", "tasks", "actors", "nodes", "data", "serve")
OF_DIALECT = {"posted": ("posted", "tasks", "nodes"), "export": ("export", "actors", "data")}
WITHOUT_TASKS = "serve"
"""Ray was told to post everything but tasks: it says nothing of what a dialect alone carries."""
LARGER = ("ray-event-export", "export-api-files")
LEAVES, MEAN = 0.995, 0.99
TIMES = {"startTime", "endTime", "timestamp"}
NAMED = {"export": (0.975, 0.98)}
"""Of one kind of event too little is told to come so far: names that users give tasks aren't in export API files."""


@dataclass
class Played:
    """A recording, the store it is in, and what the history answers to each of its requests."""

    capture: Path
    store: Path
    compared: list[Compared]
    exact: list[Compared]
    """The same, to the last millisecond."""


@pytest.fixture(scope="module", params=[*OWN, *LARGER])
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """One after the other."""
    capture = DATA / request.param
    if request.param in LARGER:
        larger = captures()
        need(larger, "needs the larger captures: RAY_HISTORY_CAPTURES names their folder")
        capture = Path(str(larger)) / request.param
    folder = tmp_path_factory.mktemp("played")
    store = play(capture, folder)
    with server(store, folder) as program:
        wait_for_session(program, session_name(capture))
        asked = ask(capture, session_url(program, session_name(capture)))
    machines = polled_of(capture)
    exact = [compare(*each, exactly, machines) for each in asked]
    return Played(capture, folder, [compare(*each, None, machines) for each in asked], exact)


def told(compared: list[Compared]) -> str:
    return "\n".join(line for each in compared for line in each.lines())


def test_nearly_every_leaf_is_the_live_dashboards(played: Played) -> None:
    least, _ = NAMED.get(played.capture.name, (LEAVES, MEAN))
    assert share(played.compared) >= least, told(played.compared)


def test_no_kind_of_request_falls_behind(played: Played) -> None:
    _, least = NAMED.get(played.capture.name, (LEAVES, MEAN))
    assert mean(played.compared) >= least, told(played.compared)


def test_every_status_is_the_live_dashboards(played: Played) -> None:
    assert [(each.url, each.status) for each in played.compared if each.wrong_status] == []


def test_no_row_is_answered_that_never_was(played: Played) -> None:
    renamed = played.capture.name in NAMED  # a task under its function's name is another row of a summary
    extra = [line for each in played.compared for line in each.extra_rows if not (renamed and "summary_by" in each.url)]
    assert extra == []


def test_the_document_claims_no_more_than_is_so(played: Played) -> None:
    (row,) = (row for row in table("What the tests hold") if row[0] == f"`{played.capture.name}`")
    claimed = [float(cell.removesuffix("%")) / 100 for cell in row[-3:]]
    found = share(played.compared), mean(played.compared), share(played.exact)
    assert all(measured >= said for measured, said in zip(found, claimed, strict=True)), (found, claimed)


def test_every_difference_is_named_with_its_reason(played: Played) -> None:
    unnamed = {f"{each.url}: {kind}" for each in played.exact for kind in each.kinds() if not is_named(each.url, kind)}
    assert not unnamed, "\n".join(sorted(unnamed))


def test_no_time_of_an_actor_is_off_by_more_than_two_seconds(played: Played) -> None:
    """A named difference of times is one of whole seconds and milliseconds: near enough counts as equal here."""
    of_actors = [each for each in played.compared if each.url.startswith("/logical/actors")]
    assert {kind for each in of_actors for kind in each.kinds() if TIMES & fields_of(kind)} == set()


def fields_of(kind: str) -> set[str]:
    return set(re.split(r"[.\[\]]+", kind))


def is_named(url: str, kind: str) -> bool:
    """Whether a row of the document is about such a request and names a field on the way to the leaf."""
    fields = fields_of(kind)
    return any(
        any(url.startswith(start) for start in quoted(request)) and fields & quoted(names)
        for request, names, _ in table("Remaining differences")
    )


def test_no_secret_is_in_the_store(played: Played) -> None:
    recorded = [file for file in played.capture.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    if not recorded:
        pytest.skip("nothing secret was recorded")
    assert objects_with(played.store / "store", SECRET.encode()) == []


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_a_dialect_alone_lacks_is_documented_and_nothing_else(
    dialect: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found: dict[str, set[str]] = {}
    for name in OF_DIALECT[dialect]:
        capture, folder = DATA / name, tmp_path_factory.mktemp("alone")
        store = play_alone(capture, folder)
        with server(store, folder) as program:
            wait_for_session(program, session_name(capture))
            asked = ask(capture, session_url(program, session_name(capture)), is_a_list)
        for listed, column in found_untold(compare(*each, near) for each in asked):
            found.setdefault(listed, set()).add(column)
    documented = untold_by(dialect)
    for listed, columns in documented.items():
        if "all" in columns:
            assert found.pop(listed), f"{listed} are told of after all"
    assert found == {listed: set(columns) for listed, columns in documented.items() if columns - {"all"}}


def test_the_recordings_are_of_the_dialect_they_say() -> None:
    posted = {name for name in OWN if any(True for _ in posts(DATA / name))}
    assert posted == {*OF_DIALECT["posted"], WITHOUT_TASKS}
    assert set(OWN) - posted == set(OF_DIALECT["export"])
