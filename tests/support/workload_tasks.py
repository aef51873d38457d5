# ruff: noqa: T201 - what is printed is recorded
"""What the recorded session ``tasks`` and the real-Ray tests let Ray do with tasks. Runs inside Ray; never imported.

Nested, retried, crashing, cancelled, streaming, waiting for what never comes; with environments, names and labels
of their own. Handed in as a job whose runtime environment has a secret. Says ``ready`` and goes on waiting.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

import ray

FAILURES = (ray.exceptions.RayError, ray.exceptions.RayTaskError, ValueError, StopIteration)


@ray.remote(num_cpus=0.1)
def leaf(number):
    print(f"leaf {number}", flush=True)
    return number


@ray.remote(num_cpus=0.1)
def branch(depth):
    children = [branch.remote(depth - 1) if depth else leaf.remote(depth) for _ in range(2)]
    return sum(ray.get(children))


@ray.remote(num_cpus=0.1, max_retries=1, retry_exceptions=[RuntimeError])
def flaky(note):
    if not os.path.exists(note):
        Path(note).touch()
        raise RuntimeError("\x1b[31mfails\x1b[0m the first time: größer ☃")
    return "done"


@ray.remote(num_cpus=0.1, max_retries=1)
def crashes():
    os._exit(3)


@ray.remote(num_cpus=0.1, num_returns="streaming")
def counts(upto, fails=False):
    for number in range(upto):  # noqa: UP028 - Ray sends into what it is given
        yield number
    if fails:
        raise ValueError("no more numbers")


@ray.remote(num_cpus=0.1)
def sleeps(note):
    Path(note).touch()
    while True:
        time.sleep(0.05)


@ray.remote(num_cpus=0.1)
def parent_of_sleeper(note):
    return ray.get(sleeps.options(name="child-sleeper").remote(note))


@ray.remote(num_cpus=0.1)
def environment():
    print("one line out", flush=True)
    print("one line err", file=sys.stderr, flush=True)
    return os.environ["PASSWORD"]


@ray.remote(num_cpus=0.1, label_selector={"zone": "in(east,west)"})
def in_zone():
    return "east"


@ray.remote(num_cpus=0.1, label_selector={"zone": "north"})
def nowhere():
    pass


@ray.remote(num_cpus=0.1)
def adds(*numbers):
    return sum(numbers)


def wait_for(ask, what):
    end = time.monotonic() + 60
    while not ask():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.02)


def cancel(folder, name, **how):
    """Let a task run, and cancel it then."""
    note = f"{folder}/{name}"
    task = parent_of_sleeper if how.get("recursive") else sleeps
    running = task.options(name=name, max_retries=0).remote(note)
    wait_for(lambda: os.path.exists(note), name)
    ray.cancel(running, **how)
    with contextlib.suppress(*FAILURES):
        ray.get(running)


def main(folder):
    assert ray.get(branch.remote(1)) == 0
    assert ray.get(flaky.options(name="flaky 'quoted' ☃").remote(f"{folder}/flaky")) == "done"
    with contextlib.suppress(*FAILURES):
        ray.get(crashes.remote())
    assert [ray.get(each) for each in counts.remote(3)] == [0, 1, 2]
    with contextlib.suppress(*FAILURES):
        for each in counts.options(name="breaks").remote(1, fails=True):
            ray.get(each)
    cancel(folder, "cancelled-running")
    cancel(folder, "cancelled-by-force", force=True)
    cancel(folder, "cancelled-with-children", recursive=True)
    assert ray.get(environment.options(runtime_env={"env_vars": {"PASSWORD": "hunter2-of-task"}}).remote())
    with contextlib.suppress(*FAILURES):
        ray.get(leaf.options(name="no-environment", runtime_env={"conda": "nothing-of-that-name"}).remote(7))
    assert ray.get(in_zone.remote()) == "east"
    assert ray.get(adds.remote(1, leaf.remote(2), ray.put(b"x" * 200_000 and 3))) == 6
    never = nowhere.remote()
    after = adds.options(name="after-never").remote(never)
    print("ready", flush=True)
    while True:
        time.sleep(3600)
    del after


if __name__ == "__main__":
    ray.init(address="auto", log_to_driver=False)
    with tempfile.TemporaryDirectory() as notes:
        main(notes)
