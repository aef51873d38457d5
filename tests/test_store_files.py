"""The file store keeps its promises against crashes, other processes, and whatever somebody left in its folder."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import pytest
from blockbuster import blockbuster_ctx

from pipeline.errors import AlreadyExists, ConfigError, Denied, NotFound, StoreError, Unavailable
from pipeline.stores import filestore
from pipeline.stores.filestore import FileStore
from pipeline.stores.store import Listing, ObjectStore

pytestmark = pytest.mark.anyio

Ask = Callable[[ObjectStore], Awaitable[object]]
EVERY_METHOD: list[Ask] = [
    lambda store: store.put("a/b", b"x"),
    lambda store: store.put("a/b", b"x", if_absent=True),
    lambda store: store.get("a/b"),
    lambda store: store.list("a/"),
    lambda store: store.list_level("a/"),
    lambda store: store.delete("a/b"),
    lambda store: store.check(),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> FileStore:
    return FileStore(root)


@pytest.fixture(autouse=True)
def blocking_calls_fail() -> Iterator[None]:
    with blockbuster_ctx():
        yield


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [info.key for info in await store.list(prefix)]


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


# What somebody left in the root


@pytest.fixture
def outside(tmp_path: Path, root: Path) -> Path:
    """A folder beside the root, and links that lead there."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("secret")
    (root / "a").mkdir(parents=True)
    (root / "link").symlink_to(folder)
    (root / "a" / "secret").symlink_to(folder / "secret")
    (root / "a" / "up").symlink_to("../..")
    (root / "a" / "none").symlink_to(folder / "none")
    return folder


LINKED = ["link/secret", "a/secret", "a/up/outside/secret", "a/none"]


async def test_no_link_in_the_root_leads_a_read_outside(store: FileStore, outside: Path) -> None:
    for key in LINKED:
        with pytest.raises(NotFound):
            await store.get(key)
    assert await store.list("") == []
    assert await store.list("link/") == []
    assert await store.list_level("") == Listing([], [])
    assert await store.list_level("link/") == Listing([], [])


async def test_no_link_in_the_root_leads_a_write_or_a_delete_outside(store: FileStore, outside: Path) -> None:
    for key in LINKED:
        with pytest.raises(StoreError):
            await store.put(key, b"mine", if_absent=True)
        await store.delete(key)
    for key in ("link/new", "link/secret", "a/up/outside/secret"):
        with pytest.raises(StoreError):
            await store.put(key, b"mine")
    await store.put("a/secret", b"mine")
    await store.put("a/none", b"mine")
    assert await store.get("a/secret") == b"mine"
    assert await anyio.to_thread.run_sync(files, outside) == ["secret"]
    assert await anyio.Path(outside / "secret").read_text() == "secret"


@pytest.fixture
def odd_things(root: Path) -> Iterator[None]:
    folder = root / "a"
    folder.mkdir(parents=True)
    (folder / ".hidden").write_text("x")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("x")
    (root / "lost+found").mkdir()
    (root / "lost+found" / "x").write_text("x")
    (folder / "new\nline").write_text("x")
    (folder / os.fsdecode(b"not\xffutf8")).write_text("x")
    os.mkfifo(folder / "pipe")
    (folder / "empty" / "folders").mkdir(parents=True)
    deep = root / "/".join("d" * 80)
    deep.mkdir(parents=True)
    (deep / "x").write_text("x")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(folder)  # a socket's path may not be long
        listening.bind("socket")
        os.chdir(here)
        yield


@pytest.mark.usefixtures("odd_things")
async def test_what_is_no_object_is_neither_listed_nor_read(store: FileStore) -> None:
    await store.put("a/b", b"x")
    assert await keys(store) == ["a/b"]
    assert await keys(store, "a/") == ["a/b"]
    assert (await store.list_level("")).prefixes == ["a/"]
    assert (await store.list_level("a/")).prefixes == []
    for key in ("a/pipe", "a/socket", "a/empty", "a/empty/folders", "a"):
        with pytest.raises(NotFound):
            await store.get(key)
    assert await store.get("a/b") == b"x"


async def test_a_folder_named_as_the_file_systems_own_is_hidden_in_the_root_only(store: FileStore) -> None:
    await store.put("a/lost+found/b", b"x")
    assert await keys(store) == ["a/lost+found/b"]


async def test_what_a_killed_put_left_is_swept_once_it_is_old(root: Path, store: FileStore) -> None:
    def leave(name: str, age: float) -> None:
        (root / ".tmp").mkdir(parents=True, exist_ok=True)
        (root / ".tmp" / name).write_text("half")
        os.utime(root / ".tmp" / name, (time.time() - age,) * 2)

    await anyio.to_thread.run_sync(leave, "old", 4000.0)
    await anyio.to_thread.run_sync(leave, "new", 60.0)
    await store.put("a", b"x")
    assert await anyio.to_thread.run_sync(files, root) == [".tmp/new", "a"]


# The root itself


