"""``/api/v0/tasks/timeline``: the timed spans of tasks as a Chrome trace, one row a worker, grouped by node.

A trace knows processes and threads by number only: nodes and workers are numbered as they turn up, and
metadata events at the end give the numbers their names. Ray's answer covers 10,000 attempts; of more, ours
takes the newest.
"""

from __future__ import annotations

from typing import Any

from api.query.query import MAX_LIMIT, Filter
from api.views.task_codes import Rows, TaskCodes
from api.views.task_rows import profiling_data, task_id
from api.views.task_select import first, newest, select
from api.views.tasks import TaskSource, task_codes

_GENERIC = "generic_work"
_COLOURS = {
    "worker_idle": "cq_build_abandoned",
    "task": "rail_response",
    "task:deserialize_arguments": "rail_load",
    "task:execute": "rail_animation",
    "task:store_outputs": "rail_idle",
    "wait_for_function": "detailed_memory_dump",
    "ray.get": "good",
    "ray.put": "terrible",
    "ray.wait": "vsync_highlight_color",
    "submit_task": "background_memory_dump",
    "fetch_and_run_function": "detailed_memory_dump",
    "register_remote_function": "detailed_memory_dump",
}


def timeline(index: TaskSource, job_id: str | None) -> list[dict[str, Any]]:
    """The trace of a job, or of the whole session."""
    codes = task_codes(index)
    filters = (Filter("job_id", "=", job_id),) if job_id else ()
    rows = select(codes, filters, exclude_driver=True).rows
    rows = rows[codes.tasks.component.array(len(codes.tasks))[rows] > 0]
    return chrome_trace(codes, first(codes.tasks, newest(codes.tasks, rows, MAX_LIMIT), MAX_LIMIT))


def chrome_trace(codes: TaskCodes, rows: Rows) -> list[dict[str, Any]]:
    """The spans of ``rows`` in their order."""
    trace: list[dict[str, Any]] = []
    nodes: dict[str, int] = {}
    workers: dict[tuple[int, str], int] = {}
    for row, common in zip(rows.tolist(), _common(codes, rows), strict=True):
        profile = profiling_data(codes, row)
        if profile["component_type"] not in ("worker", "driver"):
            continue
        component = f"{profile['component_type']}:{profile['component_id']}"
        for span in profile["events"]:
            node = nodes.setdefault(profile["node_ip_address"], len(nodes))
            worker = workers.setdefault((node, component), len(workers))
            trace.append(_span(span, common, node, worker))
    trace += [_metadata("process_name", f"Node {address}", node, None) for address, node in nodes.items()]
    trace += [_metadata("thread_name", name, node, worker) for (node, name), worker in workers.items()]
    return trace


def _common(codes: TaskCodes, rows: Rows) -> list[dict[str, Any]]:
    names = ("job_id", "attempt_number", "func_or_class_name", "actor_id")
    cells = zip(*(codes.column(name, rows).cells() for name in names), strict=True)
    return [
        {"task_id": task_id(codes, row), **dict(zip(names, values, strict=True))}
        for row, values in zip(rows.tolist(), cells, strict=True)
    ]


def _span(span: dict[str, Any], common: dict[str, Any], node: int, worker: int) -> dict[str, Any]:
    name = span["event_name"]
    said = span["extra_data"] if isinstance(span["extra_data"], dict) else {}
    start_us, end_us = span["start_time"] * 1e3, span["end_time"] * 1e3
    return {
        "cat": name,
        "name": said.get("name", name),
        "pid": node,
        "tid": worker,
        "ts": start_us,
        "dur": end_us - start_us,
        "cname": _COLOURS.get(str(said.get("cname", name)), _GENERIC),
        "args": said | common,
        "ph": "X",
    }


def _metadata(what: str, name: str, node: int, worker: int | None) -> dict[str, Any]:
    return {"name": what, "args": {"name": name}, "pid": node, "tid": worker, "ph": "M"}
