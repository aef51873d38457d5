"""Something to look at afterwards: tasks that go well, one that fails twice and then not, one that fails, an actor, logs."""

from __future__ import annotations

import time
from pathlib import Path

import ray


@ray.remote(num_cpus=0.2)
def square(number: int) -> int:
    print(f"square of {number}")
    time.sleep(0.2)
    return number * number


@ray.remote(num_cpus=0.2, max_retries=3, retry_exceptions=[ConnectionError])
def third_time_lucky(counter: ray.actor.ActorHandle) -> int:
    attempt: int = ray.get(counter.add.remote(1))
    if attempt < 3:
        raise ConnectionError(f"attempt {attempt} could not connect")
    return attempt


@ray.remote(num_cpus=0.2, max_retries=0)
def divide(number: int) -> float:
    print(f"dividing {number} by zero")
    return number / 0


@ray.remote(num_cpus=0.1)
class Counter:
    def __init__(self) -> None:
        self.total = 0

    def add(self, number: int) -> int:
        self.total += number
        return self.total


def main() -> None:
    ray.init(namespace="sample")
    print(f"squares: {sum(ray.get([square.remote(number) for number in range(20)]))}")
    counter = Counter.options(name="attempts").remote()
    print(f"attempts: {ray.get(third_time_lucky.remote(counter))}")
    try:
        ray.get(divide.remote(7))
    except ray.exceptions.RayTaskError as error:
        print(f"as it should, {Path(__file__).name} saw a task fail: {error.cause!r}")
    time.sleep(3)  # workers tell once a second where their tasks' logs stand, and are killed when the job has ended


if __name__ == "__main__":
    main()
