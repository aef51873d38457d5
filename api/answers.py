"""How an answer is written: Ray's envelope, its refusals, and JSON by msgspec.

    {"result": true|false, "msg": "…", "data": {…}}

Ray's command line prints ``msg`` of any answer that has these three, whatever its status; an answer without
``msg`` gives it a traceback. So everything that goes wrong here, unknown addresses included, has this shape.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

JSON = "application/json"

_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def json_bytes(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Bytes that are JSON already."""
    return Response(body, status, headers, media_type=JSON)


def plain(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A value without Ray's envelope."""
    return json_bytes(encode(value), status, headers)


def enveloped(data: Any, msg: str = "", result: bool = True) -> dict[str, Any]:
    """Ray's envelope around ``data``."""
    return {"result": result, "msg": msg, "data": data}


def refused(status: int, msg: str, data: Any = None, headers: dict[str, str] | None = None) -> Response:
    """Ray's envelope of something that went wrong."""
    return plain(enveloped({} if data is None else data, msg, result=False), status, headers)


class TextAnswer(Exception):
    """An answer that Ray gives as plain text, raised from wherever it becomes clear."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
