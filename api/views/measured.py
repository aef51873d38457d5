"""What the nodes' agents last measured, as the head's dashboard told it (``/nodes?view=summary``).

No record carries the load, memory and disks of a machine, so without such an answer a node's page shows none. Only
what is of its kind gets through: a null or a text where the pages expect figures leaves them blank. What each worker
process did is left where it is: no page asks the summary for it, and it is most of the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from api.snapshots import Snapshots, rows

URL = "/nodes?view=summary"
MAX_ITEMS = 1000
MAX_PATH = 4096
MAX_TEXT = 100_000

Measured = dict[str, dict[str, Any]]
NOTHING: Measured = {}


def measured(snapshots: Snapshots) -> Measured:
    """By node id: fields of the node, and under ``raylet`` those of its raylet."""
    return snapshots.once(_measured)


def logical_resources(snapshots: Snapshots) -> dict[str, str]:
    """By node id: how much of what a node offers was in use, in Ray's words."""
    return snapshots.once(_logical_resources)


def _logical_resources(snapshots: Snapshots) -> dict[str, str]:
    told = snapshots.data(URL).get("nodeLogicalResources")
    named = told.items() if isinstance(told, dict) else ()
    return {node_id: text for node_id, text in named if isinstance(text, str) and len(text) <= MAX_TEXT}


def memory(figures: Measured, node_id: str) -> list[Any]:
    """Of a node's machine: what it has, what is left (bytes), the share and amount in use. Empty where it isn't known."""
    return list(figures.get(node_id, {}).get("mem", ()))


def _measured(snapshots: Snapshots) -> Measured:
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


def _object(value: Any) -> bool:
    """No page looks into it, so its shape doesn't matter beyond that."""
    return isinstance(value, dict)


def _process(value: Any) -> bool:
    """One process, or none: only the head has a GCS."""
    return value is None or _object(value)


def _accelerators(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_ITEMS and all(map(_accelerator, value))


def _accelerator(value: Any) -> bool:
    """A GPU or TPU: its figures, its name and the processes on it."""
    return isinstance(value, dict) and all(map(_shown, value.values()))


def _shown(value: Any) -> bool:
    return value is None or _text(value) or _figure(value) or (isinstance(value, list) and all(map(_object, value)))


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
    "agent": _process,
    "gcs": _process,
    "gpus": _accelerators,
    "tpus": _accelerators,
}
_RAYLET: dict[str, Callable[[Any], bool]] = {
    "objectStoreUsedMemory": _figure,
    "objectStoreAvailableMemory": _figure,
    "storeStats": _object,
    "numWorkers": _figure,
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
