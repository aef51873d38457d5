"""Whatever an S3 server or the way to it does, the caller sees a ``StoreError`` that says which kind, where and why."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import anyio
import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from support.seaweed import SeaweedServer

from pipeline.config import StoreConfig
from pipeline.errors import AlreadyExists, ConfigError, Denied, NotFound, StoreError, Throttled, Unavailable
from pipeline.stores.open_store import open_store
from pipeline.stores.s3 import S3Store
from pipeline.stores.store import ObjectStore, conditional_put_works

pytestmark = [pytest.mark.anyio, pytest.mark.s3]

Ask = Callable[[ObjectStore], Awaitable[object]]
EVERY_METHOD: list[Ask] = [
    lambda store: store.put("a/b", b"x"),
    lambda store: store.put("a/b", b"x", if_absent=True),
    lambda store: store.get("a/b"),
    lambda store: store.get("a/b", start=1),
    lambda store: store.list("a/"),
    lambda store: store.list_level("a/"),
    lambda store: store.delete("a/b"),
    lambda store: store.check(),
]
EMPTY_LISTING = (
    b"<ListBucketResult><Name>b</Name><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
)


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt, known credentials, and nothing from this machine's own configuration."""
    monkeypatch.setattr("pipeline.stores.s3.ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "theaccesskey")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "thesecretkey")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")


@pytest.fixture(autouse=True)
def blocking_calls_fail() -> Iterator[BlockBuster]:
    with blockbuster_ctx() as guard:
        yield guard


