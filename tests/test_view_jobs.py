"""A job is listed with the right type, ids, status and times, however much or little Ray told of it."""

from __future__ import annotations

from support.indexes import DETAIL, index_of

from api.query.query import Filter, ListOptions
from api.views import jobs, workers
from pipeline.events import (
    ActorDefinition,
    ActorTransition,
    ActorUpdate,
    DriverJobDefinition,
    DriverJobUpdate,
    LogEvent,
    NodeDefinition,
    Record,
    SubmissionJobDefinition,
    SubmissionJobUpdate,
)

S, MS = 1_000_000_000, 1_000_000
ONE, TWO, NODE = b"\1\0\0\0", b"\2\0\0\0", b"\7" * 28
SUPERVISOR = b"\3" * 12 + ONE
METADATA = {"job_submission_id": "raysubmit_a", "job_name": "raysubmit_a", "team": "x"}
DRIVER: list[Record] = [
    NodeDefinition(NODE, "192.0.2.2"),
    DriverJobDefinition(TWO, 42, "python x.py", NODE, serialized_runtime_env='{"pip": ["a"]}', metadata=METADATA),
    DriverJobUpdate(TWO, False, 5_000),
]
ENDED: list[Record] = [DriverJobUpdate(TWO, True, 0, 9_000)]


def logged(message: str, second: int) -> LogEvent:
    return LogEvent(message, "JOBS", "INFO", "", message, second * S, "global", {"message": message})


STARTED = logged("Started a ray job raysubmit_a.", 4)
COMPLETED = logged("Completed a ray job raysubmit_a with a status SUCCEEDED.", 10)
FAILED = logged("Completed a ray job raysubmit_a with a status FAILED. Job supervisor actor died.\nSee logs.", 10)
SUPERVISED: list[Record] = [
    ActorDefinition(
        SUPERVISOR, ONE, "JobSupervisor", "_ray_internal_job_actor_raysubmit_a", "SUPERVISOR_ACTOR_RAY_NAMESPACE"
    ),
    ActorUpdate(SUPERVISOR, [ActorTransition("PENDING_CREATION", 4 * S + 300 * MS)]),
    ActorUpdate(SUPERVISOR, [ActorTransition("ALIVE", 4 * S + 900 * MS, NODE, NODE, 40)]),
    ActorUpdate(SUPERVISOR, [ActorTransition("DEAD", 9 * S + 100 * MS)]),
]


def only(records: list[Record]) -> jobs.Row:
    [row] = jobs.jobs_rest(index_of(records))
    return row


def test_a_driver_that_nobody_submitted_is_a_driver_job() -> None:
    records: list[Record] = [
        DriverJobDefinition(ONE, 7, "python y.py", metadata={"a": "b"}),
        DriverJobUpdate(ONE, False, 5),
    ]
    row = only(records)
    assert (row["type"], row["job_id"], row["submission_id"], row["status"]) == ("DRIVER", "01000000", None, "RUNNING")
    assert row["driver_info"] == {"id": "01000000", "node_ip_address": "", "pid": "7"}
    assert (row["end_time"], row["metadata"], row["message"]) == (0, {"a": "b"}, None)
    assert only([*records, DriverJobUpdate(ONE, True, 0, 8)])["status"] == "SUCCEEDED"


def test_without_records_of_its_own_a_submission_is_put_together_from_all_that_tells_of_it() -> None:
    assert only([*DRIVER, *ENDED, *SUPERVISED, STARTED, COMPLETED]) == {
        "type": "SUBMISSION",
        "job_id": "02000000",
        "submission_id": "raysubmit_a",
        "driver_info": {"id": "02000000", "node_ip_address": "192.0.2.2", "pid": "42"},
        "status": "SUCCEEDED",
        "entrypoint": "python x.py",
        "message": "Job finished successfully.",
        "error_type": None,
        "start_time": 4_300,
        "end_time": 9_100,
        "metadata": {"team": "x"},
        "runtime_env": {"pip": ["a"]},
        "driver_agent_http_address": None,
        "driver_node_id": NODE.hex(),
        "driver_exit_code": 0,
    }


def test_the_log_gives_times_and_message_where_nothing_else_does() -> None:
    row = only([*DRIVER, STARTED, FAILED])
    assert (row["status"], row["start_time"], row["end_time"]) == ("FAILED", 4_000, 10_000)
    assert row["message"] == "Job supervisor actor died.\nSee logs."
    assert row["driver_exit_code"] is None


