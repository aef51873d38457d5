"""What a session's records and its log folder show of it: which libraries it uses, and that a job began or ended. Pure but for ``look``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pipeline.files import folder as opened

_JOBS = (b"DRIVER_JOB_DEFINITION_EVENT", b"DRIVER_JOB_LIFECYCLE_EVENT", b"EXPORT_DRIVER_JOB", b"EXPORT_SUBMISSION_JOB")


class Uses:
    """Whether a session uses Ray Data, Serve, Train and the export API, as far as its records and its log folder show."""

    _SIGNS: ClassVar = {
        "data": (b"datasets_stats_actor", b"EXPORT_DATASET_"),
        "export": (b"EXPORT_NODE", b"EXPORT_ACTOR", b"EXPORT_TASK"),
        "serve": (b"SERVE_CONTROLLER_ACTOR",),
        "train": (b"train_v2_state_actor", b"EXPORT_TRAIN_"),
    }
    _FOLDERS: ClassVar = {"data": "ray-data", "serve": "serve", "train": "train"}

    def __init__(self) -> None:
        self.found: set[str] = set()

    def see(self, records: bytes) -> None:
        """Look for signs in records on their way to the store."""
        for library, signs in self._SIGNS.items():
            if library not in self.found and any(sign in records for sign in signs):
                self.found.add(library)

    def look(self, ray_tmp: Path, session: str) -> None:
        """Look for signs in the session's log folder. Blocking."""
        for library, name in self._FOLDERS.items():
            with opened(ray_tmp, session, "logs", name) as fd:
                if fd is not None:
                    self.found.add(library)


def tells_of_jobs(records: bytes) -> bool:
    """Whether records on their way to the store tell of a job."""
    return any(sign in records for sign in _JOBS)
