"""``ray-history logs`` and ``ray-history timeline``: what ``ray logs`` and ``ray timeline`` do, for a session that is served.

Ray's own take no address of a history server. The options are Ray's; what is printed is the log alone, byte for byte
as it arrives, so that it can be piped. What they ask and how answers fail is ``api/cli/asking.py``.
"""

from __future__ import annotations

import codecs
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from api.cli.asking import Refused, Session
from api.cli.options import option, stacked
from api.cli.terminal import print_bytes
from api.views.logs import DEFAULT_LINES
from pipeline.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])
INTERRUPTED = 130

token_option = option(
    "--token",
    "What the server wants to hear, where it asks for a token. Give it by its variable: an argument can be read by others.",
    envvar=["RAY_AUTH_TOKEN"],
    metavar="SECRET",
)
timeout_option = option(
    "--timeout",
    "Seconds to wait for the server; raise it for a large session's first answer. What follows a session waits for ever.",
    own="ASK_TIMEOUT",
    type=click.FloatRange(0, 86400, min_open=True),
    default=30.0,
)
session_options = stacked(
    option(
        "--address",
        "The session to ask about, as its page is addressed: http://host:port/sessions/namespace/cluster/session.",
        envvar=["RAY_API_SERVER_ADDRESS"],
        metavar="URL",
    ),
    token_option,
    timeout_option,
)
reading_options = stacked(
    session_options,
    option(
        "--follow",
        "Go on with what is added to the log until the session is over.",
        own="LOGS_FOLLOW",
        also=["-f"],
        is_flag=True,
    ),
    option(
        "--tail",
        "How many lines from the end of the log; -1 is all of it.",
        own="LOGS_TAIL",
        type=click.IntRange(min=-1),
        default=DEFAULT_LINES,
    ),
    option("--interval", "Seconds between looks for new lines with --follow.", own="LOGS_INTERVAL", type=float),
    option(
        "--encoding",
        "What the log is written in, to have it as UTF-8. Without it the bytes come as they are.",
        own="LOGS_ENCODING",
        metavar="CODEC",
    ),
    option(
        "--encoding-errors",
        "What to do where the log isn't in --encoding: strict stops there, replace goes on.",
        own="LOGS_ENCODING_ERRORS",
        metavar="NAME",
        default="strict",
    ),
)
node_options = stacked(
    option(
        "--node-id", "The node that the log is of, by its id; without one, the head.", own="LOGS_NODE_ID", also=["-id"]
    ),
    option(
        "--node-ip",
        "The node that the log is of, by its address; without one, the head.",
        own="LOGS_NODE_IP",
        also=["-ip"],
    ),
)
err_option = option("--err", "What was written to stderr instead of stdout.", own="LOGS_ERR", is_flag=True)


class LogsGroup(click.Group):
    """A group whose ``cluster`` may be left out, as in Ray."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["cluster", *args]
        return super().parse_args(ctx, args)


@click.group(cls=LogsGroup)
def logs() -> None:
    """Print a log of a session, or list them, as `ray logs` does.

    \b
      ray-history logs                        list the head's logs
      ray-history logs raylet.out --tail -1   print one of them
      ray-history logs task --id ID --err     print what a task wrote

    The session is that of --address, or of RAY_HISTORY_ADDRESS.
    """


@logs.command()
@click.argument("glob", default="*")
@node_options
@reading_options
def cluster(glob: str, **options: Any) -> None:
    """List a node's logs that match GLOB, or print the one that does."""
    session = _session(options)
    node = _node(session, options)
    found = session.result("/api/v0/logs", {**node, "glob": glob})
    names = [name for group in found.values() for name in group]
    if len(names) == 1 and not names[0].endswith("/"):
        _print(session, {**node, "filename": names[0]}, options)
    else:
        where = "".join(f"Node {name[5:].upper()}: {value}\n" for name, value in node.items())
        print_bytes(f"{where}{_listing(found)}\n".encode("utf-8", "replace"))


@logs.command()
@option(
    "--id",
    "The actor whose log to print; its last worker's, where it had several.",
    own="LOGS_ACTOR_ID",
    also=["-a", "actor_id"],
)
@option("--pid", "The process whose log to print, instead of --id.", own="LOGS_PID", also=["-pid"])
@node_options
@err_option
@reading_options
def actor(actor_id: str | None, pid: str | None, **options: Any) -> None:
    """Print an actor's log."""
    if not actor_id and not pid:
        raise ConfigError("say which actor: --id or --pid")
    session = _session(options)
    node = _node(session, options, needed=not actor_id)
    _print(session, {**node, "actor_id": actor_id, "pid": pid}, options)


@logs.command()
@option("--pid", "The process id of the worker whose log to print.", own="LOGS_PID", also=["-pid"], required=True)
@node_options
@err_option
@reading_options
def worker(pid: str, **options: Any) -> None:
    """Print a worker's log."""
    session = _session(options)
    _print(session, {**_node(session, options), "pid": pid}, options)


