"""From the ``--store`` address to a store: the only place that knows which kinds there are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

from pipeline.config import StoreConfig
from pipeline.errors import BadKey, ConfigError
from pipeline.stores.filestore import FileStore
from pipeline.stores.s3 import S3Store
from pipeline.stores.store import MemoryStore, ObjectStore, check_key

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.:_\[\]-]+(/[^?#@]*)?")


@asynccontextmanager
async def open_store(config: StoreConfig) -> AsyncIterator[ObjectStore]:
    """The store that ``config`` names, let go of at the end. Raises ``ConfigError`` where the address is none.

    A store that can't be reached now opens all the same: its methods say so, and work once it can.
    """
    store = await _open(config)
    try:
        yield store
    finally:
        await store.aclose()


async def _open(config: StoreConfig) -> ObjectStore:
    scheme, separator, rest = config.url.partition("://")
    match scheme if separator else "":
        case "file":
            return FileStore(_file_root(rest))
        case "s3":
            bucket, prefix = _bucket_and_prefix(rest)
            return await S3Store.open(
                bucket,
                prefix,
                endpoint=_endpoint(config.endpoint),
                region=config.region,
                path_style=config.path_style,
                create_bucket=config.create_bucket,
            )
        case "memory":
            return MemoryStore()
    shown = config.url if not separator else f"{scheme}://…"  # the rest of it may hold a secret
    hint = f"; for a folder write file://{config.url}" if config.url.startswith("/") else ""
    raise ConfigError(f"--store must be s3://bucket/prefix or file:///path, not {shown[:80]!r}{hint}")


def _file_root(rest: str) -> Path:
    path = unquote(rest.removeprefix("localhost"))
    if not path.startswith("/"):
        raise ConfigError(f"--store file://{rest} is not an absolute path: write three slashes, file:///path")
    if "\0" in path or ".." in path.split("/"):
        raise ConfigError(f"--store file://{rest} is not a path without NUL and '..'")
    return Path(path)


def _bucket_and_prefix(rest: str) -> tuple[str, str]:
    if "@" in rest:
        raise ConfigError("--store must not hold credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise ConfigError("--store s3:// names no bucket: write s3://bucket/prefix")
    if not _BUCKET.fullmatch(bucket):
        raise ConfigError(f"--store names a bucket that can't be one: {bucket[:80]!r}")
    prefix = prefix.strip("/")
    try:
        return bucket, check_key(prefix) if prefix else ""
    except BadKey as exc:
        raise ConfigError(f"--store has a prefix that can't be one: {exc}") from exc


def _endpoint(endpoint: str | None) -> str | None:
    if not endpoint:
        return None
    if "@" in endpoint:
        raise ConfigError("the S3 endpoint must not hold credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not _ENDPOINT.fullmatch(endpoint):
        raise ConfigError(f"the S3 endpoint must be http://host:port or https://host:port, not {endpoint[:80]!r}")
    return endpoint.rstrip("/")
