"""Ray's answers about log files: which there are, in groups, and what a request for one asks for.

Owns the meaning of Ray's glob (``pathlib`` of Python 3.11, on the node), its groups (``log_manager``), its options
(``GetLogOptions``) and the wording of its refusals. Pure; what it leaves to others: which files there
are and what stands in them (``api/logs/logs.py``), which file is meant (``views/log_target.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import translate

from msgspec import Struct

from api.query.query import BadQuery

DEFAULT_LINES = 1000
DEFAULT_FILENAME = "file.txt"
DEFAULT_GLOB = "*"
MAX_GLOB = 1024
MAX_GLOB_PARTS = 48

NEITHER_ID_NOR_IP = "Both node id and node ip are not provided. Please provide at least one of them."
NO_SUCH_IP = "Cannot find matching node_id for a given node ip {ip}"
NO_SUCH_NODE = "Agent for node id: {node_id} doesn't exist."

_UNPRINTABLE = re.compile(r'[\x00-\x1f\x7f"\\]')


class NoLog(Exception):
    """A request for a log that Ray answers with status 500 and this text."""


# -- which files ---------------------------------------------------------------------------

Tree = dict[str, "Tree | None"]
"""A folder: its folders as trees, its files as None."""


def tree_of(files: Iterable[str], folders: Iterable[str]) -> Tree:
    """The folder that holds these, given by their paths below it."""
    root: Tree = {}
    for path in folders:
        _folder_at(root, path.split("/"))
    for path in files:
        *above, name = path.split("/")
        _folder_at(root, above).setdefault(name, None)
    return root


def _folder_at(root: Tree, parts: list[str]) -> Tree:
    at = root
    for part in parts:
        below = at.get(part)
        if below is None:
            below = at[part] = {}
        at = below
    return at


def glob(root: Tree, pattern: str) -> list[str]:
    """The paths that match, in order; folders end in ``/``. Raises ``NoLog`` for what Ray's node refuses."""
    parts = _glob_parts(pattern)
    found: dict[str, None] = {}
    for path, below in _select(root, (), parts, set()):
        found["/".join(path or (".",)) + ("/" if below is not None else "")] = None
    return sorted(found)


def _glob_parts(pattern: str) -> list[str]:
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if pattern.startswith("/") or ".." in parts:
        raise NoLog(f"Invalid glob filter: {pattern[:200]}. It must be a relative path and cannot contain '..'.")
    if not parts:
        raise NoLog(f"Unacceptable pattern: {pattern[:200]!r}")
    if any("**" in part and part != "**" for part in parts):
        raise NoLog("Invalid pattern: '**' can only be an entire path component")
    if len(pattern) > MAX_GLOB or len(parts) > MAX_GLOB_PARTS:
        raise NoLog(f"Invalid glob filter: over {MAX_GLOB} characters or {MAX_GLOB_PARTS} parts")
    return [*parts, ""] if pattern.endswith("/") else parts


Path = tuple[str, ...]
Hit = tuple[Path, Tree | None]


def _select(at: Tree, path: Path, parts: list[str], been: set[tuple[Path, int]]) -> Iterator[Hit]:
    """What matches ``parts`` below a folder. ``been`` keeps several ``**`` from walking the same folders again and again."""
    if (path, len(parts)) in been:
        return
    been.add((path, len(parts)))
    part, rest = parts[0], parts[1:]
    if part in ("", "**"):
        if rest:
            yield from _select(at, path, rest, been)
        else:
            yield path, at
        if part:
            for name, below in at.items():
                if below is not None:
                    yield from _select(below, (*path, name), parts, been)
        return
    matches = _matcher(part)
    for name, below in at.items():
        if matches(name):
            if not rest:
                yield (*path, name), below
            elif below is not None:
                yield from _select(below, (*path, name), rest, been)


def _matcher(part: str) -> Callable[[str], object]:
    if any(wild in part for wild in "*?["):
        try:
            return re.compile(translate(part)).match
        except re.error as exc:
            raise NoLog(f"Invalid pattern: {part[:200]!r}: {exc}") from None
    return part.__eq__


_GROUPS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("worker_out", lambda name: "worker" in name and name.endswith(".out")),
    ("worker_err", lambda name: "worker" in name and name.endswith(".err")),
    ("core_worker", lambda name: "core-worker" in name and name.endswith(".log")),
    ("driver", lambda name: "core-driver" in name and name.endswith(".log")),
    ("raylet", lambda name: "raylet." in name),
    ("gcs_server", lambda name: "gcs_server." in name),
    ("internal", lambda name: "log_monitor" in name),
    ("autoscaler", lambda name: "monitor" in name),
    ("agent", lambda name: "agent." in name),
    ("dashboard", lambda name: "dashboard." in name),
)


