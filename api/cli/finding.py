"""Which session of a server is meant: by its address, its names, a part of them, or none at all.

    http://host:port/sessions/ns/name/session   that one; also as a browser shows it, with more behind
    ns/name/session                             that one
    ns/name                                     the cluster's live session, otherwise its newest
    name, session_…                             the cluster, or the session, of that name, where there is one such
    live, latest                                the newest of all that lives; the newest of all
    (nothing)                                   as live

``live`` and ``latest`` may stand for the session of a cluster too. The names are made out once: what is followed stays
the same session when another begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote, unquote

import msgspec
from msgspec import Struct

from api.cli.asking import EXAMPLE, Refused, Server
from api.cli.printable import printable
from api.views.session_list import MAX_LIMIT, MAX_OFFSET, MAX_SEARCH, Ident, Line, Page
from pipeline.errors import BadKey, ConfigError
from pipeline.layout import SessionKey

DEFAULT_ADDRESS = "http://localhost:8080"
NAMED = 5
"""Sessions that an error names."""
_decode = msgspec.json.Decoder(Page).decode


class Place(Struct, frozen=True):
    """An address taken apart. ``names``: of the session that it is of, if it is one's."""

    server: str
    names: Ident | None


def place_of(address: str) -> Place:
    """Raises ``ConfigError`` where the address goes on as a session's, and isn't one's."""
    server, found, below = address.split("#")[0].split("?")[0].partition("/sessions/")
    if not found:
        return Place(address, None)
    names = [unquote(part) for part in below.split("/")[:3]]
    if len(names) < 3 or not names[2]:
        raise ConfigError(f"{printable(address)} is no session's address: that is {EXAMPLE}")
    return Place(server, _checked((names[0], names[1], names[2])))


def path_of(names: Ident) -> str:
    """Where a server has a session."""
    return "/sessions/" + "/".join(quote(name, safe="") for name in names)


def listed(server: Server, told: Callable[[Page], None] | None = None, **query: object) -> Iterator[Line]:
    """The sessions of a server, the newest first unless ``sort`` says otherwise, asked for a page at a time as they are taken.

    ``told`` gets each page. Raises ``Refused``.
    """
    seen: set[Ident] = set()
    offset = 0
    while offset <= MAX_OFFSET:
        body = server.body("/v1/sessions", {"sort": "-start", **query, "offset": offset, "limit": MAX_LIMIT})
        try:
            page = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise Refused(f"{server.address} doesn't answer as a history server does") from exc
        if told is not None:
            told(page)
        new = [line for line in page.sessions if ident(line) not in seen]  # one that began meanwhile moves all others
        seen.update(map(ident, new))
        yield from new
        offset += len(page.sessions)
        if not new or offset >= page.matched:
            return


def ident(line: Line) -> Ident:
    return line.namespace, line.name, line.session


def find(server: Server, said: str | None) -> Ident:
    """The session that is meant. Raises ``ConfigError`` for what can't name one, ``Refused`` where none is of that name."""
    parts = (said or "live").split("/")
    if len(parts) > 3 or not all(parts):
        raise ConfigError(f"{printable(said or '')!r} is no session: say namespace/cluster/session, or a part of it")
    if len(parts) == 3 and parts[2] not in ("live", "latest"):
        return _checked((parts[0], parts[1], parts[2]))
    if len(parts) == 1 and parts[0] in ("live", "latest"):
        return _of_all(server, parts[0])
    search = " ".join(parts[:2])
    if len(search) > MAX_SEARCH:
        raise ConfigError(f"{printable(search, 50)!r} is too long for a session's name")
    known = listed(server, search=search)
    if len(parts) == 1:
        return _of_that_name(server, parts[0], [line for line in known if parts[0] in (line.session, line.name)])
    fitting = [line for line in known if [line.namespace, line.name] == parts[:2]]
    return _chosen(server, fitting, parts[2] if len(parts) == 3 else "", f"of {parts[0]}/{parts[1]} ")


def _of_all(server: Server, which: str) -> Ident:
    if which == "latest":
        return _chosen(server, _first(listed(server)), which, "")
    maybe = list(_until_live(listed(server, status="live")))
    return _chosen(server, maybe, which, "")


def _first(lines: Iterator[Line]) -> list[Line]:
    return [line for line in [next(lines, None)] if line is not None]


def _until_live(lines: Iterable[Line]) -> Iterator[Line]:
    for line in lines:
        yield line
        if line.status == "live":
            return


def _chosen(server: Server, lines: list[Line], which: str, of: str) -> Ident:
    """The one that lives; else the one that may; else, unless it has to live, the newest."""
    for status in ("live", None):
        if which != "latest" and (found := [line for line in lines if line.status == status]):
            return ident(found[0])
    if lines and which != "live":
        return ident(lines[0])
    kind = "live session" if which == "live" else "session"
    raise Refused(f"no {kind} {printable(of)}{' ' if of else ''}at {server.address}: {_those_there_are(server)}")


def _of_that_name(server: Server, name: str, lines: list[Line]) -> Ident:
    clusters = {(line.namespace, line.name) for line in lines}
    if len(clusters) > 1:
        raise Refused(f"{printable(name)} may be any of {_names(lines)}: say namespace/cluster/session")
    return _chosen(server, lines, "", f"{name} ")


def _those_there_are(server: Server) -> str:
    there = [line for line, _ in zip(listed(server), range(NAMED + 1), strict=False)]
    return f"there are {_names(there)}" if there else "there is none at all yet"


def _names(lines: list[Line]) -> str:
    said = [printable(f"{'/'.join(ident(line))} ({line.status or 'not known to live'})") for line in lines[:NAMED]]
    return ", ".join(said) + (", and more (ray-history ls)" if len(lines) > NAMED else "")


def _checked(names: Ident) -> Ident:
    try:
        SessionKey(*names)
    except BadKey as exc:
        raise ConfigError(printable(str(exc))) from exc
    return names
