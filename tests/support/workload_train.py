# ruff: noqa: T201 - what is printed is recorded
"""What the recorded session ``serve`` lets Ray do with Train. Runs inside Ray with ``ray[train]``; never imported.

Two runs of one worker each, one that ends well and one that fails. Says ``ready`` at its end.
"""

from __future__ import annotations

import contextlib
import os
import tempfile

import ray
from ray import train
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

SCALING = train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.1})


def learns(config):
    for step in range(config["steps"]):
        train.report({"loss": 1 / (step + 1)})


def diverges(config):
    raise ValueError("diverged")


def run(loop, name, storage):
    kept = train.RunConfig(name=name, storage_path=storage)
    with contextlib.suppress(train.v2.api.exceptions.TrainingFailedError):
        DataParallelTrainer(loop, train_loop_config={"steps": 3}, scaling_config=SCALING, run_config=kept).fit()


if __name__ == "__main__":
    os.environ["RAY_TRAIN_ENABLE_STATE_TRACKING"] = "1"  # without it Train tells its runs to nobody
    ray.init(address="auto", log_to_driver=False)
    with tempfile.TemporaryDirectory() as storage:
        run(learns, "learns", storage)
        run(diverges, "diverges", storage)
    print("ready", flush=True)
