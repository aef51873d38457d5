"""``ray-history ls``: which sessions there are, at a server or, without one, in a store.

A server also knows what it heard of those that live, and counts the tasks of all; without one there are the counts that
servers have left in the store (``ls_store.py``). Which rows there are, and in which order, is ``views/session_list.py``'s for both.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, get_args

import anyio
import click
import msgspec
from click.core import ParameterSource
from rich.cells import cell_len

from api.cli.asking import Server
from api.cli.event_line import DIM, STYLES
from api.cli.finding import DEFAULT_ADDRESS, ident, listed, path_of, place_of
from api.cli.ls_store import page_of_store
from api.cli.options import option, store_options
from api.cli.printable import printable
from api.cli.raylogs import INTERRUPTED, timeout_option, token_option
from api.cli.settings import store_config
from api.cli.terminal import Span, Terminal, end_with_the_reader
from api.status import Status
from api.views.session_list import MAX_SEARCH, SORTS, Line, ListQuery, Page
from pipeline.errors import ConfigError

HEADS = ("SESSION", "CLUSTER", "STATUS", "OWNER", "START", "DURATION", "TASKS", "FAILED")
NUMBERS = ("DURATION", "TASKS", "FAILED")
COUNTED = "COUNTED"
NOTHING = "-"
STALE_MS = 60_000
STORE_OPTIONS = ("store", "s3_bucket")
OF_THE_COMMAND_LINE = ParameterSource.COMMANDLINE


@click.command()
@option(
    "--address",
    "Where the server is. It knows more than the store: which sessions live, how many tasks failed.",
    envvar=["RAY_API_SERVER_ADDRESS"],
    metavar="URL",
    show_default=f"{DEFAULT_ADDRESS}, unless --store is given",
)
@token_option
@timeout_option
@store_options
@option("--namespace", "Only sessions of this namespace.", own="LS_NAMESPACE", metavar="NAME")
@option("--cluster", "Only sessions of the cluster, or clusters, of this name.", own="LS_CLUSTER", metavar="NAME")
@option(
    "--search",
    "Only sessions in whose namespace, cluster, name or owner all of these words stand.",
    own="LS_SEARCH",
    metavar="WORDS",
)
@option(
    "--status",
    "Only sessions that are this; live finds also those that may be, because nobody has listened yet.",
    own="LS_STATUS",
    type=click.Choice(get_args(Status)),
)
@option(
    "--failed",
    "Only sessions in which a task or a job failed.",
    own="LS_FAILED",
    is_flag=True,
)
@option(
    "--sort",
    "What to sort by: the newest, longest, or most first, names and statuses from A to Z. "
    "What isn't counted comes last.",
    own="LS_SORT",
    type=click.Choice(SORTS),
    default="start",
)
@option("--reverse", "The other way round: the oldest, shortest, or fewest first.", own="LS_REVERSE", is_flag=True)
@option(
    "--limit", "How many sessions to list at most; 0 is all.", own="LS_LIMIT", type=click.IntRange(min=0), default=50
)
@option(
    "--output",
    "table for people; json for programs; name prints addresses alone, which all other commands take.",
    own="LS_OUTPUT",
    also=["-o"],
    type=click.Choice(["table", "json", "name"]),
    default="table",
)
@option("--utc", "Times in UTC instead of this machine's zone.", own="LS_UTC", is_flag=True)
@option(
    "--no-color",
    "No colours on a terminal. NO_COLOR says the same to all programs.",
    own="LS_NO_COLOR",
    is_flag=True,
)
def ls(**options: Any) -> None:
    """List sessions, the newest first.

    \b
      ray-history ls                                 those of the server on this machine
      ray-history ls --sort failed                   those with the most failed tasks first
      ray-history ls --store s3://bucket/prefix      without a server
      ray-history ls --status live -o name | xargs -n1 ray-history tail --no-follow
    """
    end_with_the_reader()
    try:
        _ls(click.get_current_context(), options)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _ls(context: click.Context, options: dict[str, Any]) -> None:
    search = " ".join(filter(None, (options["search"], options["cluster"])))
    if len(search) > MAX_SEARCH:
        raise ConfigError(f"--search and --cluster: at most {MAX_SEARCH} characters")
    found = (_of_store if _in_store(context, options) else _of_server)(options, search)
    where, address = found.where, found.address
    chosen = (line for line in found.lines if options["cluster"] in (None, line.name))
    shown = list(islice(chosen, options["limit"] or None))
    terminal = Terminal(colour=not options["no_color"])
    if options["output"] == "json":
        terminal.write_text(json.dumps(msgspec.to_builtins(shown), indent=2) + "\n")
    elif options["output"] == "name":
        terminal.write([[(printable(address(line)), "")] for line in shown], whole=True)
    elif shown:
        terminal.write(table(shown, utc=options["utc"]))
    if not shown:
        asked = any(options[name] for name in ("namespace", "cluster", "search", "status", "failed"))
        click.echo(f"ray-history: no session {'like that ' if asked else ''}at {where}", err=True)
    elif options["limit"] and next(chosen, None) is not None:
        click.echo(f"ray-history: there are more: --limit is {options['limit']}, 0 lists all", err=True)
    if found.uncounted and (options["failed"] or options["sort"] in ("failed", "tasks")):
        sessions = "session isn't" if found.uncounted == 1 else "sessions aren't"
        click.echo(f"ray-history: {found.uncounted} {sessions} counted yet", err=True)


def _in_store(context: click.Context, options: Mapping[str, Any]) -> bool:
    """Whether a store was named, and no server: of both, that which the command line says."""
    store = [context.get_parameter_source(name) for name in STORE_OPTIONS if options[name]]
    if not store or not options["address"]:
        return bool(store)
    said = OF_THE_COMMAND_LINE in store, context.get_parameter_source("address") is OF_THE_COMMAND_LINE
    if said == (True, True):
        raise ConfigError("--address and --store: say one of them")
    return said == (True, False)


class Found:
    """What is to be listed, as it is taken. ``uncounted``: how many have no counts, known once the first line was taken."""

    def __init__(self, where: str, address: Callable[[Line], str]) -> None:
        self.where = where
        self.address = address
        self.lines: Iterator[Line] = iter(())
        self.uncounted = 0

    def told(self, page: Page) -> None:
        self.uncounted = page.uncounted


def _of_server(options: Mapping[str, Any], search: str) -> Found:
    at = place_of(options["address"] or DEFAULT_ADDRESS).server
    server = Server(at, options["timeout"], options["token"])
    found = Found(server.address, lambda line: server.address + path_of(ident(line)))
    query = {"search": search or None, "namespace": options["namespace"], "status": options["status"]}
    query |= {"failed": 1 if options["failed"] else None, "sort": f"{'-' * _descending(options)}{options['sort']}"}
    found.lines = listed(server, found.told, **query)
    return found


def _of_store(options: dict[str, Any], search: str) -> Found:
    config = store_config(options)
    found = Found(config.url, lambda line: "/".join(ident(line)))
    query = ListQuery(
        search=search,
        namespace=options["namespace"],
        status=options["status"],
        failed=options["failed"],
        sort=options["sort"],
        descending=_descending(options),
        limit=options["limit"] + 1 if options["limit"] and not options["cluster"] else 1 << 30,
    )
    page = anyio.run(page_of_store, config, query)
    found.told(page)
    found.lines = iter(page.sessions)
    return found


def _descending(options: Mapping[str, Any]) -> bool:
    return (options["sort"] not in ("name", "status")) is not options["reverse"]


def table(lines: list[Line], *, utc: bool, now_ms: int | None = None) -> list[list[Span]]:
    """The lines under their heads, each column as wide as it has to be.

    How old counts are is told where they may have grown since.
    """
    ages = [age_text(line, now_ms or int(time.time() * 1000)) for line in lines]
    heads = (*HEADS, COUNTED) if any(ages) else HEADS
    rows = [[(head, "bold") for head in heads]]
    rows += [
        [*_cells(line, utc=utc), (age or NOTHING, DIM)][: len(heads)] for line, age in zip(lines, ages, strict=True)
    ]
    widths = [max(cell_len(row[at][0]) for row in rows) for at in range(len(heads))]
    return [[_aligned(*each, heads[-1]) for each in zip(row, widths, heads, strict=True)] for row in rows]


def _aligned(cell: Span, width: int, head: str, last: str) -> Span:
    text, style = cell
    blank = " " * (width - cell_len(text))
    if head in NUMBERS:
        text = blank + text
    elif head != last:
        text += blank
    return text if head == last else f"{text}  ", style


def age_text(line: Line, now_ms: int) -> str:
    """How long ago a session was counted that may have grown since; nothing where that was just now."""
    may_grow = line.summary is not None and not line.summary.final and line.status in ("live", None)
    age_ms = now_ms - line.summary.as_of_ms if line.summary is not None and may_grow else 0
    return f"{length_text(age_ms)} ago" if age_ms >= STALE_MS else ""


def _cells(line: Line, *, utc: bool) -> Iterator[Span]:
    tasks = line.summary.counts.tasks if line.summary is not None else None
    failed = tasks.get("FAILED", 0) if tasks is not None else None
    status = line.status or "unknown"
    yield printable(line.session), ""
    yield printable(f"{line.namespace}/{line.name}"), ""
    yield status, STYLES.get(status.upper(), DIM)
    yield printable("/".join(filter(None, (line.owner_kind, line.owner_name)))) or NOTHING, ""
    yield start_text(line.created_ms, utc=utc), ""
    yield length_text(line.length_ms), ""
    yield NOTHING if tasks is None else str(sum(tasks.values())), ""
    yield NOTHING if failed is None else str(failed), STYLES["FAILED"] if failed else ""


def start_text(ms: int | None, *, utc: bool) -> str:
    """A time to the second."""
    try:
        moment = datetime.fromtimestamp((ms or 0) / 1000, UTC)
        return f"{moment if utc else moment.astimezone():%Y-%m-%d %H:%M:%S}" if ms else NOTHING
    except (ValueError, OverflowError, OSError):
        return NOTHING


def length_text(ms: int | None) -> str:
    """A duration by its two largest units."""
    if ms is None or ms < 0:
        return NOTHING
    seconds = ms // 1000
    for unit, below, size in (("d", "h", 86_400), ("h", "m", 3_600), ("m", "s", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}{seconds % size // _BELOW[below]:02}{below}"
    return f"{seconds}s"


_BELOW = {"h": 3_600, "m": 60, "s": 1}
