"""Ray's answers about jobs: drivers and submissions become one row each, as the Job API shows them.

A submission's own records say all of this. Where Ray didn't write them (the posted dialect without
SUBMISSION_JOB events) the row is put together from the driver it started, the actor that ran it and what
the Job API logged: status and exit code as logged, times to the second or better.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from api.index.actors import Actor
from api.index.jobs import TERMINAL, Driver, Submission
from api.index.order import is_whole_second
from api.index.session_index import SessionIndex
from api.query.query import ListOptions, Row, list_response
from api.query.schemas import JOBS
from api.views.told_jobs import find, merge, with_told
from pipeline.redact import show_masked

NO_ENTRYPOINT = "Entrypoint not found."
_MS = 1_000_000
_MESSAGES = {
    "PENDING": "Job has not started yet.",
    "RUNNING": "Job is currently running.",
    "STOPPED": "Job was intentionally stopped.",
    "SUCCEEDED": "Job finished successfully.",
    "FAILED": "Job failed.",
}
_INTERNAL_METADATA = ("job_submission_id", "job_name")


class Submitted(Struct):
    """All that is known of one submission, from wherever."""

    submission_id: str
    record: Submission
    driver: Driver | None = None
    supervisor: Actor | None = None


def does_not_exist(job_id: str) -> str:
    """The text of Ray's 404."""
    return f"Job {job_id} does not exist"


def list_jobs(index: SessionIndex, options: ListOptions) -> dict[str, Any]:
    """``/api/v0/jobs``."""
    return list_response(with_told([*_driver_rows(index), *_submission_rows(index)], index.told_jobs), JOBS, options)


def jobs_rest(index: SessionIndex) -> list[Row]:
    """``/api/jobs/``: submissions first, then drivers of their own."""
    jobs = with_told([*_submission_rows(index), *_driver_rows(index)], index.told_jobs)
    return sorted(jobs, key=lambda job: job["type"], reverse=True)


def job_rest(index: SessionIndex, job_or_submission_id: str) -> Row | None:
    """``/api/jobs/{id}`` by either id; None for an unknown one."""
    ours = _job_rest(index, job_or_submission_id)
    theirs = find(index.told_jobs, job_or_submission_id, ours)
    return ours if theirs is None else merge(ours, theirs)


def _job_rest(index: SessionIndex, job_or_submission_id: str) -> Row | None:
    try:
        driver = index.jobs.driver(bytes.fromhex(job_or_submission_id))
    except ValueError:
        driver = None
    if driver is not None and not driver.submission_id:
        return _driver_row(index, driver)
    submission_id = driver.submission_id if driver is not None else job_or_submission_id
    known = _submissions(index).get(submission_id)
    if known is None:
        return None
    known.driver = driver or known.driver  # a submission shows its last driver, unless asked for by another's id
    return _submission_row(index, known)


def succeeded_with(index: SessionIndex, driver: Driver) -> bool:
    """Whether a submitted job ran this driver and is known to have succeeded."""
    record = index.jobs.submission(driver.submission_id) if driver.submission_id else None
    return record is not None and _told_status(record) == "SUCCEEDED"


def _driver_rows(index: SessionIndex) -> list[Row]:
    drivers = sorted(index.jobs.drivers(), key=lambda driver: driver.job_id.hex())
    return [_driver_row(index, driver) for driver in drivers if not driver.submission_id]


def _submission_rows(index: SessionIndex) -> list[Row]:
    rows = [_submission_row(index, known) for known in _submissions(index).values()]
    return sorted(rows, key=lambda row: (row["start_time"] or 0, row["submission_id"]))


def _submissions(index: SessionIndex) -> dict[str, Submitted]:
    found = {record.submission_id: Submitted(record.submission_id, record) for record in index.jobs.submissions()}

    def known(submission_id: str) -> Submitted:
        return found.setdefault(submission_id, Submitted(submission_id, Submission(submission_id)))

    for driver in sorted(index.jobs.drivers(), key=lambda driver: driver.job_id.hex()):
        if driver.submission_id:
            known(driver.submission_id).driver = driver
    for submission_id, actor_id in index.actors.supervisors().items():
        known(submission_id).supervisor = index.actors.get(actor_id)
    return found


def _driver_row(index: SessionIndex, driver: Driver) -> Row:
    what = driver.definition
    return {
        "type": "DRIVER",
        "job_id": driver.job_id.hex(),
        "submission_id": None,
        "driver_info": _driver_info(index, driver),
        "status": "SUCCEEDED" if driver.is_dead else "RUNNING",
        "entrypoint": what.entrypoint if what is not None else "",
        "message": None,
        "error_type": None,
        "start_time": driver.start_ms,
        "end_time": driver.end_ms,
        "metadata": what.metadata if what is not None else {},
        "runtime_env": _runtime_env(what.serialized_runtime_env) if what is not None else {},
        "driver_agent_http_address": None,
        "driver_node_id": None,
        "driver_exit_code": None,
    }