@logs.command()
@option(
    "--id",
    "The submission whose log to print, such as raysubmit_abc.",
    own="LOGS_SUBMISSION_ID",
    also=["submission_id"],
    required=True,
)
@reading_options
def job(submission_id: str, **options: Any) -> None:
    """Print the log of a submitted job."""
    session = _session(options)
    _print(session, {**_node(session, options), "submission_id": submission_id}, options)


@logs.command()
@option(
    "--id", "The task whose part of its worker's log to print.", own="LOGS_TASK_ID", also=["task_id"], required=True
)
@option(
    "--attempt-number",
    "Which attempt of the task, where it was tried again; the first is 0.",
    own="LOGS_ATTEMPT_NUMBER",
    also=["-a"],
    type=click.IntRange(min=0),
    default=0,
)
@err_option
@reading_options
def task(task_id: str, attempt_number: int, **options: Any) -> None:
    """Print what a task wrote."""
    _print(_session(options), {"task_id": task_id, "attempt_number": attempt_number}, options)


@click.command()
@session_options
@option("--job-id", "Only this job's tasks; without one, those of all jobs.", own="TIMELINE_JOB_ID")
@option(
    "--output",
    "The file to write; - is stdout. Name one where a script has to find it.",
    own="TIMELINE_OUTPUT",
    metavar="FILE",
    show_default="ray-timeline-TIME.json in the folder for temporary files",
)
def timeline(job_id: str | None, output: str | None, **options: Any) -> None:
    """Write when tasks ran where as a Chrome trace, as `ray timeline` does."""
    pieces = _session(options).pieces("/api/v0/tasks/timeline", {"job_id": job_id}, options["timeout"])
    if output == "-":
        _print_all(pieces)
        return
    name = f"ray-timeline-{datetime.now():%Y-%m-%d_%H-%M-%S}.json"
    file = Path(output) if output else Path(tempfile.gettempdir()) / name
    try:
        _save(pieces, file)
    except OSError as exc:
        raise ConfigError(f"--output {file}: {exc.strerror or exc}") from exc
    click.echo(f"Trace file written to {file}. Open it with chrome://tracing or https://ui.perfetto.dev.", err=True)


def _session(options: dict[str, Any]) -> Session:
    return Session(options["address"], options["timeout"], options["token"])


def _node(session: Session, options: dict[str, Any], *, needed: bool = True) -> dict[str, str]:
    """The node that was asked for, else the head where there must be one."""
    asked = {name: options[name] for name in ("node_id", "node_ip") if options.get(name)}
    return asked if asked or not needed else {"node_id": session.head()}


def _print(session: Session, asked: dict[str, Any], options: dict[str, Any]) -> None:
    follow, lines = options["follow"], options["tail"]
    asked = {**asked, "lines": lines, "suffix": "err" if options.get("err") else "out"}
    if follow:
        asked["interval"] = options["interval"]
    encoding = options["encoding"]
    decoded = _as_utf8(encoding, options["encoding_errors"]) if encoding else iter
    kind = "stream" if follow else "file"
    pieces = session.pieces(f"/api/v0/logs/{kind}", asked, None if follow else options["timeout"])
    try:
        _print_all(decoded(pieces))
    except UnicodeError as exc:
        raise Refused(f"the log is not in {encoding}: {exc}") from exc
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _as_utf8(encoding: str, errors: str) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Turns pieces of text in ``encoding`` into UTF-8, also where a character is cut in two."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)(errors)
        codecs.lookup_error(errors)
        decoder.decode(b"")
    except (LookupError, TypeError, ValueError) as exc:
        raise ConfigError(f"--encoding {encoding} with --encoding-errors {errors}: {exc}") from exc

    def decoded(pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            yield decoder.decode(piece).encode("utf-8", "surrogateescape")
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")

    return decoded


def _print_all(pieces: Iterator[bytes]) -> None:
    for piece in pieces:
        print_bytes(piece)


def _write(pieces: Iterator[bytes], to: IO[bytes]) -> None:
    for piece in pieces:
        to.write(piece)
        to.flush()


def _save(pieces: Iterator[bytes], file: Path) -> None:
    """The whole file or none, and no one's link is followed."""
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}-", delete=False) as part:
        try:
            _write(pieces, part)
            os.replace(part.name, file)
        except BaseException:
            os.unlink(part.name)
            raise


def _listing(found: dict[str, list[str]]) -> str:
    """Names by group as YAML, which is what Ray prints."""
    if not found:
        return "--- {}\n..."
    groups = (f"{group}:\n" + "".join(f"- {_scalar(name)}\n" for name in names) for group, names in found.items())
    return "---\n" + "".join(groups) + "..."


def _scalar(name: str) -> str:
    plain = name.isascii() and name[0].isalpha() and all(c.isalnum() or c in "._-/" for c in name)
    return name if plain else json.dumps(name)
