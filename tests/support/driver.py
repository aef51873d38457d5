"""What the real-Ray tests let Ray do: a driver script, handed in as a job. Runs inside Ray; never imported.

    python driver.py finishes    every kind of end: finished, failed, retried, died, cancelled, restarted, killed
    python driver.py stays       leaves tasks pending and running, says ``ready`` and waits to be killed

Counts don't depend on luck: where an answer could come early or late, it waits for Ray's word first.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy


@ray.remote(num_cpus=0.1)
def leaf(number):
    return number * number


@ray.remote(num_cpus=0.1)
def fan_out(count):
    return sum(ray.get([leaf.remote(number) for number in range(count)]))


@ray.remote(num_cpus=0.1, max_retries=1, retry_exceptions=True)
def fails():
    raise ValueError("always fails")


@ray.remote(num_cpus=0.1, max_retries=3, retry_exceptions=True)
def flaky(notes):
    notes = Path(notes)
    if not notes.exists():
        notes.touch()
        raise RuntimeError("fails the first time")
    return "done"


@ray.remote(num_cpus=0.1, max_retries=0)
def dies():
    os._exit(1)


@ray.remote(num_cpus=0.1)
def in_group():
    return "grouped"


@ray.remote(num_cpus=64)
def never_fits():
    pass


@ray.remote(num_cpus=0.1)
def waits():
    while True:
        time.sleep(3600)


@ray.remote(num_cpus=0.1)
def after(before):
    return before


@ray.remote(num_cpus=0.1)
def asks():
    return ray.get(waits.options(name="inner-wait").remote())


@ray.remote(num_cpus=0.1, max_restarts=1)
class Counter:
    def __init__(self):
        self.number = 0

    def add(self, step=1):
        self.number += step
        return self.number

    def crash(self):
        os._exit(1)

    def block(self):
        while True:
            time.sleep(3600)


@ray.remote(num_cpus=0.1)
class Doomed:
    def __init__(self):
        raise ValueError("can't be made")


@ray.remote(num_cpus=64)
class Giant:
    pass


def wait_for(ask, what):
    end = time.monotonic() + 60
    while not ask():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.05)


def is_at(actor, state, restarts):
    row = ray._private.state.actors(actor._actor_id.hex())
    return row["State"] == state and row["NumRestarts"] == restarts


def finishes():
    assert ray.get(fan_out.remote(4)) == 14
    with tempfile.TemporaryDirectory() as folder:
        assert ray.get(flaky.remote(f"{folder}/tried")) == "done"
    for failing in (fails, dies):
        with contextlib.suppress(ValueError, ray.exceptions.WorkerCrashedError):
            ray.get(failing.remote())
    cancelled = never_fits.options(name="cancelled").remote()
    ray.cancel(cancelled)
    with contextlib.suppress(ray.exceptions.TaskCancelledError):
        ray.get(cancelled)

    counter = Counter.options(name="shared-counter", namespace="history").remote()
    assert ray.get([counter.add.remote() for _ in range(3)]) == [1, 2, 3]
    with contextlib.suppress(ray.exceptions.RayActorError):
        ray.get(counter.crash.remote())
    wait_for(lambda: is_at(counter, "ALIVE", 1), "the counter's restart")
    assert ray.get(counter.add.options(max_task_retries=-1).remote()) == 1

    keeper = Counter.options(name="keeper", namespace="history", lifetime="detached").remote()
    assert ray.get(keeper.add.remote()) == 1
    with contextlib.suppress(ray.exceptions.RayActorError):
        ray.get(Doomed.remote().__ray_ready__.remote())
    killed = Counter.remote()
    assert ray.get(killed.add.remote()) == 1
    ray.kill(killed)
    wait_for(lambda: is_at(killed, "DEAD", 0), "the killed actor's end")
    with contextlib.suppress(ray.exceptions.RayActorError):
        ray.get(killed.add.remote())
    giant = Giant.remote()

    kept = placement_group([{"CPU": 0.2}, {"CPU": 0.1}], name="kept", lifetime="detached")
    ray.get(kept.ready())
    strategy = PlacementGroupSchedulingStrategy(kept)
    assert ray.get(in_group.options(scheduling_strategy=strategy).remote()) == "grouped"
    removed = placement_group([{"CPU": 0.1}], name="removed", strategy="SPREAD")
    ray.get(removed.ready())
    remove_placement_group(removed)
    never_fits.options(name="left-behind").remote()
    del giant


def stays():
    kept = [never_fits.remote(), asks.remote()]
    waiting = waits.remote()
    busy = Counter.options(name="busy").remote()
    assert ray.get(busy.add.remote()) == 1
    kept += [waiting, after.remote(waiting), busy, busy.block.remote(), busy.add.remote(), Giant.remote()]
    placement_group([{"CPU": 64}], name="too-big")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    ray.init(address="auto", log_to_driver=False)
    {"finishes": finishes, "stays": stays}[sys.argv[1]]()
