"""From options to settings, each checked so far as it can be before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from api.auth import digest
from api.cli.logs_and_polls import log_config, poll_config
from pipeline.config import CollectorConfig, ServerConfig, StoreConfig, Token
from pipeline.errors import BadKey, ConfigError
from pipeline.layout import part

Options = dict[str, Any]
LEAST_TOKEN = 8


def store_config(options: Options, default: str | None = None) -> StoreConfig:
    """The store's settings. Raises ``ConfigError`` where none is named and there is no ``default``."""
    bucket = options.pop("s3_bucket")
    url = options.pop("store") or (f"s3://{bucket}" if bucket else default)
    endpoint = options.pop("s3_endpoint") or None
    plain = options.pop("s3_disable_ssl")
    if url is None:
        raise ConfigError("no store: say where the history is kept with --store or RAY_HISTORY_STORE")
    if endpoint is not None and "://" not in endpoint:
        endpoint = f"{'http' if plain else 'https'}://{endpoint}"
    return StoreConfig(
        url=url,
        endpoint=endpoint,
        region=options.pop("s3_region") or None,
        path_style=options.pop("s3_path_style"),
        create_bucket=options.pop("create_bucket"),
    )


def collector_config(options: Options, store: StoreConfig, data_dir: Path) -> CollectorConfig:
    """The collector's settings. Raises ``ConfigError`` for names that can't stand in a key."""
    role: Literal["head", "worker"] = "head" if options["role"].lower() == "head" else "worker"
    for name in ("cluster", "namespace"):
        _check_name(f"--{name}", options[name])
    if bool(options["owner_kind"]) != bool(options["owner_name"]):
        raise ConfigError("--owner-kind and --owner-name go together: give both or neither")
    return CollectorConfig(
        store=store,
        data_dir=data_dir.expanduser().absolute(),
        cluster=options["cluster"],
        namespace=options["namespace"],
        role=role,
        owner_kind=options["owner_kind"],
        owner_name=options["owner_name"],
        ray_tmp=options["ray_tmp"],
        node_id=options["node_id"] or None,
        host=options["events_host"] if "events_host" in options else options["host"],
        events_port=options["events_port"],
        segment_bytes=options["segment_bytes"],
        segment_age=options["segment_age"],
        linger=options["linger"],
        disk_limit=options["disk_limit"],
        server=options["server"] or None,
        push=nats_url("--push", options["push"]),
        push_token=push_token(options),
        push_bytes=options["push_bytes"],
        logs=log_config(options),
        poll=poll_config(options),
        redact=options["redact"],
    )


def server_config(options: Options, store: StoreConfig) -> ServerConfig:
    """The server's settings."""
    names = (
        "host",
        "port",
        "refresh",
        "cache_bytes",
        "load_concurrency",
        "live_bytes",
        "dashboard_dir",
        "backfill_bytes",
    )
    live = nats_url("--live", options["live"])
    return ServerConfig(
        store=store,
        live=live,
        push_token=push_token(options),
        tokens=tokens(options),
        dashboards=options["dashboards"].expanduser(),
        **{name: options[name] for name in names},
    )


def push_token(options: Options) -> str | None:
    """The push token. Raises ``ConfigError`` for one that can't stand in a header, without saying it."""
    token: str = options["push_token"] or ""
    if not token.isascii() or not token.isprintable() or " " in token or len(token) > 4096:
        raise ConfigError("--push-token must be printable ASCII without spaces")
    return token or None


def tokens(options: Options) -> tuple[Token, ...]:
    """What one has to say to read. Raises ``ConfigError`` without saying what is wrong with which token."""
    found: list[Token] = []
    if options["token"]:
        found.append(_token("--token", options["token"]))
    file: Path | None = options["tokens_file"]
    if file is not None:
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"--tokens-file {file} can't be read") from exc
        for number, line in enumerate(text.split("\n"), 1):
            words = line.split()
            if words and not words[0].startswith("#"):
                found.append(_token(f"--tokens-file, line {number}", *words))
        if not found:
            raise ConfigError(f"--tokens-file {file} holds no token")
    return tuple(found)


def _token(where: str, text: str, namespaces: str | None = None, *more: str) -> Token:
    wrong = more or not text.isascii() or not text.isprintable() or " " in text
    if wrong or not LEAST_TOKEN <= len(text) <= 4096:
        raise ConfigError(f"{where}: a token is {LEAST_TOKEN} or more printable ASCII characters without spaces")
    if namespaces is None:
        return Token(digest=digest(text))
    names = [name for name in namespaces.split(",") if name]
    for name in names:
        _check_name(where, name)
    return Token(digest=digest(text), namespaces=frozenset(names))


def nats_url(name: str, url: str | None) -> str | None:
    """Raises ``ConfigError`` for anything but ``nats://`` or ``tls://``, without saying what may have a password in it."""
    if url and not url.startswith(("nats://", "tls://")):
        raise ConfigError(f"{name} must be nats://host:port")
    return url or None


def _check_name(name: str, value: str) -> None:
    try:
        part(value)
    except BadKey as exc:
        raise ConfigError(f"{name}: {exc}") from exc
