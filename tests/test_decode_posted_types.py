"""All 17 event types, written by Ray's own protobufs in every spelling, come out as what they say."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

pytest.importorskip("ray", reason="Ray is not installed, and its protobufs are the specification")

from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import MessageToDict
from ray.core.generated import common_pb2
from ray.core.generated.events_event_aggregator_service_pb2 import AddEventsRequest
from ray.dashboard.modules.task_events.ray_event_converter import convert_to_task_events
from ray.dashboard.utils import message_to_dict
from support.protos import EVENT_TYPES, RayEvent, as_posted, payload_field, ray_event

from pipeline import events
from pipeline.decoding.decode import decode_block
from pipeline.decoding.dialects import posted_wire, wire
from pipeline.events import Record

SEEDS = range(12)
TASK_TYPES = ["TASK_DEFINITION_EVENT", "TASK_LIFECYCLE_EVENT", "ACTOR_TASK_DEFINITION_EVENT", "TASK_PROFILE_EVENT"]


def records(*lines: bytes) -> list[Record]:
    decoded = decode_block(b"".join(line + b"\n" for line in lines), "ray_event")
    assert decoded.rejected == []
    assert decoded.unknown == {}
    assert decoded.lines == len(lines)
    return decoded.records


def ns(timestamp: Any) -> int:
    return int(timestamp.seconds * 10**9 + timestamp.nanos)


def numbers_for_int64s(line: bytes) -> bytes:
    """The line with every text that is an integer as a number."""

    def change(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: change(item) for name, item in value.items()}
        if isinstance(value, list):
            return [change(item) for item in value]
        return int(value) if isinstance(value, str) and value.isdigit() else value

    return json.dumps(change(json.loads(line))).encode()


def nulls_for_absent(line: bytes, snake: bool) -> bytes:
    """The line with a null for every payload that it doesn't have, and for every field that says nothing."""

    def change(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: change(item) if item not in ("", 0, False, [], {}) else None for name, item in value.items()}
        return [change(item) for item in value] if isinstance(value, list) else value

    value = change(json.loads(line))
    for name in map(payload_field, EVENT_TYPES):
        value.setdefault(name if snake else RayEvent.DESCRIPTOR.fields_by_name[name].json_name, None)
    return json.dumps(value).encode()


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_spelling_of_an_event_gives_the_same_records(event_type: str) -> None:
    for seed in SEEDS:
        event = ray_event(event_type, seed)
        camel, snake = as_posted(event), as_posted(event, snake=True)
        first = records(camel)
        assert first, "no record came of it"
        spellings = [
            snake,
            as_posted(event, use_integers_for_enums=True),
            as_posted(event, snake=True, use_integers_for_enums=True),
            nulls_for_absent(camel, snake=False),
            nulls_for_absent(snake, snake=True),
        ]
        if event_type != "PLATFORM_EVENT":  # kept whole, so as it is written
            for spelling in [*spellings, numbers_for_int64s(camel)]:
                assert records(spelling) == first, spelling
        assert records(snake, camel) == first * 2


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_an_event_with_nothing_but_its_ids_is_an_event_and_null_is_nothing(event_type: str) -> None:
    event = RayEvent(event_type=event_type)
    payload = getattr(event, payload_field(event_type))
    payload.SetInParent()
    for field in payload.DESCRIPTOR.fields[:1]:
        if field.name.endswith("_id"):
            setattr(payload, field.name, b"\x01" * 28 if field.type == field.TYPE_BYTES else "raysubmit_1")
    for snake in (False, True):
        line = as_posted(event, snake=snake)
        if event_type != "PLATFORM_EVENT":
            assert records(nulls_for_absent(line, snake)) == records(line)


