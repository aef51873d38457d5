"""A submission's log over a real WebSocket, as ``ray job logs -f`` asks for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import anyio
import pytest
from support.captures import DATA, live_answers, session_name
from support.livechannel import serving
from support.play import play
from support.processes import Program, server, session_url, wait_for_session
from support.rayhead import RAY

from pipeline.stores.store import MemoryStore

pytestmark = [pytest.mark.timeout(120), pytest.mark.anyio]

CAPTURE = DATA / "tasks"
LIVE = live_answers(CAPTURE)
SUBMISSION, *_ = [job["submission_id"] for job in LIVE["/api/jobs/"][1] if job["type"] == "SUBMISSION"]
LOG: str = LIVE[f"/api/jobs/{SUBMISSION}/logs"][1]["logs"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("socket")
    with server(play(CAPTURE, folder), folder) as made:
        wait_for_session(made, session_name(CAPTURE))
        yield made


def tail(program: Program) -> str:
    return f"{session_url(program, session_name(CAPTURE))}/api/jobs/{SUBMISSION}/logs/tail"


async def told(url: str, message: bytes | None = None) -> tuple[str, int | None]:
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as socket:
        if message is not None:
            await socket.send_bytes(message)
        texts = [each.data async for each in socket if each.type is aiohttp.WSMsgType.TEXT]
        return "".join(texts), socket.close_code


def test_rays_own_command_follows_a_log_that_has_ended_to_its_end(program: Program) -> None:
    said = subprocess.run(
        [str(RAY), "job", "logs", "-f", SUBMISSION, "--address", session_url(program, session_name(CAPTURE))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={},
    )

    assert said.returncode == 0, said.stderr
    assert LOG.strip() in said.stdout


def test_all_of_the_log_comes_and_then_a_clean_end(program: Program) -> None:
    assert anyio.run(told, tail(program)) == (LOG, 1000)


def test_who_sends_more_than_anyone_has_to_say_is_cut_off(program: Program) -> None:
    _, code = anyio.run(told, tail(program), b"x" * 100_000)

    assert code in (1000, 1006, 1009)
    assert anyio.run(told, tail(program)) == (LOG, 1000)
    assert "Traceback" not in program.log()


def test_an_address_without_a_socket_refuses_one(program: Program, tmp_path: Path) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError):
        anyio.run(told, f"{program.url}/clusters")
    assert "Traceback" not in program.log()


async def test_no_more_logs_are_followed_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/sessions/default/ray/{session_name(CAPTURE)}/api/jobs/x/logs/tail"
    async with serving(MemoryStore()) as live:
        assert await told(live.url + path) == ("", 1011), "no such session"
        monkeypatch.setattr("api.logs.log_stream.MAX_FOLLOWED", 0)
        assert await told(live.url + path) == ("", 1013)
