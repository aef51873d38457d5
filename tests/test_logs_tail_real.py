"""``ray job logs -f`` of a running job at a history server: each line while the job runs, and its end with the job's."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from support.processes import both_in_one, session_url
from support.rayhead import RAY, RayHead, fetch, ray_head, short_folder, until

pytestmark = pytest.mark.timeout(150)

LINES = 80
JOB = f"""
import time
for number in range({LINES}):
    print("printed", number, time.time(), flush=True)
    time.sleep(0.1)
"""


def test_rays_own_command_shows_each_line_as_it_is_printed(tmp_path: Path) -> None:
    with short_folder() as folder, ray_head("export", folder=folder) as head:
        options = [f"--dashboard={head.dashboard_url}", "--poll-interval=1s", "--log-age=3600s"]
        with both_in_one(tmp_path, folder / "r", *options) as program:
            address = session_url(program, head.session_name)
            until(lambda: fetch(f"{address}/api/v0/nodes")[0] == 200, "the session to be known")
            _submit(head, tmp_path)
            until(lambda: fetch(f"{address}/api/jobs/followed")[0] == 200, "the job to be known")
            numbers, waited, said = _follow(address)
            assert numbers == list(range(LINES)), said
            assert waited > LINES // 4, "it was followed while it was printed"
            assert list((tmp_path / "up" / "store").glob("**/job-driver-followed.log/*")) == [], "none of it is stored"


def _submit(head: RayHead, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    submit = [str(RAY), "job", "submit", "--no-wait", "--submission-id=followed", f"--address={head.dashboard_url}"]
    command = [*submit, "--", str(RAY.with_name("python")), str(tmp_path / "job.py")]
    subprocess.run(command, check=True, capture_output=True, timeout=60, env=head.environment)


def _follow(address: str) -> tuple[list[int], int, list[str]]:
    """The lines that came; how many of them were printed after the first had come; all that was said."""
    first = None
    numbers: list[int] = []
    waited = 0
    said: list[str] = []
    command = [str(RAY), "job", "logs", "-f", "followed", f"--address={address}"]
    environment = {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as it:
        assert it.stdout is not None
        for line in it.stdout:
            said.append(line)
            if line.startswith("printed "):
                _, number, at = line.split()
                numbers.append(int(number))
                first = first or time.time()
                waited += float(at) > first
    assert it.returncode == 0, said
    return numbers, waited, said
