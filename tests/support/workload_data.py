# ruff: noqa: T201 - what is printed is recorded
"""What the recorded session ``data`` lets Ray do: Ray Data, small. Needs ``ray[data]``. Runs inside Ray; never imported."""

from __future__ import annotations

import ray


def doubled(batch):
    return {"id": 2 * batch["id"]}


class Halve:
    def __call__(self, batch):
        return {"id": batch["id"] // 2, "third": batch["id"] % 3}


if __name__ == "__main__":
    ray.init(address="auto", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    numbers = ray.data.range(40, override_num_blocks=2).map_batches(doubled).map_batches(Halve, concurrency=1)
    assert sum(row["id"] for row in numbers.take_all()) == sum(range(40))
    print("ready", flush=True)
