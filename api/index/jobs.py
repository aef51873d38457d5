"""The jobs of a session: drivers that connected, and submissions that the Job API took.

A submission is known from its own records (where Ray writes them), from its driver's metadata, and from
what the Job API logged when it began and ended; each alone is enough to know that it was.

Promises: any order, any repetition, either dialect or both give the same jobs. What it leaves to others:
how driver and submission become one row (``views/jobs.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from api.index.order import NEVER, combine, earlier_ms, greater, is_whole_second, order_of, supersedes
from pipeline.events import (
    DriverJobDefinition,
    DriverJobUpdate,
    LogEvent,
    SubmissionJobDefinition,
    SubmissionJobUpdate,
)

TERMINAL = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})
_JOB_BYTES = 1500
_STARTED = re.compile(r"Started a ray job (\S+)\.")
_COMPLETED = re.compile(r"Completed a ray job (\S+) with a status ([A-Z]+)\.(?: (.*))?", re.DOTALL)


class Driver(Struct, gc=False):
    """One process that connected with ``ray.init``. Times in ms, 0 where unknown or not yet."""

    job_id: bytes
    definition: DriverJobDefinition | None = None
    is_dead: bool = False
    start_ms: int = 0
    end_ms: int = 0

    @property
    def submission_id(self) -> str:
        """The submission that started it; empty for a driver started by hand."""
        return self.definition.metadata.get("job_submission_id", "") if self.definition is not None else ""


class Submission(Struct, gc=False):
    """One job handed in by the Job API.

    ``first_ns`` is the exact time of its first status, 0 where only whole seconds are known; ``logged_*`` is
    what the Job API's log events say, in whole seconds.
    """

    submission_id: str
    definition: SubmissionJobDefinition | None = None
    latest: int = NEVER
    status: SubmissionJobUpdate | None = None
    first_ns: int = 0
    start_ms: int = 0
    end_ms: int = 0
    agent_address: str | None = None
    driver_node_id: str | None = None
    exit_code: int | None = None
    logged_start_ms: int = 0
    logged_end_ms: int = 0
    logged_status: str = ""
    logged_message: str = ""

    def apply(self, update: SubmissionJobUpdate, order: int) -> None:
        """Take one status into account. A terminal status is final."""
        final, was_final = update.status in TERMINAL, self.status is not None and self.status.status in TERMINAL
        if final > was_final or (final == was_final and supersedes(order, update, self.latest, self.status)):
            self.latest, self.status = order, update
        if not is_whole_second(update.timestamp_ns):
            self.first_ns = earlier_ms(self.first_ns, update.timestamp_ns)
        self.start_ms = earlier_ms(self.start_ms, update.start_time_ms)
        self.end_ms = earlier_ms(self.end_ms, update.end_time_ms)
        self.agent_address = greater(self.agent_address, update.driver_agent_http_address)
        self.driver_node_id = greater(self.driver_node_id, update.driver_node_id)
        self.exit_code = greater(self.exit_code, update.driver_exit_code)


class JobTable:
    """Drivers by job id, submissions by submission id."""

    def __init__(self) -> None:
        self._drivers: dict[bytes, Driver] = {}
        self._submissions: dict[str, Submission] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._drivers) + len(self._submissions)

    def drivers(self) -> Iterator[Driver]:
        return iter(self._drivers.values())

    def submissions(self) -> Iterator[Submission]:
        return iter(self._submissions.values())

    def driver(self, job_id: bytes) -> Driver | None:
        return self._drivers.get(job_id)

    def submission(self, submission_id: str) -> Submission | None:
        return self._submissions.get(submission_id)

    def ends(self) -> dict[bytes, int]:
        """When drivers ended, in ms, by job id."""
        return {driver.job_id: driver.end_ms for driver in self._drivers.values() if driver.is_dead}

    def define_driver(self, record: DriverJobDefinition, position: int) -> None:
        """Take in what a driver is."""
        driver = self._driver(record.job_id)
        driver.definition = combine(driver.definition, record)

    def update_driver(self, record: DriverJobUpdate, position: int) -> None:
        """Take in whether a driver still runs. Dead is final."""
        driver = self._driver(record.job_id)
        driver.is_dead = driver.is_dead or record.is_dead
        driver.start_ms = earlier_ms(driver.start_ms, record.start_time_ms)
        driver.end_ms = earlier_ms(driver.end_ms, record.end_time_ms)

    def define_submission(self, record: SubmissionJobDefinition, position: int) -> None:
        """Take in what a submission is."""
        submission = self._submission(record.submission_id)
        submission.definition = combine(submission.definition, record)

    def update_submission(self, record: SubmissionJobUpdate, position: int) -> None:
        """Take in what became of a submission."""
        self._submission(record.submission_id).apply(record, order_of(record.timestamp_ns, position))

    def log(self, event: LogEvent) -> None:
        """Take in what the Job API logged."""
        stamp = event.timestamp_ns // 1_000_000
        if started := _STARTED.fullmatch(event.message):
            submission = self._submission(started[1])
            submission.logged_start_ms = earlier_ms(submission.logged_start_ms, stamp)
        elif completed := _COMPLETED.fullmatch(event.message):
            submission = self._submission(completed[1])
            submission.logged_end_ms = earlier_ms(submission.logged_end_ms, stamp)
            submission.logged_status = max(submission.logged_status, completed[2])
            submission.logged_message = max(submission.logged_message, completed[3] or "")

    def _driver(self, job_id: bytes) -> Driver:
        driver = self._drivers.get(job_id)
        if driver is None:
            driver = self._drivers[job_id] = Driver(job_id)
            self.nbytes += _JOB_BYTES
        return driver

    def _submission(self, submission_id: str) -> Submission:
        submission = self._submissions.get(submission_id)
        if submission is None:
            submission = self._submissions[submission_id] = Submission(submission_id)
            self.nbytes += _JOB_BYTES
        return submission