class Canned:
    """A server that gives every request the same answer, byte for byte; without one it never answers."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.answer: bytes | None = None
        self.requests: list[bytes] = []

    def says(self, status: int, body: bytes = b"", *headers: str, length: int | None = None) -> None:
        head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length is None else length}", *headers]
        self.answer = "\r\n".join([*head, "Connection: close", "", ""]).encode() + body

    def fails(self, status: int, code: str, message: str = "a\nmessage") -> None:
        self.says(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            if b"100-continue" in head:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if self.answer is None:
                await reader.read(1 << 20)
                await reader.read()  # until the client gives up
            else:
                writer.write(self.answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def canned() -> AsyncIterator[Canned]:
    server = Canned()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.endpoint = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield server


@asynccontextmanager
async def opened(endpoint: str, bucket: str = "bucket", *, create_bucket: bool = False) -> AsyncIterator[ObjectStore]:
    config = StoreConfig(url=f"s3://{bucket}/prefix", endpoint=endpoint, path_style=True, create_bucket=create_bucket)
    async with open_store(config) as store:
        yield store


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "ExpiredToken", Denied),
        (400, "InvalidArgument", StoreError),
        (400, "RequestTimeout", Unavailable),
        (401, "Unknown", Denied),
        (403, "AccessDenied", Denied),
        (403, "SignatureDoesNotMatch", Denied),
        (409, "ConditionalRequestConflict", Unavailable),
        (412, "PreconditionFailed", AlreadyExists),
        (429, "Unknown", Throttled),
        (500, "InternalError", Unavailable),
        (501, "NotImplemented", StoreError),
        (503, "ServiceUnavailable", Unavailable),
        (503, "SlowDown", Throttled),
    ],
)
async def test_each_answer_of_a_server_has_its_kind(
    canned: Canned, status: int, code: str, kind: type[StoreError]
) -> None:
    canned.fails(status, code)
    async with opened(canned.endpoint) as store:
        with pytest.raises(StoreError) as caught:
            await store.put("a/b", b"x", if_absent=True)
    assert type(caught.value) is kind
    assert caught.value.retryable is (kind in (Throttled, Unavailable))


async def test_every_method_names_what_was_asked_where_and_why_in_one_line_without_secrets(canned: Canned) -> None:
    canned.fails(403, "AccessDenied", "no\nway")
    async with opened(canned.endpoint) as store:
        asked = ["put a/b"] * 2 + ["get a/b"] * 2 + ["list a/"] * 2 + ["delete a/b", "list"]
        for ask, what in zip(EVERY_METHOD, asked, strict=True):
            with pytest.raises(Denied) as caught:
                await ask(store)
            text = str(caught.value)
            assert text == f"{what} in s3://bucket/prefix at {canned.endpoint}: AccessDenied: no way"


async def test_a_server_that_is_not_there_is_unavailable_to_every_method(unused_tcp_port: int) -> None:
    endpoint = f"http://127.0.0.1:{unused_tcp_port}"
    async with opened(endpoint) as store:
        for ask in EVERY_METHOD:
            with pytest.raises(Unavailable, match=f"in s3://bucket/prefix at {endpoint}: .*[Cc]onnect") as caught:
                await ask(store)
            assert "thesecretkey" not in str(caught.value)
            assert "\n" not in str(caught.value)


async def test_a_server_that_never_answers_is_unavailable_once_the_time_is_up(
    canned: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(canned.endpoint) as store:
        monkeypatch.setattr("pipeline.stores.s3.DEADLINE", 0.1)
        for ask in EVERY_METHOD:
            with pytest.raises(Unavailable, match="no end after"):
                await ask(store)


@pytest.mark.parametrize("page", [b"<html><body>Welcome</body></html>", b"Welcome", b""], ids=["html", "text", "none"])
async def test_a_proxys_friendly_page_is_neither_a_listing_nor_an_object_nor_a_done_put(
    canned: Canned, page: bytes
) -> None:
    canned.says(200, page)
    async with opened(canned.endpoint) as store:
        for ask in EVERY_METHOD:
            if ask is EVERY_METHOD[6]:  # a delete's answer says nothing
                continue
            with pytest.raises(Unavailable):
                await ask(store)


async def test_an_object_cut_off_on_its_way_is_unavailable(canned: Canned) -> None:
    canned.says(200, b"half", 'ETag: "e"', length=8)
    async with opened(canned.endpoint) as store:
        with pytest.raises(Unavailable):
            await store.get("a/b")


async def test_a_server_that_ignores_ranges_still_gives_the_range(canned: Canned) -> None:
    canned.says(200, b"0123456789", 'ETag: "e"')
    async with opened(canned.endpoint) as store:
        assert await store.get("a", start=2, end=5) == b"234"
        assert await store.get("a", start=20) == b""


async def test_a_listing_that_never_ends_is_an_error(canned: Canned) -> None:
    canned.says(
        200,
        EMPTY_LISTING.replace(b"false", b"true").replace(
            b"<Name>", b"<NextContinuationToken>again</NextContinuationToken><Name>"
        ),
    )
    async with opened(canned.endpoint) as store:
        with pytest.raises(StoreError, match="repeats the same page"):
            await store.list("")


async def test_a_listing_shows_no_key_from_outside_the_prefix_and_none_that_could_not_be_read(canned: Canned) -> None:
    names = ["prefix/good", "other/a", "prefix/../a", "prefix/", "prefix/folder/", "prefix//a", "prefixed/a", "/etc/x"]
    entries = "".join(f"<Contents><Key>{name}</Key><Size>1</Size><ETag>e</ETag></Contents>" for name in names)
    prefixes = "".join(
        f"<CommonPrefixes><Prefix>prefix/{p}</Prefix></CommonPrefixes>" for p in ("a/", "/", "../", ".b/")
    )
    canned.says(200, EMPTY_LISTING.replace(b"<MaxKeys>", f"{entries}{prefixes}<MaxKeys>".encode()))
    async with opened(canned.endpoint) as store:
        assert [info.key for info in await store.list("")] == ["good"]
        level = await store.list_level("")
        assert ([info.key for info in level.objects], level.prefixes) == (["good"], ["a/"])


async def test_a_store_that_refuses_the_condition_is_found_out(canned: Canned) -> None:
    async with opened(canned.endpoint) as store:
        canned.says(200, b"", 'ETag: "e"')  # ignores it: takes everything
        assert not await conditional_put_works(store)


async def test_puts_carry_no_checksum_that_older_stores_refuse(canned: Canned) -> None:
    canned.says(200, b"", 'ETag: "e"')
    async with opened(canned.endpoint) as store:
        await store.put("a", b"x", if_absent=True)
    head = canned.requests[0].lower()
    assert b"if-none-match: *" in head
    assert b"x-amz-checksum" not in head
    assert b"aws-chunked" not in head
    assert b"us-east-1/s3" in head  # signed for a region although none is set


async def test_without_credentials_the_error_says_so(
    canned: Canned, monkeypatch: pytest.MonkeyPatch, blocking_calls_fail: BlockBuster
) -> None:
    blocking_calls_fail.deactivate()  # botocore's chain looks for small files, once, before there is any work
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with opened(canned.endpoint) as store:
        with pytest.raises(Denied, match="credentials"):
            await store.check()


async def test_a_profile_that_does_not_exist_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    with pytest.raises(ConfigError, match="nobodys"):
        await S3Store.open("bucket")


# Against the real server


async def test_keys_that_are_wrong_are_denied(seaweed_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(seaweed_server.endpoint) as store:
        with pytest.raises(Denied, match="InvalidAccessKeyId"):
            await store.check()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed_server.access_key)
    async with opened(seaweed_server.endpoint) as store:
        with pytest.raises(Denied, match="SignatureDoesNotMatch"):
            await store.list("")


async def test_a_reader_may_read_and_is_denied_writing(
    seaweed_server: SeaweedServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, seaweed_server.access_key, seaweed_server.secret_key)
    async with opened(seaweed_server.endpoint, bucket) as store:
        await store.put("a", b"x")
    use(monkeypatch, seaweed_server.reader_access_key, seaweed_server.reader_secret_key)
    async with opened(seaweed_server.endpoint, bucket) as store:
        await store.check()
        assert await store.get("a") == b"x"
        for writes in (store.put("a", b"y"), store.delete("a"), conditional_put_works(store)):
            with pytest.raises(Denied):
                await writes


async def test_a_missing_bucket_is_said_so_with_the_remedy(
    seaweed_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, seaweed_server.access_key, seaweed_server.secret_key)
    async with opened(seaweed_server.endpoint, "nobody-made-it") as store:
        for ask in EVERY_METHOD:
            if ask is EVERY_METHOD[6]:  # deleting from nowhere is done
                continue
            with pytest.raises(NotFound) as caught:
                await ask(store)
            assert str(caught.value) == (
                f"bucket nobody-made-it does not exist at {seaweed_server.endpoint}; "
                "create it or start with --create-bucket"
            )


async def test_a_bucket_is_made_where_asked_and_used_where_it_is_there(
    seaweed_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, seaweed_server.access_key, seaweed_server.secret_key)
    for expected in ([], ["a"]):
        async with opened(seaweed_server.endpoint, "made-when-asked", create_bucket=True) as store:
            assert [info.key for info in await store.list("")] == expected
            await store.put("a", b"x")
    use(monkeypatch, seaweed_server.reader_access_key, seaweed_server.reader_secret_key)
    async with opened(seaweed_server.endpoint, "made-when-asked", create_bucket=True) as store:
        assert await store.get("a") == b"x"  # the right to make buckets isn't needed where it stands
    with pytest.raises(Denied):
        async with opened(seaweed_server.endpoint, "another-one", create_bucket=True):
            pass


async def test_a_bucket_asked_for_while_the_server_is_down_is_made_once_it_is_up(
    seaweed_server: SeaweedServer, canned: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    canned.fails(503, "ServiceUnavailable")
    async with opened(canned.endpoint, create_bucket=True) as store:
        with pytest.raises(Unavailable):
            await store.check()
        canned.says(200, EMPTY_LISTING)
        await store.check()


async def test_a_call_that_is_cancelled_leaves_the_store_usable(canned: Canned) -> None:
    async with opened(canned.endpoint) as store:
        with anyio.move_on_after(0.05) as scope:
            await store.get("a")
        assert scope.cancelled_caught
        canned.says(200, b"x", 'ETag: "e"')
        assert await store.get("a") == b"x"


@pytest.fixture
def bucket(seaweed_server: SeaweedServer) -> str:
    return seaweed_server.new_bucket()


def use(monkeypatch: pytest.MonkeyPatch, access_key: str, secret_key: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)


@pytest.fixture
def unused_tcp_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])
