"""Which Ray node this collector stands beside.

Ray 2.60 says it in the session folder, by name: every raylet, agent and (on the head) GCS leaves a file
``{what}_port_{node id}`` there; before those appear, the first lines of ``logs/raylet.out`` name it.
Where several raylets share one folder (clusters simulated on one machine) it is the one that came
first, so that the answer stays the same for as long as the folder exists. Without a session folder, a
posted record names the node it came from.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path

import msgspec
from msgspec import Struct

from pipeline.files import regular

NODE_ID = re.compile(r"[0-9a-f]{56}")
_PORT_FILE = re.compile(r"[a-z_]+_port_([0-9a-f]{56})")
_IN_LOG = re.compile(rb"Setting node ID node_id=([0-9a-f]{56})")
_HEAD = 64 << 10


class _Posted(Struct):
    node_id: str = msgspec.field(name="nodeId", default="")
    node_id_snake: str = msgspec.field(name="node_id", default="")


_posted = msgspec.json.Decoder(_Posted)


def valid(node_id: str) -> bool:
    """Whether this is one of Ray's node ids: 28 bytes in lower-case hex."""
    return NODE_ID.fullmatch(node_id) is not None


def from_session_folder(folder: Path) -> str | None:
    """The id of the folder's first raylet, or None where Ray hasn't said it yet."""
    try:
        ports = [(entry, match[1]) for entry in folder.iterdir() if (match := _PORT_FILE.fullmatch(entry.name))]
        found = [(entry.lstat().st_mtime_ns, node_id) for entry, node_id in ports]
    except OSError:
        return None
    return min(found)[1] if found else _from_log(folder / "logs" / "raylet.out")


def from_record(line: bytes) -> str | None:
    """The id of the node that a posted record came from."""
    try:
        said = _posted.decode(line)
        raw = base64.b64decode(said.node_id or said.node_id_snake, validate=True)
    except (msgspec.DecodeError, binascii.Error, ValueError):
        return None
    return raw.hex() if len(raw) == 28 else None


def from_spool(folder: Path) -> str | None:
    """The id that a session's spool names, where there is no session folder."""
    for file in sorted(folder.glob("*.jsonl")):
        line, newline, _ = _head(file).partition(b"\n")
        if newline and (found := from_record(line)):
            return found
    return None


def _from_log(file: Path) -> str | None:
    found = _IN_LOG.search(_head(file))
    return found[1].decode() if found else None


def _head(file: Path) -> bytes:
    with regular(file) as fd:
        return b"" if fd is None else os.pread(fd, _HEAD, 0)
