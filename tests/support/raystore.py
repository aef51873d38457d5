"""Ray's own way from task events to answers, without a cluster: its store, its query, its aggregator.

``RayTasks`` is fed the records of our model, turned into the protobufs that Ray's converter makes of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("ray")

from ray.core.generated import common_pb2, gcs_pb2, gcs_service_pb2
from ray.dashboard.modules.task_events.task_event_query import get_task_events
from ray.dashboard.modules.task_events.task_event_storage import TaskEventStorage
from ray.dashboard.state_aggregator import StateAPIManager
from ray.util.state.common import ListApiOptions, SummaryApiOptions
from ray.util.state.state_manager import StateDataSourceClient

from pipeline.events import TaskDefinition, TaskProfile, TaskUpdate


def to_proto(record: TaskDefinition | TaskUpdate | TaskProfile) -> Any:
    """A record as Ray's TaskEvents."""
    event = gcs_pb2.TaskEvents(task_id=record.task_id, attempt_number=record.attempt_number, job_id=record.job_id)
    match record:
        case TaskDefinition():
            _definition(record, event.task_info)
        case TaskUpdate():
            _update(record, event.state_updates)
        case TaskProfile():
            _profile(record, event.profile_events)
    return event


def _definition(record: TaskDefinition, info: Any) -> None:
    info.task_id, info.job_id, info.parent_task_id = record.task_id, record.job_id, record.parent_task_id
    info.type = common_pb2.TaskType.Value(record.type)
    info.language = common_pb2.Language.Value(record.language)
    info.name, info.func_or_class_name = record.name or "", record.func_or_class_name
    if record.actor_id or record.type == "ACTOR_CREATION_TASK":
        info.actor_id = record.actor_id or record.task_id[8:]
    if record.placement_group_id:
        info.placement_group_id = record.placement_group_id
    if record.call_site is not None:
        info.call_site = record.call_site
    info.required_resources.update(record.required_resources)
    info.label_selector.update(record.label_selector)
    info.runtime_env_info.serialized_runtime_env = record.serialized_runtime_env
    if record.serialized_runtime_env:  # what every task of Python has
        config = info.runtime_env_info.runtime_env_config
        config.setup_timeout_seconds, config.eager_install = 600, True
    if record.type != "DRIVER_TASK":
        info.fallback_strategy.SetInParent()


def _update(record: TaskUpdate, updates: Any) -> None:
    updates.SetInParent()
    for state, at_ns in record.states:
        updates.state_ts_ns[state] = at_ns
    for name in ("node_id", "worker_id", "worker_pid"):
        if getattr(record, name):
            setattr(updates, name, getattr(record, name))
    for name in ("is_debugger_paused", "actor_repr_name"):
        if getattr(record, name) is not None:
            setattr(updates, name, getattr(record, name))
    if record.error_type is not None:
        updates.error_info.error_type = common_pb2.ErrorType.Value(record.error_type)
        updates.error_info.error_message = record.error_message or ""
    if record.log_info is not None:
        for name in record.log_info.__struct_fields__:
            if getattr(record.log_info, name) is not None:
                setattr(updates.task_log_info, name, getattr(record.log_info, name))


def _profile(record: TaskProfile, profile: Any) -> None:
    profile.component_type, profile.component_id = record.component_type, record.component_id
    profile.node_ip_address = record.node_ip_address
    for span in record.events:
        profile.events.add(
            start_time=span.start_ns, end_time=span.end_ns, event_name=span.event_name, extra_data=span.extra_data
        )


_THREADS = ThreadPoolExecutor(1)


class RayTasks:
    """A Ray dashboard's tasks."""

    def __init__(self) -> None:
        self.store = TaskEventStorage()
        self._manager = StateAPIManager(self, _THREADS)  # type: ignore[arg-type]

    def take(self, record: TaskDefinition | TaskUpdate | TaskProfile) -> None:
        self.store.add_or_replace_task_event(to_proto(record))

    async def get_all_task_info(self, timeout: int, filters: Any, exclude_driver: bool = False) -> Any:
        """What the aggregator asks its client for."""
        request = StateDataSourceClient._build_task_events_request(
            None,
            limit=10_000,
            filters=filters,
            exclude_driver=exclude_driver,  # type: ignore[arg-type]
        )
        return get_task_events(self.store, request)

    async def get_all_actor_info(self, timeout: int, filters: Any) -> Any:
        """No actor is known."""
        return gcs_service_pb2.GetAllActorInfoReply()

    def list(self, filters: list[tuple[str, str, str]], **options: Any) -> dict[str, Any]:
        return self._ask(lambda: self._manager.list_tasks(option=ListApiOptions(filters=filters, **options)))

    def summarize(self, filters: list[tuple[str, str, str]], summary_by: str | None) -> dict[str, Any]:
        option = SummaryApiOptions(filters=filters, summary_by=summary_by)
        return self._ask(lambda: self._manager.summarize_tasks(option=option))

    def timeline(self, job_id: str | None) -> Any:
        async def ask() -> Any:
            return await self._manager.generate_task_timeline(job_id)

        return json.loads(asyncio.run(ask()))

    def _ask(self, question: Any) -> dict[str, Any]:
        async def ask() -> Any:
            return await question()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return dataclasses.asdict(asyncio.run(ask()))
