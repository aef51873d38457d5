"""Whatever is cut or killed between Ray and those who follow, stream, answers and store have every record once.

``python -m bench cut --seconds 30`` does the same for as long as one likes.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from support.troubles import Site, site

pytestmark = pytest.mark.anyio

CUT = 1.0
"""Seconds. Those after which something is given up or said again are longer; the benchmark waits for them."""
RATE = 60.0


async def cut(it: Site, which: int) -> None:
    """Nothing gets through, and nobody is told. One who follows loses his connection besides, and comes back."""
    it.networks[which].cut()
    await it.writer.keep_on(CUT / 2, RATE)
    it.followers[-1].break_off()
    await it.writer.keep_on(CUT / 2, RATE)
    it.networks[which].heal()


@pytest.mark.parametrize("age", [3600.0, 0.2], ids=["nothing sealed", "sealed meanwhile"])
async def test_a_network_that_was_cut_costs_who_follows_nothing(tmp_path: Path, age: float) -> None:
    async with site(tmp_path, "http", segment_age=age) as it:
        stayed, came_back = await it.follow(), await it.follow()
        await it.writer.post(10)
        await cut(it, 0)
        await it.writer.post(10)
        await it.settle()
        assert (stayed.connections, came_back.connections) == (1, 2)


async def test_a_collector_that_was_killed_costs_who_follows_nothing(tmp_path: Path) -> None:
    async with site(tmp_path, "http") as it:
        stayed, _ = await it.follow(), await it.follow()
        await it.writer.post(10)
        await it.kill_collector()
        it.followers[1].break_off()
        await it.writer.post(10)
        await it.settle()
        assert stayed.connections == 1


async def test_a_server_that_was_killed_costs_who_comes_back_nothing(tmp_path: Path) -> None:
    async with site(tmp_path, "http") as it:
        followers = [await it.follow() for _ in range(3)]
        async with anyio.create_task_group() as group:
            group.start_soon(it.writer.keep_on, 1.0, RATE)
            group.start_soon(it.kill_server)
        await it.writer.post(10)
        await it.settle()
        assert [each.connections for each in followers] == [2, 2, 2]


@pytest.mark.parametrize("which", [0, 1], ids=["collector to NATS", "NATS to server"])
async def test_by_way_of_nats_a_network_that_was_cut_costs_nothing(tmp_path: Path, which: int) -> None:
    async with site(tmp_path, "nats") as it:
        stayed, _, _ = await it.follow(1), await it.follow(0), await it.follow(1)
        await it.writer.post(10)
        await cut(it, which)
        await it.writer.post(10)
        await it.settle()
        assert stayed.connections == 1


async def test_nats_killed_costs_who_follows_nothing_whichever_server_he_comes_back_to(tmp_path: Path) -> None:
    async with site(tmp_path, "nats") as it:
        stayed, wanders = await it.follow(0), await it.follow(0)
        assert it.nats is not None
        await it.writer.post(10)
        await to_thread.run_sync(it.nats.kill)
        await it.writer.post(10)
        wanders.url = it.url(1)
        wanders.break_off()
        await to_thread.run_sync(it.nats.start)
        await it.writer.post(10)
        await it.settle()
        assert (stayed.connections, wanders.connections) == (1, 2)
