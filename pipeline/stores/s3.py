"""The object store over S3 and whatever speaks its protocol: the only module that knows aiobotocore.

Promises what ``store.ObjectStore`` promises, and translates every error of the vendor's in one place
(``_translate``). One client is kept for the store's life, with a bounded pool of connections, short
timeouts and few retries: whoever calls decides how long to go on after that.

Not every store lists in key order (``key_order.py``): listings are asked for and sorted here so that all give
the same answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from anyio import fail_after, to_thread
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from pipeline.errors import AlreadyExists, ConfigError, Denied, NotFound, StoreError, Throttled, Unavailable
from pipeline.stores.key_order import settled, start_after
from pipeline.stores.store import Listing, ObjectInfo, check_key, check_level, check_prefix, check_range, is_key

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0
DEADLINE = 180.0  # of one call with its retries: a peer that takes no bytes would hold it for ever
ATTEMPTS = 3
CONNECTIONS = 32
_PAGE = 1000
_DEFAULT_REGION = "us-east-1"  # what S3-compatible stores sign with unless told otherwise
_Infos = list[ObjectInfo]  # inside the class, ``list`` is the method
_Errors = (boto.ClientError, boto.BotoCoreError, ResponseParserError, aiohttp.ClientError, OSError)


class S3Store:
    """Objects in one bucket, below a prefix (``""`` or with a slash at its end). Made by ``open``."""

    def __init__(self, client: Any, stack: AsyncExitStack, bucket: str, prefix: str, endpoint: str | None) -> None:
        self._client = client
        self._stack = stack
        self._bucket = bucket
        self._prefix = prefix
        self._endpoint = endpoint
        self._key_order = endpoint is None  # AWS promises it
        self._bucket_wanted = False

    @classmethod
    async def open(
        cls,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        path_style: bool = False,
        create_bucket: bool = False,
    ) -> S3Store:
        """A store ready for use. Nothing is asked of the network, but for ``create_bucket`` where it can be reached now.

        Raises ``ConfigError`` for what botocore finds wrong in its own settings.
        """
        stack = AsyncExitStack()
        try:
            client = await stack.enter_async_context(await _create_client(endpoint, region, path_style))
        except (boto.BotoCoreError, ValueError, OSError) as exc:
            if isinstance(exc, _NO_CREDENTIALS):
                raise Denied(f"no credentials for s3://{bucket}: {_one_line(exc)}") from exc
            raise ConfigError(f"can't set up access to s3://{bucket}: {_one_line(exc)}") from exc
        store = cls(client, stack, bucket, f"{prefix}/" if prefix else "", endpoint)
        store._bucket_wanted = create_bucket
        try:
            await store._make_bucket()
        except BaseException as exc:
            if not (isinstance(exc, StoreError) and exc.retryable):  # a store that is down is tried again on first use
                await store.aclose()
                raise
        return store

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/") + (f" at {self._endpoint}" if self._endpoint else "")

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        check_key(key)
        await self._make_bucket()
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        with self._asking("put", key):
            answer = await self._client.put_object(
                Bucket=self._bucket, Key=self._prefix + key, Body=data, ContentLength=len(data), **condition
            )
            return _etag(_an_answer(answer, "ETag"))

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        check_key(key)
        check_range(start, end)
        if end is not None and end <= start:
            end = start + 1  # S3 knows no empty range, and a missing object must still be found missing
            return (await self.get(key, start=start, end=end))[:0]
        ranged = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end is not None else {}
        with self._asking("get", key):
            try:
                answer = await self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **ranged)
            except boto.ClientError as exc:
                if _status(exc) == 416:
                    return b""
                raise
            async with _an_answer(answer, "ETag")["Body"] as body:
                data: bytes = await body.read()
        if ranged and answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
            return data[start:end]  # a store may ignore the range
        return data

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[ObjectInfo]:
        check_prefix(prefix)
        check_prefix(after)
        if limit == 0 or (after > prefix and not after.startswith(prefix)):
            return []
        bounds: dict[str, Any] = {"MaxKeys": _PAGE if limit is None else min(_PAGE, limit + 1)}
        start = after if self._key_order else start_after(prefix, after)
        if start:
            bounds["StartAfter"] = self._prefix + start
        found: _Infos = []
        with self._asking("list", prefix):
            async with aclosing(self._pages(prefix, **bounds)) as pages:
                async for page in pages:
                    infos = self._objects(page)
                    found.extend(info for info in infos if info.key > after)
                    if limit is not None and infos:
                        last = infos[-1].key
                        bound = last if self._key_order else settled(prefix, last)
                        if sum(info.key <= bound for info in found) >= limit:
                            break
        found.sort(key=lambda info: info.key)
        return found[:limit]

    async def list_level(self, prefix: str) -> Listing:
        check_level(prefix)
        objects: _Infos = []
        prefixes: set[str] = set()
        with self._asking("list", prefix):
            async for page in self._pages(prefix, Delimiter="/"):
                objects += self._objects(page)
                below = (str(entry["Prefix"])[len(self._prefix) :] for entry in page.get("CommonPrefixes", ()))
                prefixes.update(name for name in below if is_key(name.removesuffix("/")))
        return Listing(sorted(objects, key=lambda info: info.key), sorted(prefixes))

    async def delete(self, key: str) -> None:
        check_key(key)
        with self._asking("delete", key):
            try:
                await self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)
            except boto.ClientError as exc:
                if _code(exc) != "NoSuchKey":  # AWS doesn't say so, others do
                    raise

    async def check(self) -> None:
        await self._make_bucket()
        with self._asking("list"):
            async with aclosing(self._pages("", MaxKeys=1)) as pages:
                await anext(pages)

    async def aclose(self) -> None:
        await self._stack.aclose()

    async def _make_bucket(self) -> None:
        """Once, and only where it is missing: the right to create one is not asked for where it isn't needed."""
        if not self._bucket_wanted:
            return
        with self._asking("create bucket"):
            try:
                await self._client.list_objects_v2(Bucket=self._bucket, MaxKeys=1)
            except boto.ClientError as exc:
                if _code(exc) != "NoSuchBucket":
                    raise
                await self._create_bucket()
        self._bucket_wanted = False

    async def _create_bucket(self) -> None:
        region = self._client.meta.region_name
        where: dict[str, Any] = {}
        if self._endpoint is None and region not in (_DEFAULT_REGION, "aws-global"):
            where = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            await self._client.create_bucket(Bucket=self._bucket, **where)
        except boto.ClientError as exc:
            if _code(exc) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):  # somebody was faster
                raise

    async def _pages(self, prefix: str, **bounds: Any) -> AsyncGenerator[dict[str, Any], None]:
        token: str | None = None
        while True:
            page = await self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + prefix, **bounds)
            yield _an_answer(page, "Name", "MaxKeys", "KeyCount", "IsTruncated")
            if not page.get("IsTruncated"):
                return
            if page.get("NextContinuationToken") in (None, token):
                raise StoreError(f"list {prefix} in {self.url}: the store repeats the same page")
            token = bounds["ContinuationToken"] = page["NextContinuationToken"]

    def _objects(self, page: dict[str, Any]) -> _Infos:
        """The page's objects, less folder markers and what else no ``get`` of ours could name."""
        return [
            ObjectInfo(key, int(entry["Size"]), _etag(entry))
            for entry in page.get("Contents", ())
            if str(entry["Key"]).startswith(self._prefix) and is_key(key := str(entry["Key"])[len(self._prefix) :])
        ]

    @contextmanager
    def _asking(self, what: str, key: str = "") -> Iterator[None]:
        try:
            with fail_after(DEADLINE):
                yield
        except _Errors as exc:
            raise self._translate(exc, what, key) from exc

    def _translate(self, exc: Exception, what: str, key: str) -> StoreError:
        """The one place where the vendor's errors become ours."""
        where = f"{what} {key}".rstrip() + f" in {self.url}"
        if not isinstance(exc, boto.ClientError):
            return _kind_of_failure(exc)(f"{where}: {_one_line(exc)}")
        code, status = _code(exc), _status(exc)
        if code == "NoSuchBucket":
            at = self._endpoint or "AWS"
            return NotFound(f"bucket {self._bucket} does not exist at {at}; create it or start with --create-bucket")
        if code == "PreconditionFailed" or status == 412:
            return AlreadyExists(f"{key} exists in {self.url}")
        if code in ("NoSuchKey", "404"):
            return NotFound(f"no object {key} in {self.url}")
        return _kind_of_answer(code, status)(f"{where}: {_one_line(exc)}")


