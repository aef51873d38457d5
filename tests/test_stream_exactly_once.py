"""Whoever follows a session is told of each of its state changes once, in the order of each source, whatever breaks."""

from __future__ import annotations

from collections import defaultdict

import anyio
import pytest
from anyio.lowlevel import checkpoint
from support.streamworld import Client, Told, World, world

from api.session import sessions
from api.streams import catch_up, stream

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here is waited for because he may be slow."""
    monkeypatch.setattr(catch_up, "PAUSE", 0.01)
    monkeypatch.setattr(stream, "HEARTBEAT", 0.003)
    monkeypatch.setattr(sessions, "HEAR_SECONDS", 0.002)
    monkeypatch.setattr(sessions, "SEAL_SECONDS", 0.01)
    monkeypatch.setattr(sessions, "PUSHED_AGE", 0.05)


def missing(world: World, client: Client, before: dict[str, int]) -> dict[str, tuple[list[Told], list[Told]]]:
    """Where what a client got is not what was written since it came, by source."""
    wrong = {}
    for source, told in world.told.items():
        wanted = [one for one in told[before[source] :] if not client.chosen.states or one[1] in client.chosen.states]
        if client.got[source] != wanted:
            wrong[source] = (wanted, client.got[source])
    return wrong


async def settled(world: World, client: Client, before: dict[str, int]) -> None:
    with anyio.move_on_after(20):
        while missing(world, client, before) or client.resyncs:
            if client.server is None:
                await client.connect(world.servers[0])
            await anyio.sleep(0.01)
    assert client.resyncs == []
    assert missing(world, client, before) == {}


async def act(world: World) -> None:
    """Something happens."""
    random = world.random
    node, server, client = (random.choice(each) for each in (world.nodes, world.servers, world.clients))
    match random.choices(["write", "push", "seal", "restart", "break", "connect", "rest"], [8, 8, 3, 0.5, 5, 12, 4])[0]:
        case "write":
            world.write(node)
        case "push":
            server.push(node)
        case "seal":
            await world.seal(node, say=random.random() < 0.7)
        case "restart":
            await server.restart()
        case "break":
            await client.break_off()
        case "connect" if client.server is None:
            await client.connect(server, random.choice([None, None, random.randrange(1, 6000)]))
        case _:
            for _ in range(random.randrange(20)):
                await checkpoint()


@pytest.mark.parametrize("ring_bytes", [None, 4000], ids=["a ring", "a tiny ring"])
@pytest.mark.parametrize("seed", range(25))
async def test_whatever_breaks_each_change_comes_once_and_in_order(seed: int, ring_bytes: int | None) -> None:
    async with world(seed, ring_bytes) as it:
        for _ in range(it.random.randrange(4)):
            it.write(it.nodes[0])
        await it.seal(it.nodes[0], say=True)
        clients = [it.client(), it.client(state="RUNNING,FINISHED"), it.client()]
        before: dict[Client, dict[str, int]] = {}
        for node in it.nodes:  # every client begins knowing what was written by then
            for server in it.servers:
                server.push(node)
        for client in clients:
            await client.connect(it.servers[0])
            await client.from_start.wait()
            before[client] = defaultdict(int, {source: len(told) for source, told in it.told.items()})
        for _ in range(250):
            await act(it)
        for node in it.nodes:
            for server in it.servers:
                server.push(node)
        for client in clients:
            await settled(it, client, before[client])
