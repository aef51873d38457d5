"""Whose turn it is: those that are over and unknown first, and no session more often than it is worth."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from support.counting import RECORDS, key

from api.session.agenda import (
    AGAIN,
    BLOCK,
    ENDED_AGAIN,
    FIRST_RETRY,
    LARGE_AGAIN,
    LAST_LOOK,
    LAST_RETRY,
    SEGMENT_SECONDS,
    Agenda,
)
from api.session.aside import MAX_SEGMENTS, Weight, fits
from api.views.overview import Counts
from api.views.session_list import Ident, Summary, ident
from pipeline.stores.catalog import SessionMetadata, new_metadata

KNOWN = Summary(counts=Counts(), records=1, complete=True, heard_ms=RECORDS, as_of_ms=RECORDS, final=False)
FINAL = replace(KNOWN, final=True)


def session(number: int, *, live: bool = False) -> SessionMetadata:
    return new_metadata(key(number), ended_ms=None if live else RECORDS)


class Trial:
    """An agenda over ``sessions``, newest first, that leaves blocks in their order."""

    def __init__(self, *sessions: SessionMetadata) -> None:
        self.agenda = Agenda(shuffle=lambda block: None)
        self.sessions = list(sessions)
        self.known: dict[Ident, Summary] = {}

    def due(self, now: float = 0.0) -> list[SessionMetadata]:
        return self.agenda.due(self.sessions, self.known, lambda m: "ended" if m.ended_ms else "live", now)

    def know(self, metadata: SessionMetadata, summary: Summary = KNOWN) -> None:
        self.known[ident(metadata)] = summary


def test_those_that_are_over_come_before_those_that_live_and_those_that_are_known_last() -> None:
    known, live, newer, older = session(9), session(8, live=True), session(7), session(6)
    trial = Trial(known, live, newer, older)
    trial.know(known)
    assert trial.due() == [newer, older, live, known]


def test_servers_go_about_sessions_of_one_age_in_an_order_of_their_own() -> None:
    sessions = [session(number) for number in range(40, 0, -1)]
    orders = [Agenda().due(sessions, {}, lambda _: "ended", 0.0) for _ in range(5)]
    assert len({tuple(map(ident, order)) for order in orders}) > 1
    for order in orders:
        for at in range(0, 40, BLOCK):
            assert sorted(m.key for m in order[at : at + BLOCK]) == sorted(m.key for m in sessions[at : at + BLOCK])


def test_a_session_that_is_known_for_good_never_comes_again() -> None:
    trial = Trial(session(1))
    trial.know(session(1), FINAL)
    assert trial.due(1e12) == []


@pytest.mark.parametrize(("live", "wait"), [(True, AGAIN), (False, ENDED_AGAIN)])
def test_a_session_that_may_grow_comes_again_after_a_while(live: bool, wait: float) -> None:
    one = session(1, live=live)
    trial = Trial(one)
    trial.due()
    trial.know(one)
    trial.agenda.counted(one, 100.0, Weight(3, 300, "a"))
    assert trial.due(100 + wait - 1) == []
    assert trial.due(100 + wait) == [one]


def test_a_session_that_fell_silent_is_looked_at_ever_more_seldom() -> None:
    one = session(1, live=True)
    trial = Trial(one)
    trial.due()
    for silent, wait in ((600.0, AGAIN), (8 * 1000.0, 1000.0), (1e9, LAST_LOOK)):
        trial.agenda.counted(one, 0.0, silent=silent)
        assert trial.due(wait - 1) == []
        assert trial.due(wait) == [one]


def test_a_live_session_of_many_segments_is_not_read_more_often_than_it_is_written() -> None:
    one = session(1, live=True)
    trial = Trial(one)
    trial.agenda.counted(one, 0.0, Weight(720, 300, "a"))
    assert not trial.agenda.may_read(one, 720 * SEGMENT_SECONDS - 1)
    trial.agenda.counted(one, 7000.0)  # weighed, and not read
    assert trial.agenda.may_read(one, 720 * SEGMENT_SECONDS)
    assert trial.agenda.may_read(session(1), 1.0)  # its end is another matter


def test_an_end_is_a_reason_to_look_at_once() -> None:
    one = session(1, live=True)
    trial = Trial(one)
    trial.know(one)
    trial.due()
    trial.agenda.counted(one, 0.0, Weight(3, 300, "a"))
    assert trial.due(1.0) == []
    trial.sessions = [session(1)]
    assert trial.due(2.0) == [session(1)]
    trial.agenda.counted(session(1), 2.0)
    assert trial.due(3.0) == []


def test_what_fails_comes_ever_later_and_at_once_as_often_as_others_when_it_no_longer_does() -> None:
    one = session(1, live=True)
    trial, now, waits = Trial(one), 0.0, []
    for _ in range(12):
        trial.agenda.failed(one, now)
        wait = next(step for step in range(1, 10_000) if trial.due(now + step))
        waits.append(wait)
        now += wait
    assert waits[:3] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY]
    assert waits[-1] == LAST_RETRY
    assert trial.agenda.failing == 1
    trial.agenda.counted(one, now)
    assert trial.agenda.failing == 0


def test_an_end_makes_no_failing_session_come_sooner() -> None:
    one = session(1)
    trial = Trial(one)
    trial.agenda.failed(one, 0.0)
    assert trial.due(FIRST_RETRY - 1) == []


def test_what_is_too_large_is_weighed_again_seldom() -> None:
    trial = Trial(session(1))
    trial.due()
    trial.agenda.left(session(1), 0.0)
    assert trial.due(LARGE_AGAIN - 1) == []
    assert trial.due(LARGE_AGAIN) == [session(1)]


def test_sessions_that_are_gone_are_forgotten() -> None:
    trial = Trial(session(1), session(2))
    for one in trial.sessions:
        trial.agenda.failed(one, 0.0)
    trial.sessions = [session(2)]
    trial.due()
    assert trial.agenda.failing == 1


@pytest.mark.parametrize(
    ("segments", "size", "room", "fitting"),
    [(1, 250, 1000, True), (1, 251, 1000, False), (MAX_SEGMENTS, 1, 1000, True), (MAX_SEGMENTS + 1, 1, 1000, False)],
)
def test_a_session_is_tried_only_where_it_leaves_room(segments: int, size: int, room: int, fitting: bool) -> None:
    assert fits(Weight(segments, size, ""), room) is fitting
