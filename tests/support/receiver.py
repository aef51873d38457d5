"""A tiny receiver of Ray's posts that remembers them, byte for byte, and may pass them on to the collector."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """What was posted: ``taken`` are the bodies answered 200, in order, ``refused`` those that weren't.

    ``under_way`` is how many are being passed on: a collector killed then may have stored what it never answered.
    """

    def __init__(self, forward_to: int | None) -> None:
        self.taken: list[bytes] = []
        self.refused: list[bytes] = []
        self._news = time.monotonic()
        self.under_way = 0
        self.port = 0
        self._forward_to = forward_to
        self._lock = threading.Lock()

    def take(self, path: str, body: bytes) -> int:
        """The status to answer with: the collector's own where there is one, 503 where it can't be reached."""
        self.under_way += 1
        status = 200 if self._forward_to is None else self._pass_on(self._forward_to, path, body)
        self.under_way -= 1
        with self._lock:
            (self.taken if status == 200 else self.refused).append(body)
            if status != 200 or not _only_profiles(body):
                self._news = time.monotonic()
        return status

    def quiet(self, seconds: float) -> bool:
        """Whether for so long nothing was refused and nothing came but profiles: the dashboard's own driver sends those for ever."""
        return time.monotonic() - self._news >= seconds

    def _pass_on(self, port: int, path: str, body: bytes) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)  # Ray waits no longer either
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 503
        finally:
            connection.close()


def _only_profiles(body: bytes) -> bool:
    return all(event.get("eventType", event.get("event_type")) == "TASK_PROFILE_EVENT" for event in json.loads(body))


@contextmanager
def receiver(*, forward_to: int | None = None) -> Iterator[Receiver]:
    """Listen on a free port of loopback."""
    kept = Receiver(forward_to)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(kept.take(self.path, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
