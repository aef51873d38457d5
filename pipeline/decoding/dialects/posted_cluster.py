"""Posted events of actors, nodes, workers, jobs and placement groups into the typed model."""

from __future__ import annotations

from typing import Any

from pipeline.decoding.dialects import posted_wire as wire
from pipeline.decoding.dialects.wire import (
    ACTOR_DIED_REASON,
    ACTOR_STATE,
    ALIVE_OR_DEAD,
    ALIVE_SUB_STATE,
    DRIVER_JOB_STATE,
    LANGUAGE,
    NODE_DEATH_REASON,
    PLACEMENT_GROUP_STATE,
    PLACEMENT_STRATEGY,
    POSTED_JOB_STATUS,
    RESTART_REASON,
    SCHEDULING_STATE,
    UINT64_MAX,
    WORKER_EXIT_TYPE,
    WORKER_TYPE,
    EnumPaths,
    name_enums,
    nanoseconds,
    snake_keys,
    unsigned,
)
from pipeline.events import (
    ActorDefinition,
    ActorTransition,
    ActorUpdate,
    Bundle,
    DriverJobDefinition,
    DriverJobUpdate,
    NodeDefinition,
    NodeTransition,
    NodeUpdate,
    PlacementGroupDefinition,
    PlacementGroupTransition,
    PlacementGroupUpdate,
    SubmissionJobDefinition,
    SubmissionJobUpdate,
    WorkerDefinition,
    WorkerTransition,
    WorkerUpdate,
)

_CAUSE_IDS = frozenset({"actor_id", "owner_id", "job_id", "node_id", "placement_group_id"})
_CAUSE_ENUMS: EnumPaths = {
    "actor_died_error_context": {"reason": ACTOR_DIED_REASON, "node_death_info": {"reason": NODE_DEATH_REASON}},
    "creation_task_failure_context": {"language": LANGUAGE},
}


def death_cause(cause: dict[str, Any] | None) -> dict[str, Any] | None:
    """An actor's death cause as Ray's state API shows it. Both dialects write it alike."""
    shown: dict[str, Any] | None = name_enums(snake_keys(cause, _CAUSE_IDS), _CAUSE_ENUMS)
    return shown


def driver_job_definition(job: wire.DriverJobDefinitionEvent) -> DriverJobDefinition:
    config = job.config or wire.DriverJobConfig()
    return DriverJobDefinition(
        job_id=job.job_id,
        driver_pid=job.driver_pid,
        entrypoint=job.entrypoint,
        driver_node_id=job.driver_node_id,
        serialized_runtime_env=config.serialized_runtime_env,
        metadata=config.metadata,
    )


def driver_job_lifecycle(job: wire.DriverJobLifecycleEvent) -> DriverJobUpdate:
    times = {
        DRIVER_JOB_STATE.name(step.state): nanoseconds(step.timestamp) // 1_000_000 for step in job.state_transitions
    }
    return DriverJobUpdate(
        job_id=job.job_id,
        is_dead="FINISHED" in times,
        start_time_ms=times.get("CREATED", 0),
        end_time_ms=times.get("FINISHED", 0),
    )


def node_definition(node: wire.NodeDefinitionEvent) -> NodeDefinition:
    return NodeDefinition(
        node_id=node.node_id,
        node_ip_address=node.node_ip_address,
        node_name=node.node_name,
        hostname=node.hostname,
        instance_id=node.instance_id,
        instance_type_name=node.instance_type_name,
        labels=node.labels,
        start_time_ms=nanoseconds(node.start_timestamp) // 1_000_000,
    )


def _node_transition(step: wire.NodeStateTransition) -> NodeTransition:
    death = step.death_info
    return NodeTransition(
        state=ALIVE_OR_DEAD.name(step.state),
        timestamp_ns=nanoseconds(step.timestamp),
        resources=step.resources,
        death_reason=None if death is None else NODE_DEATH_REASON.name(death.reason),
        death_reason_message=None if death is None else death.reason_message,
        alive_sub_state=ALIVE_SUB_STATE.name(step.alive_sub_state),
    )