async def test_a_root_that_is_not_there_is_an_empty_store_until_the_first_put_makes_it(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "not" / "yet")
    await store.check()
    assert await store.list("") == []
    with pytest.raises(NotFound):
        await store.get("a")
    assert not await anyio.Path(tmp_path / "not").exists()
    await store.put("a", b"x")
    assert await store.get("a") == b"x"


async def test_a_root_that_is_made_while_it_is_looked_for_is_no_error(
    root: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = os.open

    def too_early(*args: object, **kwargs: object) -> int:
        monkeypatch.setattr(os, "open", opens)
        root.mkdir()
        raise FileNotFoundError(errno.ENOENT, "said so")

    monkeypatch.setattr(os, "open", too_early)
    assert await store.list("") == []


async def test_a_root_that_is_a_file_is_said_so_by_every_method(tmp_path: Path) -> None:
    await anyio.Path(tmp_path / "file").write_text("x")
    for ask in EVERY_METHOD:
        with pytest.raises(StoreError, match=r"file://.*/file is not a folder"):
            await ask(FileStore(tmp_path / "file"))


async def test_a_root_below_a_file_is_said_so(tmp_path: Path) -> None:
    await anyio.Path(tmp_path / "file").write_text("x")
    store = FileStore(tmp_path / "file" / "root")
    with pytest.raises(StoreError, match="not a folder"):
        await store.check()
    with pytest.raises(StoreError):
        await store.put("a", b"x")


async def test_a_root_that_may_not_be_read_or_made_is_denied(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await anyio.Path(root).mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(Denied, match="can't be entered"):
        await FileStore(root).check()
    with pytest.raises(Denied, match=r"does not exist, and .* may not be written to"):
        await FileStore(tmp_path / "absent" / "root").check()


async def test_a_relative_root_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be an absolute path"):
        FileStore(Path("here"))


# What the system refuses


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, Unavailable),
        (errno.EDQUOT, Unavailable),
        (errno.EIO, Unavailable),
        (errno.EACCES, Denied),
        (errno.EPERM, Denied),
        (errno.EROFS, Denied),
        (errno.ENOTSUP, StoreError),
    ],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("call", ["fsync", "link"])
async def test_a_put_that_fails_has_its_kind_and_leaves_nothing(
    root: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch, call: str, number: int, kind: type[StoreError]
) -> None:
    await store.put("a/b", b"x")

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, "said so")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(StoreError, match="put a/c in file://") as caught:
            await store.put("a/c", b"y" * 1000, if_absent=True)
    assert type(caught.value) is kind
    assert await anyio.to_thread.run_sync(files, root) == ["a/b"]


async def test_a_full_disk_is_unavailable_and_leaves_no_half_object(root: Path, store: FileStore) -> None:
    await store.put("a", b"x")
    with pytest.raises(StoreError, match="put b in"):
        await anyio.to_thread.run_sync(_put_over_the_size_limit, root)
    assert await anyio.to_thread.run_sync(files, root) == ["a"]


def _put_over_the_size_limit(root: Path) -> None:
    """In another process, because the limit holds for the whole of one."""
    code = """
import resource, signal, sys, anyio
from pathlib import Path
from pipeline.stores.filestore import FileStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    anyio.run(FileStore(Path(sys.argv[1])).put, "b", bytes(1_000_000))
except Exception as exc:
    sys.exit(f"{type(exc).__name__}: {exc}")
"""
    done = _python(code, str(root))
    _, errors = done.communicate(timeout=30)
    kind, _, message = errors.decode().strip().partition(": ")
    raise {"StoreError": StoreError, "Unavailable": Unavailable}[kind](message)


async def test_a_read_that_is_not_allowed_is_denied(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.put("a", b"x")

    def fail(*args: object, **kwargs: object) -> int:
        raise PermissionError(errno.EACCES, "said so")

    monkeypatch.setattr(os, "open", fail)
    for ask in (lambda: store.get("a"), lambda: store.list(""), lambda: store.list_level(""), lambda: store.check()):
        with pytest.raises(Denied, match="permission denied"):
            await ask()


async def test_an_object_and_a_folder_of_one_name_are_refused_in_words(store: FileStore) -> None:
    await store.put("a/b", b"x")
    for if_absent in (False, True):
        with pytest.raises(StoreError) as caught:
            await store.put("a", b"y", if_absent=if_absent)
        assert not isinstance(caught.value, AlreadyExists)
        with pytest.raises(StoreError, match="put a/b/c in"):
            await store.put("a/b/c", b"y", if_absent=if_absent)
    assert await keys(store) == ["a/b"]


# Durability


async def test_a_put_returns_only_when_file_and_folder_are_on_disk(
    root: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, link, replace = os.fsync, os.link, os.replace

    def synced(fd: int) -> None:
        fsync(fd)
        name = os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), root)
        done.append(f"fsync {'the file' if name.startswith('.tmp/') else name}")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", lambda *a, **k: (link(*a, **k), done.append("link")))
    monkeypatch.setattr(os, "replace", lambda *a, **k: (replace(*a, **k), done.append("replace")))
    await store.put("a/b/c", b"x", if_absent=True)
    assert done == ["fsync ..", "fsync .", "fsync the file", "fsync .", "fsync a", "link", "fsync a/b"]
    done.clear()
    await store.put("a/b/c", b"x")
    assert done == ["fsync the file", "replace", "fsync a/b"]