def _submission_row(index: SessionIndex, known: Submitted) -> Row:
    record, driver = known.record, known.driver
    status = _status(known)
    return {
        "type": "SUBMISSION",
        "job_id": driver.job_id.hex() if driver is not None else None,
        "submission_id": known.submission_id,
        "driver_info": _driver_info(index, driver) if driver is not None else None,
        "status": status,
        "entrypoint": _entrypoint(known),
        "message": _message(record, status),
        "error_type": record.status.error_type if record.status is not None else None,
        "start_time": _start_ms(known),
        "end_time": _end_ms(known) if status in TERMINAL else None,
        "metadata": _metadata(known),
        "runtime_env": _submitted_env(known),
        "driver_agent_http_address": record.agent_address,
        "driver_node_id": _driver_node(known),
        "driver_exit_code": _exit_code(record, status),
    }


def _driver_info(index: SessionIndex, driver: Driver) -> dict[str, str]:
    what = driver.definition
    address = (what.driver_ip_address or index.nodes.ip(what.driver_node_id)) if what is not None else ""
    return {
        "id": driver.job_id.hex(),
        "node_ip_address": address,
        "pid": str(what.driver_pid if what is not None else 0),
    }


def _status(known: Submitted) -> str:
    driver, supervisor = known.driver, known.supervisor
    if told := _told_status(known.record):
        return told
    if driver is not None:
        return "SUCCEEDED" if driver.is_dead else "RUNNING"  # as Ray says of drivers whose exit code it doesn't know
    if supervisor is not None:
        return {"DEAD": "FAILED", "ALIVE": "RUNNING"}.get(supervisor.state, "PENDING")
    return "PENDING"


def _told_status(record: Submission) -> str:
    """As its records or, where those don't end, the log say; empty where neither does."""
    told = record.status.status if record.status is not None else ""
    return told if told in TERMINAL else record.logged_status or told


def _message(record: Submission, status: str) -> str:
    told = record.status.message if record.status is not None and record.status.status == status else None
    return told or record.logged_message or _MESSAGES.get(status, "")


def _entrypoint(known: Submitted) -> str:
    if known.record.definition is not None and known.record.definition.entrypoint:
        return known.record.definition.entrypoint
    if known.driver is not None and known.driver.definition is not None:
        return known.driver.definition.entrypoint
    return NO_ENTRYPOINT


def _start_ms(known: Submitted) -> int | None:
    seen = [
        known.record.start_ms,
        known.record.first_ns // _MS,
        _exact_ms(known.supervisor.created_ns) if known.supervisor is not None else 0,
        known.record.logged_start_ms,
        known.driver.start_ms if known.driver is not None else 0,
    ]
    return next(filter(None, seen), None)


def _end_ms(known: Submitted) -> int | None:
    """Asked only where the status is terminal."""
    seen = [
        known.record.end_ms,
        _exact_ms(known.record.status.timestamp_ns) if known.record.status is not None else 0,
        _exact_ms(known.supervisor.end_ns) if known.supervisor is not None else 0,
        known.record.logged_end_ms,
        known.driver.end_ms if known.driver is not None else 0,
    ]
    return next(filter(None, seen), None)


def _exact_ms(time_ns: int) -> int:
    """A supervisor is made as its job begins and ends with it; its whole seconds say no more than the log does."""
    return 0 if is_whole_second(time_ns) else time_ns // _MS


def _metadata(known: Submitted) -> dict[str, str]:
    """What the user gave. Ray adds two of its own for the driver."""
    if known.record.definition is not None:
        return known.record.definition.metadata
    told = known.driver.definition.metadata if known.driver is not None and known.driver.definition is not None else {}
    return {
        name: value for name, value in told.items() if not (name in _INTERNAL_METADATA and value == known.submission_id)
    }


def _submitted_env(known: Submitted) -> dict[str, Any] | None:
    """None where a submission's own records say that it brought none."""
    if known.record.definition is not None:
        text = known.record.definition.runtime_env_json
        return _runtime_env(text) if text not in ("", "null") else None
    if known.driver is not None and known.driver.definition is not None:
        return _runtime_env(known.driver.definition.serialized_runtime_env)
    return {}


def _runtime_env(text: str) -> dict[str, Any]:
    try:
        env = show_masked(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        return {}
    return env if isinstance(env, dict) else {}


def _driver_node(known: Submitted) -> str | None:
    """The driver runs beside the actor that started it."""
    if known.record.driver_node_id:
        return known.record.driver_node_id
    if known.driver is not None and known.driver.definition is not None and known.driver.definition.driver_node_id:
        return known.driver.definition.driver_node_id.hex()
    if known.supervisor is not None and known.supervisor.place is not None:
        return known.supervisor.place.node_id.hex()
    return None


def _exit_code(record: Submission, status: str) -> int | None:
    """A job has succeeded only if its driver exited with 0."""
    if record.exit_code is None and status == "SUCCEEDED" and (record.status or record.logged_status):
        return 0
    return record.exit_code
