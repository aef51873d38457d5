"""``ray-history tail``: a session's event stream in the terminal, a line an event.

stdout has the events alone; what becomes of the session and of the connection is said on stderr. Which session is meant
is ``finding.py``, how a stream outlives its connections ``following.py``, what a line looks like ``event_line.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from api.cli.asking import Server, Session
from api.cli.event_line import Data, Look, is_of_failure, line, when
from api.cli.finding import DEFAULT_ADDRESS, find, path_of, place_of
from api.cli.following import Follower
from api.cli.options import option
from api.cli.printable import printable
from api.cli.raylogs import INTERRUPTED, timeout_option, token_option
from api.cli.terminal import Terminal, end_with_the_reader
from api.query.query import BadQuery
from api.streams.live_data import SessionData
from api.streams.live_filter import FILTERS, parse_filter
from api.streams.replay import parse_speed
from api.streams.sse_reader import ServerEvent
from api.streams.stream import parse_since
from pipeline.errors import ConfigError

ALL = "0"
"""``since`` of everything."""
_json = msgspec.json.Decoder().decode


@click.command()
@click.argument("session", required=False)
@option(
    "--address",
    "Where the server is. The address of one of its sessions does too, and then SESSION may be left out.",
    envvar=["RAY_API_SERVER_ADDRESS"],
    metavar="URL",
    default=DEFAULT_ADDRESS,
)
@token_option
@timeout_option
@option(
    "--kind",
    "Only events of this kind: task, actor, node, job, worker or log.",
    own="TAIL_KIND",
    multiple=True,
    metavar="KIND",
)
@option("--job", "Only what belongs to this job, by its id or submission id.", own="TAIL_JOB", multiple=True)
@option(
    "--state",
    "Only changes to this state, status or severity, such as FAILED.",
    own="TAIL_STATE",
    multiple=True,
)
@option(
    "--name",
    "Only what has this in its name, function, class, entrypoint or label; with * or ?, as a whole.",
    own="TAIL_NAME",
    multiple=True,
)
@option("--node", "Only what is on this node, by the beginning of its id.", own="TAIL_NODE", multiple=True)
@option(
    "--filter",
    "The same as an option of that name: state=FAILED, as `ray list` has it.",
    own="TAIL_FILTER",
    also=["filters"],
    multiple=True,
    metavar="KEY=VALUE",
)
@option(
    "--since",
    "Begin in the past: so long ago (-5m, -30s), at a time in ms, or with 0 at the session's first event.",
    own="TAIL_SINCE",
    metavar="TIME",
)
@option(
    "--speed",
    "Play the past so many times faster than it was, to watch it happen; 0 is as fast as it goes.",
    own="TAIL_SPEED",
    default="0",
    metavar="NUMBER",
)
@option(
    "--follow/--no-follow",
    "Whether to go on with what happens. Without, what there is by now is printed, from its beginning or from --since.",
    own="TAIL_FOLLOW",
    default=True,
)
@option(
    "--output",
    "text for people; json is an object a line, of an event's kind, its id (its place in the stream) and its data.",
    own="TAIL_OUTPUT",
    also=["-o"],
    type=click.Choice(["text", "json"]),
    default="text",
)
@option(
    "--whole",
    "Whole ids, dates and lines on a terminal too, where lines but those of failures are cut to its width otherwise.",
    own="TAIL_WHOLE",
    is_flag=True,
)
@option("--utc", "Times in UTC instead of this machine's zone.", own="TAIL_UTC", is_flag=True)
@option(
    "--no-color",
    "No colours on a terminal. NO_COLOR says the same to all programs.",
    own="TAIL_NO_COLOR",
    is_flag=True,
)
def tail(session: str | None, **options: Any) -> None:
    """Print what happens in a session as it happens.

    \b
      ray-history tail                               the newest session that lives
      ray-history tail default/ray --state FAILED    a cluster's failures
      ray-history tail session_… --since 0           from its beginning
      ray-history tail latest --no-follow -o json | jq .data.name

    SESSION is namespace/cluster/session, or a part of it that is enough: namespace/cluster, cluster, or the
    session's own name. `live` and `latest` are the newest that lives, and the newest. Several values of one
    filter are given again or with commas between them.
    """
    query = stream_query(options)
    try:
        _tail(session, query, options)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _tail(said: str | None, query: dict[str, object], options: Mapping[str, Any]) -> None:
    end_with_the_reader()
    session = _session(said, options)
    follower = Follower(session, query, _say, follow=options["follow"], timeout=options["timeout"])
    terminal = Terminal(colour=not options["no_color"])
    now = datetime.now(UTC) if options["utc"] else datetime.now().astimezone()
    look = Look(utc=options["utc"], whole=options["whole"] or not terminal.is_one, today=now.date())
    as_json = options["output"] == "json"
    before: SessionData | None = None
    for event in follower.events():
        if as_json:
            terminal.write_text(json_line(event))
        elif event.kind not in ("session", "resync"):
            spans = line(event.kind, data_of(event), look)
            terminal.write([spans], whole=look.whole or is_of_failure(spans))
        if event.kind == "resync":
            _say(f"some events were missed: {printable(str(data_of(event).get('reason', '')))}")
        elif event.kind == "session" and follower.told is not None:
            first = before is None
            _say(_of_session(follower.told, look, first=first, past="since" in query))
            if follower.told.status == "ended" and first and "since" not in query:
                return
            before = follower.told


def _session(said: str | None, options: Mapping[str, Any]) -> Session:
    """The session that is meant, by names that stay its own."""
    place = place_of(options["address"])
    if said is not None and "://" in said:
        place, said = place_of(said), None
        if place.names is None:
            raise ConfigError(f"{printable(place.server)} is no session's address: ray-history ls -o name prints them")
    server = Server(place.server, options["timeout"], options["token"])
    if said is None and place.names is not None:
        said = "/".join(place.names)
    return Session(server.address + path_of(find(server, said)), options["timeout"], options["token"])


def stream_query(options: Mapping[str, Any]) -> dict[str, object]:
    """What the stream is asked for. Raises ``ConfigError`` for what it would refuse."""
    asked: dict[str, list[str]] = {name: list(options[name]) for name in FILTERS}
    for said in options["filters"]:
        key, equals, value = said.partition("=")
        if key.endswith("!"):
            raise ConfigError(
                f"--filter {printable(said)}: a stream can only be asked for what is, with =, not with !="
            )
        if not equals or key.strip() not in FILTERS:
            raise ConfigError(f"--filter {printable(said)}: say {'|'.join(FILTERS)}=VALUE")
        asked[key.strip()].append(value)
    since = options["since"] if options["since"] or options["follow"] else ALL
    try:
        parse_filter((name, value) for name, values in asked.items() for value in values)
        parse_since(since)
        parse_speed(options["speed"])
    except BadQuery as exc:
        raise ConfigError(printable(f"--{exc}")) from exc
    query: dict[str, object] = {name: values for name, values in asked.items() if values}
    return query | ({"since": since, "speed": options["speed"]} if since else {})


def data_of(event: ServerEvent) -> Data:
    """What an event says; nothing where that can't be read."""
    try:
        data = _json(event.data)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def json_line(event: ServerEvent) -> str:
    """The event as a line of ASCII, whatever it says."""
    return json.dumps({"kind": event.kind, "id": event.id, "data": data_of(event)}, separators=(",", ":")) + "\n"


def _of_session(told: SessionData, look: Look, *, first: bool, past: bool) -> str:
    """What has become of the session."""
    name = printable(f"{told.namespace}/{told.name}/{told.session}")
    ended, heard = when(told.ended_ms, look).strip(), when(told.heard_ms, look).strip()
    match told.status:
        case "live" if first:
            return f"{name} lives"
        case "live":
            return f"{name} is heard again"
        case "lost":
            return f"{name} was last heard {heard or 'nobody knows when'}, and no end was said"
        case "ended" if first and not past:
            return f"{name} ended {ended}. To play it again: ray-history tail {name} --since 0"
        case "ended":
            return f"{name} ended {ended}"


def _say(words: str) -> None:
    click.echo(f"ray-history: {words}", err=True)
