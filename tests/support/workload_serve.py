# ruff: noqa: T201 - what is printed is recorded
"""What the recorded session ``serve`` lets Ray do with Serve. Runs inside Ray with ``ray[serve]``; never imported.

An application of two deployments, asked a few times; another whose only replica never comes to live. Says ``ready``
and goes on serving. The port to listen on is its argument.
"""

from __future__ import annotations

import contextlib
import sys
import time

import ray
from ray import serve

FEW = {"num_cpus": 0.1}


@serve.deployment(num_replicas=2, ray_actor_options=FEW)
class Model:
    def __call__(self):
        print("asked", flush=True)
        return "hello"


@serve.deployment(ray_actor_options=FEW, user_config={"greeting": "größer ☃"})
class Ingress:
    def __init__(self, model):
        self.model = model

    def reconfigure(self, config):
        self.config = config

    async def __call__(self):
        return await self.model.remote()


@serve.deployment(ray_actor_options=FEW)
class Broken:
    def __init__(self):
        raise RuntimeError("never healthy")


def main(port):
    serve.start(http_options={"port": port})
    handle = serve.run(Ingress.bind(Model.bind()), name="greeter", route_prefix="/hello")
    assert [handle.remote().result() for _ in range(3)] == ["hello"] * 3
    with contextlib.suppress(RuntimeError):
        serve.run(Broken.bind(), name="broken", route_prefix="/broken")
    print("ready", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    ray.init(address="auto", log_to_driver=False)
    main(int(sys.argv[1]))
