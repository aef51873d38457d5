"""Which sessions there are, and entering one: ``/clusters``, ``/enter_cluster/…``, a session's own address.

Field and cookie names are KubeRay's, so that its manifests and Ray's ``--proxy-server-url`` go on working.
What stands at a session's own address is for ``official.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from api.answers import plain
from api.auth import check_namespace, may_see
from api.routes.session import CLUSTER_COOKIE, NAMESPACE_COOKIE, SESSION_COOKIE, named, while_connected
from api.session.reader import UnknownSession
from api.session.sessions import Sessions
from api.status import Status
from pipeline.errors import BadKey
from pipeline.layout import SessionKey
from pipeline.stores.catalog import SessionMetadata

KINDS = ("raycluster", "rayjob", "rayservice")
COOKIE_AGE = 7 * 86400


def row(metadata: SessionMetadata, status: Status | None) -> dict[str, Any]:
    """One session as ``/clusters`` lists it. Where nobody has listened yet (None), what no end was said of is taken to live."""
    shown: dict[str, Any] = {
        "name": metadata.cluster,
        "namespace": metadata.namespace,
        "sessionName": metadata.session,
        "createTime": when(metadata.created_ms),
        "createTimeStamp": metadata.created_ms // 1000,
        "status": status or "live",
        "endTime": None if metadata.ended_ms is None else when(metadata.ended_ms),
    }
    if metadata.owner_kind or metadata.owner_name:
        shown |= {"ownerKind": metadata.owner_kind.lower(), "ownerName": metadata.owner_name}
    return shown


def when(ms: int) -> str:
    """RFC 3339 in whole seconds; empty where nobody knows."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if ms else ""


async def clusters(request: Request) -> Response:
    """Every session, the newest first; ``?namespace=`` and ``?name=`` narrow it down."""
    listed = await _listed(request)
    for name, field in (("namespace", "namespace"), ("name", "cluster")):
        if (wanted := request.query_params.get(name)) is not None:
            listed = [known for known in listed if getattr(known, field) == wanted]
    sessions: Sessions = request.app.state.sessions
    return plain([row(known, sessions.status(known)) for known in listed])


async def enter_session(request: Request) -> Response:
    """``/enter_cluster/{namespace}/{name}/{session}``, or KubeRay's ``/{namespace}/{kind}/{name}`` where the second is a kind."""
    namespace, second, third = (request.path_params[name] for name in ("first", "second", "third"))
    if second.lower() in KINDS and third not in ("live", "latest") and not third.startswith("session_"):
        return await _enter_owned(request, namespace, second, third, "latest")
    return await _enter(request, namespace, second, third)


async def enter_owned(request: Request) -> Response:
    """``/enter_cluster/{namespace}/{kind}/{name}/{session}``."""
    return await _enter_owned(request, *(request.path_params[name] for name in ("first", "second", "third", "fourth")))


async def _enter_owned(request: Request, namespace: str, kind: str, name: str, session: str) -> Response:
    """``name`` is the owner's where the kind is that of an owner, as with KubeRay."""
    if kind.lower() not in KINDS:
        raise HTTPException(404, f"{kind} is not a kind of resource: one of {', '.join(KINDS)}")
    if kind.lower() == "raycluster":
        return await _enter(request, namespace, name, session)
    for known in await _listed(request):
        owned = (known.namespace, known.owner_kind.lower(), known.owner_name) == (namespace, kind.lower(), name)
        live = session != "live" or request.app.state.sessions.status(known) in ("live", None)
        if owned and live and session in ("latest", "live", known.session):
            return await _enter(request, known.namespace, known.cluster, known.session)
    raise UnknownSession(f"no session {session} of {kind} {namespace}/{name} is known: see /clusters")


async def _enter(request: Request, namespace: str, cluster: str, session: str) -> Response:
    check_namespace(request, namespace)
    sessions: Sessions = request.app.state.sessions

    async def find() -> SessionKey:
        key = await sessions.resolve(namespace, cluster, session)
        await sessions.open(key)
        return key

    return _entered(await while_connected(request, find))


def _entered(key: SessionKey) -> Response:
    """The session that was entered stays entered: ``live`` and ``latest`` are followed here, not at every request."""
    response = plain(
        {"result": "success", "name": key.cluster, "namespace": key.namespace, "session": key.session},
        headers={"Cache-Control": "no-store"},
    )
    cookies = ((NAMESPACE_COOKIE, key.namespace), (CLUSTER_COOKIE, key.cluster), (SESSION_COOKIE, key.session))
    for name, value in cookies:
        response.set_cookie(name, value, max_age=COOKIE_AGE, path="/", httponly=True, samesite="lax")
    return response


async def add_slash(request: Request) -> Response:
    """A session's address ends in ``/``: relative links below it need that."""
    try:
        session = SessionKey(*named(request)).session
    except BadKey as exc:
        raise UnknownSession(str(exc)) from exc
    query = request.url.query
    return RedirectResponse(f"{quote(session)}/" + (f"?{query}" if query else ""), 308)


async def _listed(request: Request) -> list[SessionMetadata]:
    """Those that the request's token opens."""
    sessions: Sessions = request.app.state.sessions
    listed = await while_connected(request, sessions.catalog)
    return [known for known in listed if may_see(request, known.namespace)]


ROUTES = [
    Route("/clusters", clusters),
    Route("/clusters/", clusters),
    Route("/enter_cluster/{first}/{second}/{third}", enter_session),
    Route("/enter_cluster/{first}/{second}/{third}/{fourth}", enter_owned),
]