def grouped(paths: Iterable[str]) -> dict[str, list[str]]:
    """The paths by Ray's component."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        group = next((group for group, holds in _GROUPS if holds(path)), "internal")
        groups.setdefault(group, []).append(path)
    return groups


# -- what is asked for -----------------------------------------------------------------------


class LogOptions(Struct, frozen=True, kw_only=True):
    """What a request for a log asks for. ``lines`` -1 is all of it."""

    follow: bool = False
    node_id: str | None = None
    node_ip: str | None = None
    filename: str | None = None
    download_filename: str = DEFAULT_FILENAME
    actor_id: str | None = None
    task_id: str | None = None
    attempt_number: int = 0
    pid: int | None = None
    submission_id: str | None = None
    lines: int = DEFAULT_LINES
    interval: float = 1.0
    suffix: str = "out"
    filter_ansi_code: bool = False


def parse_log_options(query: Iterable[tuple[str, str]], media_type: str) -> LogOptions:
    """The options of ``/api/v0/logs/{media_type}``. Raises ``NoLog`` with what Ray says of bad ones."""
    asked: dict[str, str] = {}
    for name, value in query:
        asked.setdefault(name, value)
    whole = {name: value for name, value in asked.items() if value}
    options = LogOptions(
        follow=media_type == "stream",
        node_id=whole.get("node_id"),
        node_ip=whole.get("node_ip"),
        filename=whole.get("filename"),
        download_filename=_UNPRINTABLE.sub("", asked.get("download_filename", DEFAULT_FILENAME))[:255],
        actor_id=whole.get("actor_id"),
        task_id=whole.get("task_id"),
        attempt_number=_number(asked.get("attempt_number", "0")),
        pid=_number(whole["pid"]) if "pid" in whole else None,
        submission_id=whole.get("submission_id"),
        lines=_number(asked.get("lines", str(DEFAULT_LINES))) or DEFAULT_LINES,
        interval=min(max(_seconds(whole.get("interval", "1")), 0.1), 60.0),
        suffix=asked.get("suffix", "out"),
        filter_ansi_code=asked.get("filter_ansi_code", "").lower() == "true",
    )
    _number(asked.get("timeout", "30"))
    if media_type == "file" and "interval" in whole:
        raise NoLog("interval is only for streams")
    if media_type not in ("file", "stream"):
        raise NoLog(f"Invalid media type: {media_type[:100]}")
    _check(options)
    return options


def _check(asked: LogOptions) -> None:
    if not (asked.node_id or asked.node_ip or asked.actor_id or asked.task_id):
        raise NoLog(
            "node_id or node_ip must be provided as constructor arguments when no "
            "actor or task_id is supplied as arguments."
        )
    if asked.node_id and asked.node_ip:
        raise NoLog(
            "Both node_id and node_ip are given. Only one of them can be provided. "
            f"Given node id: {asked.node_id}, given node ip: {asked.node_ip}"
        )
    if not (asked.actor_id or asked.task_id or asked.pid or asked.filename or asked.submission_id):
        raise NoLog(
            "None of actor_id, task_id, pid, submission_id or filename is provided. "
            "At least one of them is required to fetch logs."
        )
    if asked.suffix not in ("out", "err"):
        raise NoLog(f"Invalid suffix: {asked.suffix[:100]}. Must be one of 'out' or 'err'.")


def _number(text: str) -> int:
    try:
        return int(text[:30])
    except ValueError:
        raise NoLog(f"invalid literal for int() with base 10: {text[:100]!r}") from None


def _seconds(text: str) -> float:
    try:
        return float(text[:30])
    except ValueError:
        raise NoLog(f"could not convert string to float: {text[:100]!r}") from None


def asked_node(node_id: str | None, node_ip: str | None, by_ip: Callable[[str], str | None]) -> str:
    """The node whose files are to be listed. Raises ``BadQuery`` as Ray refuses it."""
    if node_id:
        return node_id
    if not node_ip:
        raise BadQuery(NEITHER_ID_NOR_IP)
    found = by_ip(node_ip)
    if found is None:
        raise BadQuery(NO_SUCH_IP.format(ip=node_ip), 404)
    return found


# -- what is shown ---------------------------------------------------------------------------

_COLOUR = re.compile(rb"\x1b\[[()0-9;]+m")
_LONGEST = 62
_BEGUN = re.compile(rb"\x1b(?:\[[()0-9;]{0,60})?\Z")


class ColourFilter:
    """Takes Ray's set of ANSI codes out of a text that comes in pieces, also one that is cut in two."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        text = self._held + piece
        begun = _BEGUN.search(text, max(0, len(text) - _LONGEST))
        self._held = begun[0] if begun else b""
        return _COLOUR.sub(b"", text[: len(text) - len(self._held)])

    def flush(self) -> bytes:
        held, self._held = self._held, b""
        return held
