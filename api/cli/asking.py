"""Questions of the command line to a server about one session, over plain HTTP.

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

from pipeline.errors import ConfigError, RayHistoryError

PIECE = 1 << 16
LONGEST = 2000
"""Characters of a server's words that are shown."""
EXAMPLE = "http://host:port/sessions/namespace/cluster/session"


class Refused(RayHistoryError):
    """The server couldn't be asked, or didn't answer with what was asked for."""


class Session:
    """One session at a server. Raises ``ConfigError`` where ``address`` can't be one's, ``Refused`` where an answer fails."""

    def __init__(self, address: str | None, timeout: float, token: str | None = None) -> None:
        if not address:
            raise ConfigError(f"no session to ask about: say which with --address {EXAMPLE}")
        address = address.split("#")[0].rstrip("/")
        try:
            parts = urlsplit(address)
            wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.port == 0
        except ValueError:
            wrong = True
        if token and not (token.isascii() and token.isprintable()):
            raise ConfigError("--token must be printable ASCII")
        if wrong or not address.isascii() or not address.isprintable() or " " in address:
            raise ConfigError(f"--address must be {EXAMPLE}")
        self._base = address
        self._timeout = timeout
        self._token = token

    def pieces(self, path: str, query: Mapping[str, object], timeout: float | None) -> Iterator[bytes]:
        """The body of an answer as it arrives."""
        said = urlencode({name: value for name, value in query.items() if value is not None})
        request = urllib.request.Request(f"{self._base}{path}?{said}")
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")  # for this server alone
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                while piece := answer.read1(PIECE):
                    yield piece
                if answer.length:
                    raise Refused(f"the answer was cut short: {answer.length} bytes are missing")
        except urllib.error.HTTPError as exc:
            with exc:
                raise Refused(_words(exc)) from exc
        except urllib.error.URLError as exc:
            raise Refused(f"{self._base} can't be reached: {_line(str(exc.reason))}") from exc
        except TimeoutError as exc:
            raise Refused(f"no answer within {timeout:g} seconds: allow more with --timeout") from exc
        except (http.client.HTTPException, ConnectionError) as exc:
            raise Refused(f"the answer was cut short: {_line(str(exc)) or type(exc).__name__}") from exc

    def result(self, path: str, query: Mapping[str, object]) -> dict[str, Any]:
        """What an answer in Ray's envelope holds."""
        body = b"".join(self.pieces(path, query, self._timeout))
        try:
            result = json.loads(body)["data"]["result"]
        except (ValueError, LookupError, TypeError):
            result = None
        if not isinstance(result, dict):
            raise Refused(f"{self._base} doesn't answer as a session does: is it {EXAMPLE}?")
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
    except ValueError:
        if "html" in refused.headers.get_content_type():
            text = ""
    return _line(str(text)) or f"the server answered {refused.code} {refused.reason}"


def _line(text: str) -> str:
    """On one line, with nothing in it that a terminal would obey."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:LONGEST]
