"""A ``--store`` address opens the store it names, and a wrong one is said in words, never with a secret in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import StoreConfig
from pipeline.errors import ConfigError
from pipeline.stores.open_store import open_store

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_configuration_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


async def test_a_file_address_opens_its_folder(tmp_path: Path) -> None:
    for url in (f"file://{tmp_path}/my folder", f"file://localhost{tmp_path}/my%20folder/"):
        async with open_store(StoreConfig(url=url)) as store:
            await store.put("a", b"x", if_absent=False)
            assert store.url == f"file://{tmp_path}/my folder"
    assert (tmp_path / "my folder" / "a").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("url", "endpoint", "shown"),
    [
        ("s3://bucket", None, "s3://bucket"),
        ("s3://bucket/", None, "s3://bucket"),
        ("s3://bucket/a/b/", None, "s3://bucket/a/b"),
        ("s3://bucket/a", "http://127.0.0.1:9000/", "s3://bucket/a at http://127.0.0.1:9000"),
        ("s3://bucket/a", "https://minio.example", "s3://bucket/a at https://minio.example"),
        ("memory://", None, "memory://"),
    ],
)
async def test_an_address_opens_without_asking_the_network(url: str, endpoint: str | None, shown: str) -> None:
    async with open_store(StoreConfig(url=url, endpoint=endpoint)) as store:
        assert store.url == shown


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must be s3://bucket/prefix or file:///path"),
        ("bucket", "must be s3://bucket/prefix or file:///path"),
        ("/data/history", "for a folder write file:///data/history"),
        ("file:relative", "must be s3://bucket/prefix or file:///path"),
        ("file://relative/path", "is not an absolute path: write three slashes"),
        ("file://", "is not an absolute path"),
        ("file:///a/../b", "is not a path without NUL and '..'"),
        ("file:///a%00b", "is not a path without NUL and '..'"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3://buc ket/a", "names a bucket that can't be one: 'buc ket'"),
        ("s3://bucket/a/../b", "has a prefix that can't be one"),
        ("s3://bucket/a//b", "has a prefix that can't be one"),
        ("gs://bucket", "must be s3://bucket/prefix or file:///path, not 'gs://…'"),
        ("http://host/bucket", "must be s3://bucket/prefix or file:///path"),
    ],
)
async def test_an_address_that_is_none_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        async with open_store(StoreConfig(url=url)):
            pass
    assert reason in str(caught.value)
    assert "--store" in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("minio:9000", "must be http://host:port"),
        ("ftp://minio", "must be http://host:port"),
        ("http://minio:9000/?x=1", "must be http://host:port"),
    ],
)
async def test_an_endpoint_that_is_none_is_refused_with_the_reason(endpoint: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        async with open_store(StoreConfig(url="s3://bucket", endpoint=endpoint)):
            pass


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("s3://id:hunter2@bucket/a", None),
        ("s3://bucket/a", "http://id:hunter2@minio:9000"),
        ("redis://id:hunter2@host/a", None),
    ],
)
async def test_credentials_in_an_address_are_refused_and_not_repeated(url: str, endpoint: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        async with open_store(StoreConfig(url=url, endpoint=endpoint)):
            pass
    assert "hunter2" not in str(caught.value)