def test_a_submission_runs_until_something_says_otherwise() -> None:
    assert only([STARTED])["status"] == "PENDING"
    assert only(SUPERVISED[:2])["status"] == "PENDING"
    assert only(SUPERVISED[:3])["status"] == "RUNNING"
    assert only(DRIVER)["status"] == "RUNNING"
    assert only(DRIVER)["end_time"] is None
    assert only(SUPERVISED)["status"] == "FAILED"
    assert only([*DRIVER, *ENDED])["status"] == "SUCCEEDED"


def test_a_submission_whose_driver_never_connected_has_no_job_id() -> None:
    row = only([STARTED, FAILED])
    assert (row["job_id"], row["driver_info"], row["entrypoint"]) == (None, None, jobs.NO_ENTRYPOINT)


def test_a_terminal_status_in_the_log_ends_a_submission_whose_own_records_stop_short() -> None:
    own: list[Record] = [
        SubmissionJobDefinition("raysubmit_a", "e"),
        SubmissionJobUpdate("raysubmit_a", "RUNNING", 5 * S),
    ]
    row = only([*own, FAILED])
    assert (row["status"], row["message"]) == ("FAILED", "Job supervisor actor died.\nSee logs.")


def test_posted_statuses_carry_their_own_times() -> None:
    own: list[Record] = [
        SubmissionJobDefinition("raysubmit_a", "e"),
        SubmissionJobUpdate("raysubmit_a", "PENDING", 5 * S + 3 * MS),
        SubmissionJobUpdate("raysubmit_a", "STOPPED", 6 * S + 4 * MS),
    ]
    assert only(own[:2])["end_time"] is None
    row = only(own)
    assert (row["start_time"], row["end_time"], row["message"]) == (5_003, 6_004, "Job was intentionally stopped.")


def test_only_ray_own_supervisors_make_a_submission() -> None:
    fake = ActorDefinition(SUPERVISOR, ONE, "Mine", "_ray_internal_job_actor_raysubmit_a", "my namespace")
    assert jobs.jobs_rest(index_of([fake])) == []


def test_a_job_is_found_by_either_id_and_an_unknown_one_is_not() -> None:
    index = index_of([*DRIVER, STARTED])
    found = jobs.job_rest(index, "raysubmit_a")
    assert found is not None
    assert found["job_id"] == "02000000"
    assert jobs.job_rest(index, "02000000") == found
    for unknown in ("03000000", "raysubmit_b", "", "zz", "../..", "é"):
        assert jobs.job_rest(index, unknown) is None
    assert jobs.does_not_exist("raysubmit_b") == "Job raysubmit_b does not exist"


def test_a_submission_shows_its_last_driver_unless_an_earlier_one_is_asked_for() -> None:
    index = index_of(
        [DriverJobDefinition(ONE, 1, "e", metadata=METADATA), DriverJobDefinition(TWO, 2, "e", metadata=METADATA)]
    )
    [row] = jobs.jobs_rest(index)
    assert row["job_id"] == "02000000"
    earlier = jobs.job_rest(index, "01000000")
    assert earlier is not None
    assert (earlier["job_id"], earlier["submission_id"]) == ("01000000", "raysubmit_a")


def test_the_rest_list_has_submissions_first_and_the_state_api_sorts_by_job_id() -> None:
    index = index_of([*DRIVER, DriverJobDefinition(ONE, 1, "e"), STARTED, logged("Started a ray job raysubmit_0.", 1)])
    assert [row["submission_id"] for row in jobs.jobs_rest(index)] == ["raysubmit_0", "raysubmit_a", None]
    listed = jobs.list_jobs(index, DETAIL)
    assert [row["job_id"] for row in listed["result"]] == [None, "01000000", "02000000"]
    assert listed["total"] == 3
    mine = ListOptions(filters=(Filter("submission_id", "=", "raysubmit_a"),))
    assert [row["job_id"] for row in jobs.list_jobs(index, mine)["result"]] == ["02000000"]


def test_a_driver_that_a_submission_succeeded_with_left_of_its_own_will() -> None:
    def exit_type(records: list[Record]) -> object:
        rows = workers.list_workers(index_of(records), DETAIL)["result"]
        return next(row["exit_type"] for row in rows if row["worker_type"] == "DRIVER")

    assert exit_type([*DRIVER, *ENDED, COMPLETED]) == "INTENDED_USER_EXIT"
    assert exit_type([*DRIVER, *ENDED, FAILED]) is None
    assert exit_type([*DRIVER, *ENDED]) is None
    assert exit_type([*DRIVER, COMPLETED]) is None


def test_an_environment_that_is_no_json_object_is_shown_as_none() -> None:
    for text in ("not json", "[1]", "[" * 100_000, "null"):
        assert only([DriverJobDefinition(ONE, 1, serialized_runtime_env=text)])["runtime_env"] == {}
