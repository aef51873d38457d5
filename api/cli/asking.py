"""Questions of the command line to a server, or about one session of it, over plain HTTP.

An answer comes in pieces as it arrives, and whole: one that is cut short is an error. Whatever the server says
of a failure becomes one line that a terminal can show.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from api.cli.printable import printable
from pipeline.errors import ConfigError, RayHistoryError

PIECE = 1 << 16
MAX_BODY = 64 << 20
NO_CONTENT = 204
SERVER_EXAMPLE = "http://host:port"
EXAMPLE = f"{SERVER_EXAMPLE}/sessions/namespace/cluster/session"


class Refused(RayHistoryError):
    """The server couldn't be asked, or didn't answer with what was asked for. ``status``: of its answer, if it gave one."""

    def __init__(self, words: str, status: int | None = None) -> None:
        super().__init__(words)
        self.status = status


class Lost(Refused):
    """Nobody answered, or the connection broke off: asking again may help."""


class Server:
    """A server. Raises ``ConfigError`` where ``address`` can't be one's, ``Refused`` where an answer fails."""

    example = SERVER_EXAMPLE
    remedy = ": --address or RAY_HISTORY_ADDRESS says where the server is"

    def __init__(self, address: str, timeout: float, token: str | None = None) -> None:
        address = address.split("#")[0].rstrip("/")
        try:
            parts = urlsplit(address)
            wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.port == 0
        except ValueError:
            wrong = True
        if token and not (token.isascii() and token.isprintable()):
            raise ConfigError("--token must be printable ASCII")
        if wrong or not address.isascii() or not address.isprintable() or " " in address:
            raise ConfigError(f"--address must be {self.example}")
        self.address = address
        self._timeout = timeout
        self._token = token

    def pieces(
        self, path: str, query: Mapping[str, object], timeout: float | None, headers: Mapping[str, str] | None = None
    ) -> Iterator[bytes]:
        """The body of an answer as it arrives. Raises ``Lost`` where there is none, or not all of it."""
        said = urlencode({name: value for name, value in query.items() if value is not None}, doseq=True)
        request = urllib.request.Request(f"{self.address}{path}?{said}", headers=dict(headers or {}))
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")  # for this server alone
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                if answer.status == NO_CONTENT:
                    raise Refused("there is no more", NO_CONTENT)
                while piece := answer.read1(PIECE):
                    yield piece
                if answer.length:
                    raise Lost(f"the answer was cut short: {answer.length} bytes are missing")
        except urllib.error.HTTPError as exc:
            with exc:
                raise Refused(_words(exc), exc.code) from exc
        except urllib.error.URLError as exc:
            raise Lost(f"{self.address} can't be reached: {printable(str(exc.reason))}{self.remedy}") from exc
        except TimeoutError as exc:
            raise Lost(f"no answer within {timeout:g} seconds: allow more with --timeout") from exc
        except (http.client.HTTPException, OSError) as exc:
            raise Lost(f"the answer was cut short: {printable(str(exc)) or type(exc).__name__}") from exc

    def body(self, path: str, query: Mapping[str, object]) -> bytes:
        """An answer as a whole."""
        parts, size = [], 0
        for piece in self.pieces(path, query, self._timeout):
            parts.append(piece)
            size += len(piece)
            if size > MAX_BODY:
                raise Refused(f"{self.address} answers with more than {MAX_BODY} bytes")
        return b"".join(parts)


class Session(Server):
    """One session at a server."""

    example = EXAMPLE
    remedy = ""

    def __init__(self, address: str | None, timeout: float, token: str | None = None) -> None:
        if not address:
            raise ConfigError(f"no session to ask about: say which with --address {EXAMPLE}")
        super().__init__(address, timeout, token)

    def result(self, path: str, query: Mapping[str, object]) -> dict[str, Any]:
        """What an answer in Ray's envelope holds."""
        try:
            result = json.loads(self.body(path, query))["data"]["result"]
        except (ValueError, LookupError, TypeError, RecursionError):
            result = None
        if not isinstance(result, dict):
            raise Refused(f"{self.address} doesn't answer as a session does: is it {EXAMPLE}?")
        return result

    def head(self) -> str:
        """The id of the session's head node, the latest of several."""
        nodes = self.result("/api/v0/nodes", {"detail": 1, "limit": 10_000}).get("result") or []
        heads = [node for node in nodes if node.get("is_head_node")] or (nodes if len(nodes) == 1 else [])
        if not heads:
            raise Refused("which node is the session's head isn't known: say which is meant with --node-id")
        return str(max(heads, key=lambda node: node.get("start_time_ms") or 0)["node_id"])


def _words(refused: urllib.error.HTTPError) -> str:
    """What the server says of a failure: its envelope's message, its text, or else its status."""
    text = refused.read(PIECE).decode("utf-8", "replace")
    try:
        said = json.loads(text)
        text = said.get("msg") or said.get("detail") or text if isinstance(said, dict) else text
    except (ValueError, RecursionError):
        if "html" in refused.headers.get_content_type():
            text = ""
    return printable(str(text)) or printable(f"the server answered {refused.code} {refused.reason}")