def node_lifecycle(node: wire.NodeLifecycleEvent) -> NodeUpdate:
    transitions = [_node_transition(step) for step in node.state_transitions]
    ends = [step.timestamp_ns // 1_000_000 for step in transitions if step.state == "DEAD"]
    return NodeUpdate(node.node_id, transitions, max(ends, default=0))


def actor_definition(actor: wire.ActorDefinitionEvent) -> ActorDefinition:
    return ActorDefinition(
        actor_id=actor.actor_id,
        job_id=actor.job_id,
        class_name=actor.class_name,
        name=actor.name,
        ray_namespace=actor.ray_namespace,
        is_detached=actor.is_detached,
        serialized_runtime_env=actor.serialized_runtime_env,
        required_resources=actor.required_resources,
        placement_group_id=actor.placement_group_id,
        label_selector=actor.label_selector,
        call_site=actor.call_site,
        parent_id=actor.parent_id,
    )


def actor_lifecycle(actor: wire.ActorLifecycleEvent) -> ActorUpdate:
    transitions = [
        ActorTransition(
            state=ACTOR_STATE.name(step.state),
            timestamp_ns=nanoseconds(step.timestamp),
            node_id=step.node_id,
            worker_id=step.worker_id,
            pid=step.pid,
            port=step.port,
            repr_name=step.repr_name,
            death_cause=death_cause(step.death_cause),
            restart_reason=RESTART_REASON.name(step.restart_reason),
        )
        for step in actor.state_transitions
    ]
    return ActorUpdate(actor.actor_id, transitions)


def placement_group_definition(group: wire.PlacementGroupDefinitionEvent) -> PlacementGroupDefinition:
    return PlacementGroupDefinition(
        placement_group_id=group.placement_group_id,
        name=group.name,
        creator_job_id=group.creator_job_id,
        strategy=PLACEMENT_STRATEGY.name(group.strategy),
        is_detached=group.is_detached,
        ray_namespace=group.ray_namespace,
        creator_actor_id=group.creator_actor_id,
        bundles=[Bundle(one.bundle_index, one.unit_resources, one.label_selector) for one in group.bundles],
        creation_request_received_ns=group.creation_request_received_ns,
    )


def placement_group_lifecycle(group: wire.PlacementGroupLifecycleEvent) -> PlacementGroupUpdate:
    transitions = [
        PlacementGroupTransition(
            state=PLACEMENT_GROUP_STATE.name(step.state),
            timestamp_ns=nanoseconds(step.timestamp),
            scheduling_state=SCHEDULING_STATE.name(step.scheduling_state),
            scheduling_attempt=step.scheduling_attempt,
            highest_retry_delay_ms=step.highest_retry_delay_ms,
            placements={one.bundle_index: one.node_id for one in step.bundle_placements},
        )
        for step in group.state_transitions
    ]
    return PlacementGroupUpdate(group.placement_group_id, transitions)


def submission_job_definition(job: wire.SubmissionJobDefinitionEvent) -> SubmissionJobDefinition:
    config = job.config or wire.SubmissionJobConfig()
    needs = job.entrypoint_resources
    return SubmissionJobDefinition(
        submission_id=job.submission_id,
        entrypoint=job.entrypoint,
        runtime_env_json=config.serialized_runtime_env,
        metadata=config.metadata,
        entrypoint_num_cpus=None if needs is None else needs.num_cpus,
        entrypoint_num_gpus=None if needs is None else needs.num_gpus,
        entrypoint_memory=None if needs is None else needs.memory,
        entrypoint_resources=None if needs is None else needs.custom_resources,
    )


def submission_job_lifecycle(job: wire.SubmissionJobLifecycleEvent) -> list[SubmissionJobUpdate]:
    return [
        SubmissionJobUpdate(
            submission_id=job.submission_id,
            status=POSTED_JOB_STATUS.name(step.state),
            timestamp_ns=nanoseconds(step.timestamp),
            message=step.message or None,
            error_type=step.error_type or None,
            driver_agent_http_address=step.driver_agent_http_address or None,
            driver_node_id=step.driver_node_id.hex() or None,
            driver_exit_code=step.driver_exit_code,
        )
        for step in job.state_transitions
    ]


def worker_definition(worker: wire.WorkerDefinitionEvent) -> WorkerDefinition:
    kind = WORKER_TYPE.name(worker.worker_type)
    return WorkerDefinition(worker.worker_id, worker.node_id, kind, worker.pid)


def _worker_transition(step: wire.WorkerStateTransition) -> WorkerTransition:
    death = step.death_info
    return WorkerTransition(
        state=ALIVE_OR_DEAD.name(step.state),
        timestamp_ns=nanoseconds(step.timestamp),
        worker_launch_time_ms=unsigned(step.worker_launch_time_ms, UINT64_MAX),
        worker_launched_time_ms=unsigned(step.worker_launched_time_ms, UINT64_MAX),
        start_time_ms=unsigned(step.start_time_ms, UINT64_MAX),
        end_time_ms=unsigned(step.end_time_ms, UINT64_MAX),
        exit_type=None if death is None else WORKER_EXIT_TYPE.name(death.exit_type),
        exit_detail=None if death is None else death.exit_detail,
    )


def worker_lifecycle(worker: wire.WorkerLifecycleEvent) -> WorkerUpdate:
    transitions = [_worker_transition(step) for step in worker.state_transitions]
    return WorkerUpdate(worker.worker_id, worker.job_id, transitions)
