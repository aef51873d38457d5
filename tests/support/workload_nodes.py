# ruff: noqa: T201 - what is printed is recorded
"""What the recorded session ``nodes`` and the real-Ray tests let Ray do on two nodes. Runs inside Ray; never imported.

    python workload_nodes.py SECOND    leaves tasks, actors and a placement group on the node with that id, says
                                       ``ready``, waits for the node's death, and goes on after it
    python workload_nodes.py           a small job of its own: one task, one actor

The first is handed in as a job, the second is started by hand.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy


@ray.remote(num_cpus=0.1)
def where():
    return ray.get_runtime_context().get_node_id()


@ray.remote(num_cpus=0.1, max_retries=1)
def stays(begun, over):
    Path(f"{begun}-{os.getpid()}").touch()
    wait_for(lambda: os.path.exists(over), "the word to go on")
    return where.options(name="after-the-death").remote()


@ray.remote(num_cpus=0.1)
class Sitter:
    def node(self):
        return ray.get_runtime_context().get_node_id()

    def hang(self):
        while True:
            time.sleep(3600)


def wait_for(ask, what):
    end = time.monotonic() + 90
    while not ask():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.1)


def alive(node_id):
    return any(node["NodeID"] == node_id and node["Alive"] for node in ray.nodes())


def on_two(second, notes):
    head = ray.get_runtime_context().get_node_id()
    there = NodeAffinitySchedulingStrategy(second, soft=False)
    rather_there = NodeAffinitySchedulingStrategy(second, soft=True)
    assert ray.get(where.options(scheduling_strategy=there).remote()) == second
    assert ray.get(where.options(label_selector={"zone": "west"}).remote()) == second
    mover = Sitter.options(name="mover", max_restarts=1, max_task_retries=1, scheduling_strategy=rather_there).remote()
    lost = Sitter.options(name="lost", scheduling_strategy=there).remote()
    assert ray.get([mover.node.remote(), lost.node.remote()]) == [second, second]
    moved = stays.options(name="moves", scheduling_strategy=rather_there).remote(f"{notes}/moves", f"{notes}/over")
    stranded = stays.options(name="stranded", max_retries=0, scheduling_strategy=there).remote(
        f"{notes}/stranded", f"{notes}/over"
    )
    wait_for(lambda: len(os.listdir(notes)) == 2, "both tasks to begin")
    hanging = lost.hang.remote()
    group = placement_group([{"CPU": 0.1}, {"CPU": 0.1}], name="spread", strategy="STRICT_SPREAD")
    ray.get(group.ready())
    bundled = [
        where.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, index)).remote() for index in (0, 1)
    ]
    assert set(ray.get(bundled)) == {head, second}
    print("ready", flush=True)

    wait_for(lambda: not alive(second), "the second node's death")
    wait_for(lambda: len(os.listdir(notes)) == 3, "the task's other attempt")
    Path(f"{notes}/over").touch()
    ray.get(ray.get(moved))
    for lost_for_ever in (stranded, hanging):
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(lost_for_ever)
    assert ray.get(mover.node.remote()) == head
    print("over it", flush=True)
    while True:
        time.sleep(3600)


def small():
    sitter = Sitter.options(name="by-hand").remote()
    assert ray.get(sitter.node.remote()) == ray.get(where.remote())


if __name__ == "__main__":
    ray.init(address="auto", log_to_driver=False)
    if sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            on_two(sys.argv[1], folder)
    else:
        small()
