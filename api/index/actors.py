"""The actors of a session: what each is, where it last lived, how often it restarted, how it died.

Owns Ray's rules for an actor's history (``gcs_actor_manager``): the latest transition is the state, the
last ALIVE one says where it lives, the first one when it started, every RESTARTING one is a restart, and the
first DEAD one since it last was anything else is when it died. Of actors that are dead already Ray says so again, when
their job or their last reference ends: why it died, and its timestamp, are the last one's.

Promises: any order, any repetition, either dialect or both give the same actors. What it leaves to
others: the columns of an answer (``views/actors.py``).
"""

from __future__ import annotations

from collections.abc import ValuesView
from typing import Any

import msgspec
from msgspec import Struct

from api.index.order import NEVER, SECOND_NS, combine, encode, is_whole_second, order_of, supersedes, time_of
from pipeline.events import ActorDefinition, ActorTransition, ActorUpdate

SUPERVISOR = "_ray_internal_job_actor_"
SUPERVISOR_NAMESPACE = "SUPERVISOR_ACTOR_RAY_NAMESPACE"
"""An actor of this name and a submission id, in this namespace, runs that submitted job's driver."""

_STATES = {state: state for state in ("DEPENDENCIES_UNREADY", "PENDING_CREATION", "ALIVE", "RESTARTING", "DEAD")}
_ACTOR_BYTES = 900
_RESTART_BYTES = 120
_HOME_BYTES = 120
_DEATH_BYTES = 120
_MAX_PID = 1 << 31
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Actor(Struct, gc=False):
    """One actor. Times are orders (see ``order.py``); ``NEVER`` where it hasn't happened.

    ``spawned_pid`` is the process that was begun for it last, whether or not it came to live there. ``homes`` are the
    nodes that it ever lived on, once there was more than one. ``deaths`` are the causes of all that was said of its
    death, by order; ``lived`` is when it was last said to be anything but dead.
    """

    actor_id: bytes
    definition: ActorDefinition | None = None
    state: str = "DEPENDENCIES_UNREADY"
    latest: int = NEVER
    first_ns: int = 0
    first_alive_ns: int = 0
    placed: int = NEVER
    place: ActorTransition | None = None
    spawned: int = NEVER
    spawned_pid: int = 0
    lived: int = NEVER
    deaths: dict[int, bytes] | None = None
    death_bytes: int = 0
    restarted: int = NEVER
    restarts: dict[int, str] | None = None
    coarse_restarts: dict[int, str] | None = None
    homes: frozenset[bytes] = frozenset()

    @property
    def job_id(self) -> bytes:
        """Ray ends every actor id with the id of its job."""
        return self.definition.job_id if self.definition is not None else self.actor_id[-4:]

    @property
    def timestamp_ns(self) -> int:
        """When it last came to live somewhere or was said to be dead, which is all that Ray notes; 0 before."""
        return time_of(max([self.placed, *(self.deaths or ())]))

    @property
    def created_ns(self) -> int:
        """When it was first heard of."""
        return _begun(self.first_ns)

    @property
    def start_ns(self) -> int:
        """When it was first ALIVE; 0 if it never was."""
        return _begun(self.first_alive_ns)

    @property
    def died(self) -> int:
        """The order of its death, of the last one where it came back; ``NEVER`` if it never died."""
        if not self.deaths:
            return NEVER
        return min((order for order in self.deaths if order > self.lived), key=_exact, default=max(self.deaths))

    @property
    def end_ns(self) -> int:
        """When it died; 0 if it hasn't."""
        return time_of(self.died)

    @property
    def death_cause(self) -> dict[str, Any] | None:
        """Ray's ActorDeathCause; None while the actor isn't dead."""
        cause = self.deaths[max(self.deaths)] if self.deaths and self.state == "DEAD" else b""
        return _decode(cause) if cause else None

    @property
    def nbytes(self) -> int:
        """About what its homes and deaths take."""
        return _HOME_BYTES * len(self.homes) + self.death_bytes

    def lived_on(self, node_id: bytes) -> bool:
        """Whether it lives on this node, or did before it moved."""
        return node_id in self.homes or (self.place is not None and self.place.node_id == node_id)

    @property
    def has_address(self) -> bool:
        """Ray clears an actor's address when it restarts and sets it when it is ALIVE again."""
        return self.place is not None and self.placed > self.restarted

    @property
    def pid(self) -> int:
        """Its process: where it lives, or the last that was begun for one that never came to live; 0 for none."""
        return self.place.pid if self.place is not None else self.spawned_pid

    def num_restarts(self, reason: str | None = None) -> int:
        """How often it restarted (for ``reason``); two dialects tell of the same restarts, so they don't add up."""
        if self.restarts is None and self.coarse_restarts is None:
            return 0
        told = (self.restarts or {}, self.coarse_restarts or {})
        return max(sum(1 for why in restarts.values() if reason in (None, why)) for restarts in told)

    def apply(self, transition: ActorTransition, order: int) -> None:
        """Take one state change into account."""
        state = _STATES.get(transition.state, transition.state)
        if supersedes(order, state, self.latest, self.state):
            self.latest, self.state = order, state
        if state != "DEAD":
            self.lived = max(order, self.lived)
        self.first_ns = _first(self.first_ns, transition.timestamp_ns)
        if state == "ALIVE":
            self.first_alive_ns = _first(self.first_alive_ns, transition.timestamp_ns)
        elif state == "RESTARTING":
            self._restart(transition, order)
        elif state == "DEAD":
            self.deaths = {} if self.deaths is None else self.deaths
            cause = encode(transition.death_cause) if transition.death_cause else b""
            known = self.deaths.get(order)
            self.deaths[order] = told = max(cause, known or b"")
            self.death_bytes += len(told) - len(known) if known is not None else _DEATH_BYTES + len(told)
        if state == "ALIVE" or transition.node_id:
            self._live_at(transition, order)
        pid = transition.pid or _died_in(transition.death_cause)
        if pid and (order, pid) > (self.spawned, self.spawned_pid):
            self.spawned, self.spawned_pid = order, pid

    def _restart(self, transition: ActorTransition, order: int) -> None:
        self.restarted = max(order, self.restarted)
        if is_whole_second(transition.timestamp_ns):
            self.coarse_restarts = _note(self.coarse_restarts, order, transition.restart_reason)
        else:
            self.restarts = _note(self.restarts, transition.timestamp_ns, transition.restart_reason)

    def _live_at(self, transition: ActorTransition, order: int) -> None:
        if self.place is not None and transition.node_id not in (b"", self.place.node_id):
            self.homes = self.homes | {self.place.node_id, transition.node_id} - {b""}
        # Only ALIVE says where an actor lives; the export dialect repeats it later, which serves where ALIVE was lost.
        if self.place is not None:
            was, now = self.place.state == "ALIVE", transition.state == "ALIVE"
            if was > now or (was == now and not supersedes(order, transition, self.placed, self.place)):
                return
        self.placed, self.place = order, transition


