"""A recorded session's dashboard, played by a server in this process: it gives the answers that were recorded.

By default only to requests that no event can answer, as the collector makes them (the query doesn't matter), and
404 to the rest: tasks, actors and nodes are to be rebuilt from what Ray wrote. Workers are asked for only where Ray
wrote export API files.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ASKED = (
    "/api/version",
    "/timezone",
    "/api/v0/cluster_metadata",
    "/api/v0/placement_groups",
    "/api/v0/runtime_envs",
    "/api/jobs/",
    "/api/cluster_status",
    "/api/serve/applications/",
    "/api/data/datasets/",
    "/api/train/",
    "/nodes?view=summary",
)
WHERE_EXPORTED = ("/api/v0/workers",)
Answer = tuple[int, bytes]


class Dashboard:
    """Where it answers, and what it was asked."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.url = ""


def recorded(capture: Path, known: tuple[str, ...] = ASKED + WHERE_EXPORTED) -> dict[str, Answer]:
    """A capture's answers by path and query; of lists that are asked for in several ways, by path alone."""
    answers: dict[str, Answer] = {}
    for line in (capture / "live" / "index.tsv").read_text().splitlines():
        name, status, url = line.split("\t")
        answer = int(status), (capture / "live" / name).read_bytes()
        path, _, query = url.partition("?")
        if url.startswith(known) and not (path.startswith("/api/jobs/") and path != "/api/jobs/"):
            answers.setdefault(url if "format=" in query or path == "/nodes" else path, answer)
    return answers


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A collector that is told to stop hangs up on an answer: nothing to show."""


@contextmanager
def dashboard(answers: dict[str, Answer]) -> Iterator[Dashboard]:
    """Answer on a free port of loopback."""
    played = Dashboard(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            played.asked.append(self.path)
            path = self.path if self.path in answers else self.path.partition("?")[0]
            status, body = answers.get(path, (404, b"404: Not Found"))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    played.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield played
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