@pytest.mark.parametrize("event_type", TASK_TYPES)
def test_a_task_event_means_what_rays_own_converter_makes_of_it(event_type: str) -> None:
    for seed in SEEDS:
        event = ray_event(event_type, seed)
        if event_type == "TASK_DEFINITION_EVENT":
            event.task_definition_event.task_id = event.task_definition_event.task_id[:24]
        request = AddEventsRequest()
        request.events_data.events.append(event)
        [theirs] = convert_to_task_events(request)[0]
        [ours] = records(as_posted(event))
        assert isinstance(ours, events.TaskDefinition | events.TaskUpdate | events.TaskProfile)
        assert (ours.task_id, ours.attempt_number, ours.job_id) == (
            theirs.task_id,
            theirs.attempt_number,
            theirs.job_id,
        )
        match ours:
            case events.TaskDefinition():
                same_definition(ours, theirs.task_info)
            case events.TaskUpdate():
                same_update(ours, theirs.state_updates)
            case events.TaskProfile():
                same_profile(ours, theirs.profile_events)


def same_definition(ours: events.TaskDefinition, theirs: Any) -> None:
    assert ours.type == common_pb2.TaskType.Name(theirs.type)
    assert ours.language == common_pb2.Language.Name(theirs.language)
    assert ours.func_or_class_name == theirs.func_or_class_name
    assert ours.name == theirs.name
    assert ours.parent_task_id == theirs.parent_task_id
    assert ours.actor_id == theirs.actor_id
    assert ours.placement_group_id == theirs.placement_group_id
    assert ours.required_resources == dict(theirs.required_resources)
    assert ours.serialized_runtime_env == theirs.runtime_env_info.serialized_runtime_env
    assert ours.call_site == theirs.call_site
    assert ours.label_selector == dict(theirs.label_selector)
    assert ours.is_detached_actor == theirs.is_detached_actor
    assert ours.fallback_strategy == MessageToDict(
        theirs.fallback_strategy, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def same_update(ours: events.TaskUpdate, theirs: Any) -> None:
    assert dict(ours.states) == dict(theirs.state_ts_ns)
    assert (ours.node_id, ours.worker_id, ours.worker_pid) == (theirs.node_id, theirs.worker_id, theirs.worker_pid)
    assert ours.error_type == common_pb2.ErrorType.Name(theirs.error_info.error_type)
    assert ours.error_message == theirs.error_info.error_message
    assert ours.is_debugger_paused == theirs.is_debugger_paused
    assert ours.actor_repr_name == theirs.actor_repr_name
    assert ours.log_info is not None
    for name in events.TaskLogInfo.__struct_fields__:
        assert getattr(ours.log_info, name) == getattr(theirs.task_log_info, name)


def same_profile(ours: events.TaskProfile, theirs: Any) -> None:
    assert ours.component_type == theirs.component_type
    assert ours.component_id == theirs.component_id
    assert ours.node_ip_address == theirs.node_ip_address
    assert [(e.start_ns, e.end_ns, e.event_name, e.extra_data) for e in ours.events] == [
        (e.start_time, e.end_time, e.event_name, e.extra_data) for e in theirs.events
    ]


def test_a_task_update_says_only_what_its_event_says() -> None:
    event = RayEvent(event_type="TASK_LIFECYCLE_EVENT")
    event.task_lifecycle_event.task_id = b"t" * 24
    event.task_lifecycle_event.task_log_info.stdout_end = 0
    [ours] = records(as_posted(event))
    assert ours == events.TaskUpdate(
        task_id=b"t" * 24, attempt_number=0, job_id=b"", states=[], log_info=events.TaskLogInfo(stdout_end=0)
    )


def test_a_state_that_a_newer_ray_has_added_is_passed_over() -> None:
    event = RayEvent(event_type="TASK_LIFECYCLE_EVENT")
    event.task_lifecycle_event.task_id = b"t" * 24
    event.task_lifecycle_event.state_transitions.add(state="RUNNING").timestamp.seconds = 5
    event.task_lifecycle_event.state_transitions.add(state="FINISHED").timestamp.seconds = 6
    line = as_posted(event)
    for new in (b'"DANCING"', b"77", b'"77"'):
        [ours] = records(line.replace(b'"FINISHED"', new))
        assert isinstance(ours, events.TaskUpdate)
        assert ours.states == [(8, 5 * 10**9)]


def test_actor_transitions_carry_the_death_cause_as_rays_state_api_shows_it() -> None:
    for seed in SEEDS:
        event = ray_event("ACTOR_LIFECYCLE_EVENT", seed)
        for line in (as_posted(event), as_posted(event, snake=True)):
            [ours] = records(line)
            assert isinstance(ours, events.ActorUpdate)
            for one, theirs in zip(ours.transitions, event.actor_lifecycle_event.state_transitions, strict=True):
                assert one.death_cause == message_to_dict(
                    theirs.death_cause,
                    ["actor_id", "owner_id", "job_id", "node_id", "placement_group_id"],
                    always_print_fields_with_no_presence=True,
                    preserving_proto_field_name=True,
                )
                assert one.timestamp_ns == ns(theirs.timestamp)
                assert (one.node_id, one.worker_id, one.pid, one.port, one.repr_name) == (
                    theirs.node_id,
                    theirs.worker_id,
                    theirs.pid,
                    theirs.port,
                    theirs.repr_name,
                )
                names = type(event.actor_lifecycle_event)
                assert one.state == names.State.Name(theirs.state)
                assert one.restart_reason == names.RestartReason.Name(theirs.restart_reason)


def test_definitions_take_every_field_of_their_event_that_they_have() -> None:
    """Where model and protobuf share a name they share the value, shown as bytes, text, number or map."""
    for event_type in EVENT_TYPES:
        if not event_type.endswith("DEFINITION_EVENT") or "TASK" in event_type:
            continue
        for seed in SEEDS:
            event = ray_event(event_type, seed)
            payload = getattr(event, payload_field(event_type))
            [ours] = records(as_posted(event))
            shared = set(ours.__struct_fields__) & set(payload.DESCRIPTOR.fields_by_name)
            assert len(shared) >= 2
            for name in shared - {"bundles", "entrypoint_resources"}:
                assert getattr(ours, name) == plain(payload, name), name


def plain(payload: Any, name: str) -> Any:
    field, value = payload.DESCRIPTOR.fields_by_name[name], getattr(payload, name)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return dict(value) if field.message_type is not None and field.message_type.GetOptions().map_entry else value


def test_node_events_say_state_resources_and_death() -> None:
    for seed in SEEDS:
        event = ray_event("NODE_LIFECYCLE_EVENT", seed)
        [ours] = records(as_posted(event))
        assert isinstance(ours, events.NodeUpdate)
        theirs = event.node_lifecycle_event
        assert ours.node_id == theirs.node_id
        kind = type(theirs)
        for one, step in zip(ours.transitions, theirs.state_transitions, strict=True):
            assert one == events.NodeTransition(
                state=kind.State.Name(step.state),
                timestamp_ns=ns(step.timestamp),
                resources=dict(step.resources),
                death_reason=kind.DeathInfo.Reason.Name(step.death_info.reason),
                death_reason_message=step.death_info.reason_message,
                alive_sub_state=kind.AliveSubState.Name(step.alive_sub_state),
            )
        deaths = [ns(step.timestamp) // 10**6 for step in theirs.state_transitions if step.state == kind.DEAD]
        assert ours.end_time_ms == max(deaths, default=0)
        definition = ray_event("NODE_DEFINITION_EVENT", seed)
        [node] = records(as_posted(definition))
        assert isinstance(node, events.NodeDefinition)
        assert node.start_time_ms == ns(definition.node_definition_event.start_timestamp) // 10**6


def test_worker_events_say_times_and_exit() -> None:
    for seed in SEEDS:
        event = ray_event("WORKER_LIFECYCLE_EVENT", seed)
        event.worker_lifecycle_event.state_transitions[0].end_time_ms = (1 << 64) - 1
        [ours] = records(as_posted(event))
        theirs = event.worker_lifecycle_event
        assert ours == events.WorkerUpdate(
            worker_id=theirs.worker_id,
            job_id=theirs.job_id,
            transitions=[
                events.WorkerTransition(
                    state=type(theirs).State.Name(step.state),
                    timestamp_ns=ns(step.timestamp),
                    worker_launch_time_ms=step.worker_launch_time_ms,
                    worker_launched_time_ms=step.worker_launched_time_ms,
                    start_time_ms=step.start_time_ms,
                    end_time_ms=step.end_time_ms,
                    exit_type=common_pb2.WorkerExitType.Name(step.death_info.exit_type),
                    exit_detail=step.death_info.exit_detail,
                )
                for step in theirs.state_transitions
            ],
        )


def test_placement_group_events_say_bundles_and_placements() -> None:
    for seed in SEEDS:
        event = ray_event("PLACEMENT_GROUP_DEFINITION_EVENT", seed)
        [group] = records(as_posted(event))
        assert isinstance(group, events.PlacementGroupDefinition)
        assert group.bundles == [
            events.Bundle(one.bundle_index, dict(one.unit_resources), dict(one.label_selector))
            for one in event.placement_group_definition_event.bundles
        ]
        event = ray_event("PLACEMENT_GROUP_LIFECYCLE_EVENT", seed)
        theirs = event.placement_group_lifecycle_event
        assert records(as_posted(event)) == [
            events.PlacementGroupUpdate(
                placement_group_id=theirs.placement_group_id,
                transitions=[
                    events.PlacementGroupTransition(
                        state=type(theirs).State.Name(step.state),
                        timestamp_ns=ns(step.timestamp),
                        scheduling_state=type(theirs).SchedulingState.Name(step.scheduling_state),
                        scheduling_attempt=step.scheduling_attempt,
                        highest_retry_delay_ms=step.highest_retry_delay_ms,
                        placements={one.bundle_index: one.node_id for one in step.bundle_placements},
                    )
                    for step in theirs.state_transitions
                ],
            )
        ]


def test_job_events_say_config_states_and_needs() -> None:
    for seed in SEEDS:
        event = ray_event("DRIVER_JOB_DEFINITION_EVENT", seed)
        [job] = records(as_posted(event))
        assert isinstance(job, events.DriverJobDefinition)
        assert job.metadata == dict(event.driver_job_definition_event.config.metadata)
        assert job.serialized_runtime_env == event.driver_job_definition_event.config.serialized_runtime_env
        event = ray_event("SUBMISSION_JOB_DEFINITION_EVENT", seed)
        [submitted] = records(as_posted(event))
        assert isinstance(submitted, events.SubmissionJobDefinition)
        theirs = event.submission_job_definition_event
        needs = theirs.entrypoint_resources
        assert submitted.runtime_env_json == theirs.config.serialized_runtime_env
        assert submitted.entrypoint_num_cpus == needs.num_cpus
        assert submitted.entrypoint_num_gpus == needs.num_gpus
        assert submitted.entrypoint_memory == needs.memory
        assert submitted.entrypoint_resources == dict(needs.custom_resources)


def test_a_driver_job_is_dead_once_it_finished() -> None:
    event = RayEvent(event_type="DRIVER_JOB_LIFECYCLE_EVENT")
    job = event.driver_job_lifecycle_event
    job.job_id = b"\x01\0\0\0"
    job.state_transitions.add(state="CREATED").timestamp.seconds = 10
    assert records(as_posted(event)) == [events.DriverJobUpdate(job.job_id, False, 10_000, 0)]
    job.state_transitions.add(state="FINISHED").timestamp.seconds = 20
    assert records(as_posted(event)) == [events.DriverJobUpdate(job.job_id, True, 10_000, 20_000)]


def test_each_step_of_a_submitted_job_is_an_update() -> None:
    for seed in SEEDS:
        event = ray_event("SUBMISSION_JOB_LIFECYCLE_EVENT", seed)
        theirs = event.submission_job_lifecycle_event
        assert records(as_posted(event)) == [
            events.SubmissionJobUpdate(
                submission_id=theirs.submission_id,
                status=type(theirs).State.Name(step.state),
                timestamp_ns=ns(step.timestamp),
                message=step.message,
                error_type=step.error_type,
                driver_agent_http_address=step.driver_agent_http_address,
                driver_node_id=step.driver_node_id.hex(),
                driver_exit_code=step.driver_exit_code,
            )
            for step in theirs.state_transitions
        ]


def test_a_platform_event_is_kept_as_rays_own_page_shows_it() -> None:
    event = ray_event("PLATFORM_EVENT")
    event.platform_event.custom_fields["kept_as_it_is"] = "x"
    shown = json.loads(json.dumps(message_to_dict(event, always_print_fields_with_no_presence=True)))
    for line in (as_posted(event), as_posted(event, snake=True)):
        [ours] = records(line)
        assert isinstance(ours, events.Opaque)
        assert (ours.kind, ours.key, ours.timestamp_ns) == ("PLATFORM_EVENT", shown["eventId"], ns(event.timestamp))
        assert ours.data == shown


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_the_fields_we_read_are_fields_that_ray_writes(event_type: str) -> None:
    field = RayEvent.DESCRIPTOR.fields_by_name[payload_field(event_type)]
    hint = msgspec.structs.fields(posted_wire.Event)
    [payload] = [one.type for one in hint if one.name == field.name]
    for struct in structs_in(payload):
        same_names(struct, field.message_type)


def structs_in(hint: Any) -> list[type[msgspec.Struct]]:
    inside = [hint, *getattr(hint, "__args__", ())]
    return [one for one in inside if isinstance(one, type) and issubclass(one, msgspec.Struct)]


def same_names(struct: type[msgspec.Struct], message: Descriptor) -> None:
    camel = wire.camel_case(struct)
    for field, renamed in zip(msgspec.structs.fields(struct), msgspec.structs.fields(camel), strict=True):
        theirs = message.fields_by_name[field.name]
        assert renamed.encode_name == theirs.json_name
        for inner in structs_in(field.type):
            same_names(inner, theirs.message_type)


@pytest.mark.parametrize(
    ("table", "theirs"),
    [
        (wire.TASK_TYPE, common_pb2.TaskType),
        (wire.LANGUAGE, common_pb2.Language),
        (wire.WORKER_TYPE, common_pb2.WorkerType),
        (wire.WORKER_EXIT_TYPE, common_pb2.WorkerExitType),
        (wire.ERROR_TYPE, common_pb2.ErrorType),
        (wire.PLACEMENT_STRATEGY, common_pb2.PlacementStrategy),
    ],
)
def test_the_enum_tables_are_rays(table: wire.EnumTable, theirs: Any) -> None:
    for name, number in theirs.items():
        assert table.name(number) == name
        assert table.name(name) == name
    assert table.name(max(theirs.values()) + 1) == str(max(theirs.values()) + 1)


def test_the_event_types_are_rays() -> None:
    assert list(posted_numbers()) == EVENT_TYPES
    assert tuple(common_pb2.TaskStatus.keys()) == events.TASK_STATUS
    assert list(common_pb2.TaskStatus.values()) == list(range(len(events.TASK_STATUS)))


def posted_numbers() -> dict[str, int]:
    """Event types by name, in the order of the numbers that decode to the same."""
    found = {}
    for name, number in RayEvent.EventType.items():
        event = RayEvent(event_type=name)
        payload = getattr(event, payload_field(name), None) if number else None
        if payload is None:
            continue
        fields = payload.DESCRIPTOR.fields[0]
        value: Any = b"\x01" * 24 if fields.type == fields.TYPE_BYTES else "one"
        if fields.message_type is None:
            setattr(payload, fields.name, value)
        payload.SetInParent()
        numbered = as_posted(event).replace(f'"{name}"'.encode(), str(number).encode())
        assert [type(one) for one in records(numbered)] == [type(one) for one in records(as_posted(event))]
        found[name] = number
    return found