_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.NoAuthTokenError,
    boto.SSOError,
    boto.LoginError,
)
_NO_ANSWER = (
    boto.HTTPClientError,
    boto.ConnectionError,
    boto.IncompleteReadError,
    boto.ChecksumError,
    boto.FlexibleChecksumError,
    boto.MetadataRetrievalError,
    ResponseParserError,  # a proxy's or a starting server's own page
    aiohttp.ClientError,
    OSError,  # TimeoutError among them
)
_KINDS: dict[type[StoreError], tuple[str, ...]] = {
    Throttled: (
        *("SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "TooManyRequests"),
        *("RequestLimitExceeded", "BandwidthLimitExceeded", "RequestThrottled", "RequestThrottledException"),
    ),
    Denied: (
        *("AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"),
        *("InvalidToken", "TokenRefreshRequired", "RequestTimeTooSkewed", "UnauthorizedAccess"),
    ),
    Unavailable: ("RequestTimeout", "ConditionalRequestConflict", "OperationAborted", "IncompleteBody"),
}
_KIND_OF_CODE = {code: kind for kind, codes in _KINDS.items() for code in codes}


def _kind_of_failure(exc: Exception) -> type[StoreError]:
    if isinstance(exc, _NO_CREDENTIALS):
        return Denied
    return Unavailable if isinstance(exc, _NO_ANSWER) else StoreError


def _kind_of_answer(code: str, status: int) -> type[StoreError]:
    if kind := _KIND_OF_CODE.get(code):
        return kind
    if status == 429:
        return Throttled
    if status in (401, 403):
        return Denied
    return Unavailable if status >= 500 and status != 501 else StoreError


async def _create_client(endpoint: str | None, region: str | None, path_style: bool) -> Any:
    session = AioSession()
    await to_thread.run_sync(lambda: session.full_config)  # reads and keeps ~/.aws/config and credentials
    if region is None and endpoint is not None:
        region = session.get_config_variable("region") or _DEFAULT_REGION
    config = AioConfig(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        s3={"addressing_style": "path" if path_style else "auto"},
        # Without these botocore adds checksum trailers that older S3-compatible stores refuse.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        warm_up_loader_caches=True,  # reads the service model in a thread, not on the event loop
    )
    return session.create_client("s3", region_name=region, endpoint_url=endpoint, config=config)


def _code(exc: boto.ClientError) -> str:
    return str(exc.response.get("Error", {}).get("Code", ""))


def _status(exc: boto.ClientError) -> int:
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _an_answer(answer: dict[str, Any], *fields: str) -> dict[str, Any]:
    """The answer itself if it is S3's: a proxy's friendly page must not pass for an empty listing or a done put."""
    if not any(field in answer for field in fields):
        raise ResponseParserError("the answer is not one of an S3 server")
    return answer


def _etag(answer: dict[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"')


def _one_line(exc: Exception) -> str:
    """What went wrong, without the request's address that botocore puts into some messages."""
    if isinstance(exc, boto.ClientError):
        text = f"{_code(exc)}: {exc.response.get('Error', {}).get('Message', '')}"
    elif isinstance(exc, boto.ConnectionError | boto.HTTPClientError) and exc.kwargs.get("error"):
        cause = exc.kwargs["error"]
        text = f"{type(exc).__name__}: {cause}" if str(cause) else type(exc).__name__
    elif isinstance(exc, TimeoutError):
        text = f"no end after {DEADLINE:.0f} s"
    else:
        text = str(exc) or type(exc).__name__
    return " ".join(text.split())[:300]