WRITER = """
import sys, anyio
from pathlib import Path
from pipeline.stores.filestore import FileStore
async def main():
    store = FileStore(Path(sys.argv[1]))
    for number in range(1000000):
        await store.put(f"a/{number % 7}", bytes([number % 251]) * 1_000_000, if_absent=False)
        await store.put(f"b/{number:08d}", bytes([number % 251]) * 1_000_000, if_absent=True)
        await store.delete(f"b/{number - 5:08d}") if number >= 5 else None
anyio.run(main)
"""


@pytest.mark.parametrize("after_objects", [1, 3, 6])
async def test_a_writer_killed_in_the_midst_leaves_only_whole_objects(
    root: Path, store: FileStore, after_objects: int
) -> None:
    writer = await anyio.to_thread.run_sync(_python, WRITER, str(root))
    try:
        with anyio.fail_after(30):
            while len(await store.list("a/")) < after_objects:
                for info in await store.list(""):
                    assert info.size == 1_000_000
    finally:
        writer.send_signal(signal.SIGKILL)
        await anyio.to_thread.run_sync(writer.communicate)
    found = await store.list("")
    assert found
    for info in found:
        data = await store.get(info.key)
        assert data == data[:1] * 1_000_000
    await store.put("a/0", b"goes on")
    assert await store.get("a/0") == b"goes on"


RACER = """
import sys, anyio
from pathlib import Path
from pipeline.errors import AlreadyExists
from pipeline.stores.filestore import FileStore
async def main():
    store = FileStore(Path(sys.argv[1]))
    sys.stdin.readline()
    for number in range(40):
        try:
            await store.put(f"a/{number}/x", sys.argv[2].encode() * 10000, if_absent=True)
        except AlreadyExists:
            continue
        print(number, flush=True)
anyio.run(main)
"""


async def test_of_several_processes_exactly_one_wins_each_key(root: Path, store: FileStore) -> None:
    names = ["1", "2", "3"]

    def race() -> dict[str, list[int]]:
        racers = [_python(RACER, str(root), name) for name in names]
        for racer in racers:
            assert racer.stdin
            racer.stdin.write(b"go\n")
            racer.stdin.flush()
        return {
            name: [int(line) for line in racer.communicate(timeout=40)[0].split()]
            for name, racer in zip(names, racers, strict=True)
        }

    won = await anyio.to_thread.run_sync(race)
    assert sorted(number for numbers in won.values() for number in numbers) == list(range(40))
    for name, numbers in won.items():
        for number in numbers:
            assert await store.get(f"a/{number}/x") == name.encode() * 10000


async def test_puts_never_fail_because_a_delete_takes_their_folder_away(store: FileStore) -> None:
    async def churn(name: str) -> None:
        for _ in range(60):
            await store.put(f"a/b/c/{name}", b"x")
            assert await store.get(f"a/b/c/{name}") == b"x"
            await store.delete(f"a/b/c/{name}")

    async with anyio.create_task_group() as tasks:
        for name in "uvwxyz":
            tasks.start_soon(churn, name)
    assert await store.list("") == []
    assert await store.list_level("") == Listing([], [])


async def test_a_delete_prunes_the_folders_it_empties_and_no_other(root: Path, store: FileStore) -> None:
    await store.put("a/b/c/d", b"x")
    await store.put("a/e", b"x")
    await store.delete("a/b/c/d")
    assert await anyio.to_thread.run_sync(sorted, await anyio.to_thread.run_sync(os.listdir, root / "a")) == ["e"]
    await store.delete("a/e")
    assert await anyio.to_thread.run_sync(os.listdir, root) == [".tmp"]


async def test_every_version_has_an_etag_of_its_own_however_quickly_they_follow(store: FileStore) -> None:
    seen = set()
    for number in range(100):
        await store.put("a", b"%03d" % number)
        seen.add((await store.list(""))[0].etag)
        if number % 2:
            await store.delete("a")
    assert len(seen) == 100


# Large folders


async def test_only_what_is_beyond_after_is_looked_at(
    root: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill() -> None:
        for node in ("m", "n"):
            folder = root / "events" / node
            folder.mkdir(parents=True)
            for seq in range(2000):
                (folder / f"{seq:012d}").touch()

    await anyio.to_thread.run_sync(fill)
    looked_at: list[str] = []
    look = filestore._info

    def info(key: str, entry: os.DirEntry[str]) -> object:
        looked_at.append(key)
        return look(key, entry)

    monkeypatch.setattr(filestore, "_info", info)
    found = await store.list("events/", after=f"events/n/{1996:012d}")
    assert [info.key for info in found] == looked_at == [f"events/n/{seq:012d}" for seq in (1997, 1998, 1999)]
    looked_at.clear()
    await store.list("events/m/", after=f"events/m/{9:012d}", limit=2)
    assert looked_at == [f"events/m/{seq:012d}" for seq in (10, 11)]


def _python(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).resolve().parent.parent,
    )
