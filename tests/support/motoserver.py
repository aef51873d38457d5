"""An S3 server in this process: moto, which answers as AWS does, in key order. Fixture ``moto_server``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.s3server import S3Server


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """One moto for the whole run: take ``new_bucket()`` so that tests don't see each other."""
    from moto.server import ThreadedMotoServer  # slow to import, and few tests need it

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}", "motoaccess", "motosecret")
    finally:
        server.stop()
