"""The placement groups of a session: their bundles, where those were placed, and what became of them.

Ray tells of them only in the posted dialect, and only where PLACEMENT_GROUP events are among the
exposed ones.

Promises: any order, any repetition give the same placement groups.
"""

from __future__ import annotations

from collections.abc import ValuesView

from msgspec import Struct

from api.index.order import NEVER, combine, order_of, supersedes
from pipeline.events import PlacementGroupDefinition, PlacementGroupTransition, PlacementGroupUpdate

_GROUP_BYTES = 1200
_BUNDLE_BYTES = 400


class PlacementGroup(Struct, gc=False):
    """One placement group. ``placements`` are the last that Ray told (bundle index to node id)."""

    placement_group_id: bytes
    definition: PlacementGroupDefinition | None = None
    latest: int = NEVER
    transition: PlacementGroupTransition | None = None
    placed: int = NEVER
    placements: dict[int, bytes] = {}
    scheduling_ns: int = 0
    created_ns: int = 0

    @property
    def state(self) -> str:
        return self.transition.state if self.transition is not None else "PENDING"

    @property
    def creator_job_id(self) -> bytes:
        """Ray ends every placement group id with the id of its job."""
        return self.definition.creator_job_id if self.definition is not None else self.placement_group_id[-4:]

    def apply(self, transition: PlacementGroupTransition, order: int) -> None:
        """Take one state change into account. REMOVED is final."""
        final, was_final = transition.state == "REMOVED", self.transition is not None and self.state == "REMOVED"
        if final > was_final or (final == was_final and supersedes(order, transition, self.latest, self.transition)):
            self.latest, self.transition = order, transition
        if transition.placements and supersedes(order, transition.placements, self.placed, self.placements):
            self.placed, self.placements = order, transition.placements
        if transition.scheduling_state == "SCHEDULING_STARTED":
            self.scheduling_ns = max(self.scheduling_ns, transition.timestamp_ns)
        if transition.state == "CREATED":
            self.created_ns = max(self.created_ns, transition.timestamp_ns)


class PlacementGroupTable:
    """All placement groups by id."""

    def __init__(self) -> None:
        self._groups: dict[bytes, PlacementGroup] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._groups)

    def values(self) -> ValuesView[PlacementGroup]:
        return self._groups.values()

    def get(self, placement_group_id: bytes) -> PlacementGroup | None:
        return self._groups.get(placement_group_id)

    def define(self, record: PlacementGroupDefinition, position: int) -> None:
        """Take in what a placement group is."""
        group = self._group(record.placement_group_id)
        if group.definition is None:
            self.nbytes += _BUNDLE_BYTES * len(record.bundles)
        group.definition = combine(group.definition, record)

    def update(self, record: PlacementGroupUpdate, position: int) -> None:
        """Take in what happened to a placement group."""
        group = self._group(record.placement_group_id)
        for step, transition in enumerate(record.transitions):
            group.apply(transition, order_of(transition.timestamp_ns, position + step))

    def _group(self, placement_group_id: bytes) -> PlacementGroup:
        group = self._groups.get(placement_group_id)
        if group is None:
            group = self._groups[placement_group_id] = PlacementGroup(placement_group_id)
            self.nbytes += _GROUP_BYTES
        return group
