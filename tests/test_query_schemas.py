"""Our schemas list the columns that the installed Ray lists, in its order, with its filterable and detail marks."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from api.query import schemas

common = pytest.importorskip("ray.util.state.common")

RAY_STATES = {
    "tasks": "TaskState",
    "actors": "ActorState",
    "nodes": "NodeState",
    "workers": "WorkerState",
    "jobs": "JobState",
    "placement_groups": "PlacementGroupState",
    "objects": "ObjectState",
    "runtime_envs": "RuntimeEnvState",
    "cluster_events": "ClusterEventState",
}


def ray_state(resource: str) -> Any:
    return getattr(common, RAY_STATES[resource])


def test_every_resource_of_ray_has_a_schema() -> None:
    assert {resource.value for resource in common.StateResource} == set(schemas.SCHEMAS)


@pytest.mark.parametrize("resource", sorted(RAY_STATES))
def test_columns_and_their_order_are_rays(resource: str) -> None:
    ours = schemas.SCHEMAS[resource]
    theirs = ray_state(resource)
    assert list(ours.shown(detail=True)) == theirs.list_columns(detail=True)
    assert list(ours.shown(detail=False)) == theirs.list_columns(detail=False)


@pytest.mark.parametrize("resource", sorted(RAY_STATES))
def test_filterable_columns_are_rays(resource: str) -> None:
    assert schemas.SCHEMAS[resource].filterable() == ray_state(resource).filterable_columns()


@pytest.mark.parametrize("resource", sorted(set(RAY_STATES) - {"jobs"}))
def test_filter_texts_are_coerced_for_the_columns_ray_coerces(resource: str) -> None:
    exact = {int: "int", float: "float", bool: "bool"}
    theirs = {field.name: exact.get(field.type, "text") for field in dataclasses.fields(ray_state(resource))}
    assert {column.name: column.kind for column in schemas.SCHEMAS[resource].columns} == theirs
