# ruff: noqa: T201 - what is printed is recorded
"""What the recorded session ``actors`` and the real-Ray tests let Ray do with actors. Runs inside Ray; never imported.

Async, threaded and detached ones; restarted, killed, left and failing in their constructors; ones that never start.
Says ``ready`` and goes on waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

import ray

FAILURES = (ray.exceptions.RayError, ValueError)


@ray.remote(num_cpus=0.1)
class Async:
    async def double(self, number):
        await asyncio.sleep(0.01)
        print(f"double {number}", flush=True)
        return 2 * number

    async def stream(self, upto):
        for number in range(upto):
            yield number

    async def hang(self):
        await asyncio.sleep(3600)


@ray.remote(num_cpus=0.1, max_concurrency=3)
class Threaded:
    def __init__(self):
        self.calls = 0

    def call(self):
        self.calls += 1
        return self.calls

    def __repr__(self):
        return f"Threaded(pid={os.getpid() > 0})"


@ray.remote(num_cpus=0.1, concurrency_groups={"io": 2})
class Grouped:
    @ray.method(concurrency_group="io")
    def read(self):
        return "read"

    def compute(self):
        raise ValueError("can't compute")


@ray.remote(num_cpus=0.1, max_restarts=1, max_task_retries=1)
class Restarts:
    def pid(self):
        return os.getpid()

    def crash(self):
        os._exit(1)


@ray.remote(num_cpus=0.1)
class Broken:
    def __init__(self):
        raise ValueError("constructor fails")

    def call(self):
        pass


@ray.remote(num_cpus=0.1, max_restarts=1)
class Crashing:
    def __init__(self):
        os._exit(7)

    def call(self):
        pass


@ray.remote(num_cpus=0.1)
class Plain:
    def secret(self):
        return os.environ.get("TOKEN")

    def leave(self):
        ray.actor.exit_actor()


def wait_for(ask, what):
    end = time.monotonic() + 60
    while not ask():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.02)


def state(actor):
    row = ray._private.state.actors(actor._actor_id.hex())
    return row["State"], row["NumRestarts"]


def fails(*calls):
    for call in calls:
        with contextlib.suppress(*FAILURES):
            ray.get(call)


def concurrent():
    several = Async.options(name="async").remote()
    assert ray.get(several.double.remote(2)) == 4
    assert [ray.get(each) for each in several.stream.options(num_returns="streaming").remote(2)] == [0, 1]
    hanging = several.hang.remote()
    ray.get(several.double.remote(3))
    ray.cancel(hanging)
    fails(hanging)
    threaded = Threaded.remote()
    assert sorted(ray.get([threaded.call.remote() for _ in range(2)])) == [1, 2]
    grouped = Grouped.remote()
    assert ray.get(grouped.read.remote()) == "read"
    fails(grouped.compute.remote())
    return several, threaded, grouped, several.hang.remote()


def ended():
    crashed = Restarts.options(name="restarts").remote()
    fails(crashed.crash.remote())
    wait_for(lambda: state(crashed) == ("DEAD", 1), "the end after the restart")
    revived = Restarts.options(name="revived").remote()
    ray.get(revived.pid.remote())
    ray.kill(revived, no_restart=False)
    wait_for(lambda: state(revived) == ("ALIVE", 1), "the restart of the killed actor")
    ray.get(revived.pid.remote())
    killed = Plain.options(name="killed").remote()
    ray.kill(killed)
    wait_for(lambda: state(killed)[0] == "DEAD", "the killed actor's end")
    fails(killed.secret.remote())
    left = Plain.options(name="left").remote()
    fails(left.leave.remote())
    wait_for(lambda: state(left)[0] == "DEAD", "the leaving actor's end")
    fails(Broken.remote().call.remote(), Crashing.remote().call.remote())
    gone = Plain.remote()
    ray.get(gone.secret.remote())
    actor_id = gone._actor_id.hex()
    del gone
    wait_for(lambda: ray._private.state.actors(actor_id)["State"] == "DEAD", "the end of the actor out of scope")
    return crashed, revived


def main():
    kept = concurrent(), ended()
    env = {"env_vars": {"TOKEN": "hunter2-of-actor", "EMPTY": ""}}
    keeper = Plain.options(name="keeper", namespace="kept", lifetime="detached", runtime_env=env).remote()
    assert ray.get(keeper.secret.remote()) == "hunter2-of-actor"
    again = Plain.options(name="keeper", namespace="kept", lifetime="detached", get_if_exists=True).remote()
    assert again == keeper
    waiting = Plain.options(name="nowhere", label_selector={"zone": "north"}).remote()
    asked = waiting.secret.remote()
    print("ready", flush=True)
    while True:
        time.sleep(3600)
    del kept, asked


if __name__ == "__main__":
    ray.init(address="auto", namespace="work", log_to_driver=False)
    main()