def _died_in(cause: dict[str, Any] | None) -> int:
    """The process that a death names, which is all that one dialect says of an actor that never came to live."""
    told = (cause or {}).get("actor_died_error_context")
    pid = told.get("pid") if isinstance(told, dict) else None
    return pid if isinstance(pid, int) and 0 < pid < _MAX_PID else 0


def _first(known: int, timestamp_ns: int) -> int:
    if timestamp_ns <= 0:
        return known
    # A whole second stands for all of it, so that its exact time, where the other dialect tells it, comes first.
    last = timestamp_ns + SECOND_NS - 1 if is_whole_second(timestamp_ns) else timestamp_ns
    return min(known, last) if known else last


def _exact(order: int) -> int:
    """An order by which an exact time comes before the whole second that the other dialect tells of the same."""
    return order_of(_first(0, time_of(order)), order)


def _begun(first: int) -> int:
    return first - (SECOND_NS - 1) if first % SECOND_NS == SECOND_NS - 1 else first


def _note(restarts: dict[int, str] | None, key: int, reason: str) -> dict[int, str]:
    restarts = {} if restarts is None else restarts
    restarts[key] = max(reason, restarts.get(key, reason))
    return restarts


class ActorTable:
    """All actors by id."""

    def __init__(self) -> None:
        self._actors: dict[bytes, Actor] = {}
        self._supervisors: dict[str, bytes] = {}
        self._interned: dict[str, str] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._actors)

    def values(self) -> ValuesView[Actor]:
        return self._actors.values()

    def get(self, actor_id: bytes) -> Actor | None:
        return self._actors.get(actor_id)

    def supervisors(self) -> dict[str, bytes]:
        """Submission id -> the actor that ran its driver."""
        return self._supervisors

    def define(self, record: ActorDefinition, position: int) -> None:
        """Take in what an actor is."""
        actor = self._actor(record.actor_id)
        if actor.definition == record:
            return
        if actor.definition is None:
            record = self._shared(record)
            self.nbytes += len(record.name) + 16 * len(record.label_selector) + 16 * len(record.labels)
        actor.definition = combine(actor.definition, record)
        if record.ray_namespace == SUPERVISOR_NAMESPACE and record.name.startswith(SUPERVISOR):
            submission = record.name.removeprefix(SUPERVISOR)
            self._supervisors[submission] = max(record.actor_id, self._supervisors.get(submission, b""))

    def update(self, record: ActorUpdate, position: int) -> None:
        """Take in what happened to an actor."""
        actor = self._actor(record.actor_id)
        for step, transition in enumerate(record.transitions):
            before = actor.nbytes
            actor.apply(transition, order_of(transition.timestamp_ns, position + step))
            self.nbytes += actor.nbytes - before
            if transition.state == "RESTARTING":
                self.nbytes += _RESTART_BYTES

    def _actor(self, actor_id: bytes) -> Actor:
        actor = self._actors.get(actor_id)
        if actor is None:
            actor = self._actors[actor_id] = Actor(actor_id)
            self.nbytes += _ACTOR_BYTES
        return actor

    def _shared(self, record: ActorDefinition) -> ActorDefinition:
        """The same with the texts that thousands of actors share kept once."""
        texts = {name: getattr(record, name) for name in ("class_name", "ray_namespace", "serialized_runtime_env")}
        for text in texts.values():
            if text not in self._interned:
                self._interned[text] = text
                self.nbytes += len(text) + 100
        return msgspec.structs.replace(record, **{name: self._interned[text] for name, text in texts.items()})
