"""What the nodes' agents last measured, where the collector asked for it (``/nodes?view=summary``).

It does where Ray writes export API files, which don't name hosts either, and where it is told to. No record carries
the load, memory and disks of a machine, so without such an answer a node's page shows none. Only what is of its
kind gets through: a null or a text where the pages expect figures leaves them blank.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from api.snapshots import Snapshots, rows

URL = "/nodes?view=summary"
MAX_ITEMS = 1000
MAX_PATH = 4096

Measured = dict[str, dict[str, Any]]
NOTHING: Measured = {}


def measured(snapshots: Snapshots) -> Measured:
    """By node id: fields of the node, and under ``raylet`` those of its raylet."""
    found: Measured = {}
    for row in rows(snapshots.data(URL).get("summary")):
        raylet = row.get("raylet")
        node_id = raylet.get("nodeId") if isinstance(raylet, dict) else None
        if isinstance(raylet, dict) and isinstance(node_id, str):
            found[node_id] = _known(row, _NODE) | {"raylet": _known(raylet, _RAYLET)}
    return found


def logs_folder(snapshots: Snapshots) -> str:
    """Where the nodes keep the session's logs; empty where no node told."""
    folders = (str(node["raylet"].get("sessionDir", "")) for node in measured(snapshots).values())
    told = next((folder for folder in folders if folder.startswith("/") and len(folder) < MAX_PATH), "")
    return f"{told}/logs" if told else ""


def _known(row: dict[str, Any], kinds: dict[str, Callable[[Any], bool]]) -> dict[str, Any]:
    return {name: row[name] for name, fits in kinds.items() if name in row and fits(row[name])}


def _figure(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 2**63
    )


def _figures(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_ITEMS and all(map(_figure, value))


def _lists(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_ITEMS and all(map(_figures, value))


def _texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_ITEMS and all(isinstance(each, str) for each in value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _name(value: Any) -> bool:
    """A dead node has lost its own: then it is empty."""
    return _text(value) and bool(value)


def _disks(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(disk, dict) and all(map(_figure, disk.values())) for disk in value.values()
    )


def _process(value: Any) -> bool:
    """What is known of one process: its page isn't shown, so its shape doesn't matter beyond being an object."""
    return isinstance(value, dict)


_NODE: dict[str, Callable[[Any], bool]] = {
    "hostname": _name,
    "now": _figure,
    "cpu": _figure,
    "cpus": _figures,
    "mem": _figures,
    "hostMem": _figures,
    "cgroupMem": _figures,
    "shm": _figure,
    "bootTime": _figure,
    "loadAvg": _lists,
    "disk": _disks,
    "diskIo": _figures,
    "diskIoSpeed": _figures,
    "network": _figures,
    "networkSpeed": _figures,
    "cmdline": _texts,
    "gcs": _process,
}
_RAYLET: dict[str, Callable[[Any], bool]] = {
    "objectStoreUsedMemory": _figure,
    "objectStoreAvailableMemory": _figure,
    "nodeManagerPort": _figure,
    "objectManagerPort": _figure,
    "metricsExportPort": _figure,
    "runtimeEnvAgentPort": _figure,
    "metricsAgentPort": _figure,
    "dashboardAgentListenPort": _figure,
    "rayletSocketName": _text,
    "objectStoreSocketName": _text,
    "tempDir": _text,
    "sessionDir": _text,
    "nodeManagerHostname": _name,
    "nodeTypeName": _text,
}
