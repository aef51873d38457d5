"""The object store on a local disk: one file an object, below one root folder.

Promises what ``store.ObjectStore`` promises. A put writes a temporary file below ``{root}/.tmp``, fsyncs it,
moves it to its place in one step (a hard link for ``if_absent``, a rename otherwise) and fsyncs the folder.
Any number of processes may use one root at once.

Every path is walked folder by folder from the root, never through a symbolic link, so no key and nothing
that somebody left in the root can lead outside of it. Links, dot files, sockets and the like are not objects.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from uuid import uuid4

from anyio import to_thread

from pipeline.errors import AlreadyExists, ConfigError, Denied, NotFound, StoreError, Unavailable
from pipeline.stores.store import (
    MAX_DEPTH,
    Listing,
    ObjectInfo,
    check_key,
    check_level,
    check_prefix,
    check_range,
    is_key,
)

_TMP = ".tmp"
_TMP_AGE = 3600.0  # seconds after which a temporary file is a dead process's
_TRIES = 100  # a delete may take a folder away under a put this often
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not block its reader
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_Infos = list[ObjectInfo]  # inside the class, ``list`` is the method


class FileStore:
    """Objects as files below ``root``, which the first put makes where it is absent."""

    def __init__(self, root: Path) -> None:
        if not root.is_absolute():
            raise ConfigError(f"a store's folder must be an absolute path: {root}")
        self._root = str(root)
        self._swept = False

    @property
    def url(self) -> str:
        return f"file://{self._root}"

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        return await to_thread.run_sync(self._put, check_key(key), data, if_absent)

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        check_range(start, end)
        return await to_thread.run_sync(self._get, check_key(key), start, end)

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[ObjectInfo]:
        return await to_thread.run_sync(self._list, check_prefix(prefix), check_prefix(after), limit)

    async def list_level(self, prefix: str) -> Listing:
        return await to_thread.run_sync(self._list_level, check_level(prefix))

    async def delete(self, key: str) -> None:
        await to_thread.run_sync(self._delete, check_key(key))

    async def check(self) -> None:
        await to_thread.run_sync(self._check)

    async def aclose(self) -> None:
        return None

    # Below: in worker threads, blocking.

    def _put(self, key: str, data: bytes, if_absent: bool) -> str:
        with self._translated("put", key), self._folder([_TMP], create=True) as tmp_folder:
            self._sweep(tmp_folder)
            tmp = f"{os.getpid()}-{uuid4().hex}"
            try:
                etag = _write(tmp, tmp_folder, data)
                self._place(tmp, tmp_folder, key, if_absent)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(tmp, dir_fd=tmp_folder)
        return etag

    def _place(self, tmp: str, tmp_folder: int, key: str, if_absent: bool) -> None:
        move = partial(os.link, follow_symlinks=False) if if_absent else os.replace
        *folders, name = key.split("/")
        for _ in range(_TRIES):
            try:
                with self._folder(folders, create=True) as folder:
                    try:
                        move(tmp, name, src_dir_fd=tmp_folder, dst_dir_fd=folder)
                    except FileExistsError as exc:
                        if not S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                            raise StoreError(f"put {key} in {self.url}: a folder or link stands there") from exc
                        raise AlreadyExists(f"{key} exists in {self.url}") from exc
                    finally:
                        os.fsync(folder)  # after a lost race too: the caller will rely on what stands there
                    return
            except FileNotFoundError:
                continue  # a delete pruned the folder in between
        raise Unavailable(f"put {key} in {self.url}: its folder is removed again and again")

    def _get(self, key: str, start: int, end: int | None) -> bytes:
        *folders, name = key.split("/")
        with (
            self._translated("get", key),
            self._folder(folders) as folder,
            open(name, "rb", opener=partial(_open_object, folder)) as file,
        ):
            size = os.fstat(file.fileno()).st_size
            file.seek(start)
            return file.read(max(0, min(size, size if end is None else end) - start))

    def _list(self, prefix: str, after: str, limit: int | None) -> _Infos:
        *folders, name = prefix.split("/")
        at = prefix.removesuffix(name)
        with self._translated("list", prefix):
            try:
                with self._folder(folders) as folder, closing(_walk(folder, at, prefix, after)) as found:
                    return list(islice(found, limit))
            except OSError as exc:
                if self._nothing_there(exc):
                    return []
                raise

    def _list_level(self, prefix: str) -> Listing:
        listing = Listing([], [])
        with self._translated("list", prefix):
            try:
                with self._folder(prefix.split("/")[:-1]) as folder:
                    for key, entry in _entries(folder, prefix, prefix, ""):
                        if key.endswith("/"):
                            if _holds_object(folder, entry.name, key):
                                listing.prefixes.append(key)
                        elif info := _info(key, entry):
                            listing.objects.append(info)
            except OSError as exc:
                if not self._nothing_there(exc):
                    raise
        return listing

    def _delete(self, key: str) -> None:
        *folders, name = key.split("/")
        with self._translated("delete", key):
            try:
                with self._folder(folders) as folder:
                    if S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                        os.unlink(name, dir_fd=folder)
                self._prune(folders)
            except OSError as exc:
                if not self._nothing_there(exc):
                    raise

    def _prune(self, folders: Sequence[str]) -> None:
        for depth in range(len(folders), 0, -1):
            with self._folder(folders[: depth - 1]) as parent:
                try:
                    os.rmdir(folders[depth - 1], dir_fd=parent)
                except OSError as exc:
                    if exc.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
                        return
                    raise

    def _check(self) -> None:
        with self._translated("check", ""):
            try:
                with self._folder([]) as root, os.scandir(root) as entries:
                    next(entries, None)
                if not os.access(self._root, os.X_OK):
                    raise Denied(f"{self.url} can't be entered: give this user the right to it")
            except (FileNotFoundError, NotADirectoryError) as exc:
                parent = _existing_parent(self._root)
                if parent == self._root:
                    raise
                if not os.path.isdir(parent):
                    raise StoreError(f"{self.url} can't be made: {parent} is not a folder") from exc
                if not os.access(parent, os.W_OK | os.X_OK):
                    raise Denied(f"{self.url} does not exist, and {parent} may not be written to") from exc

    def _sweep(self, tmp_folder: int) -> None:
        """Once a process: remove what puts that were killed have left behind."""
        if self._swept:
            return
        self._swept = True
        with os.scandir(tmp_folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _TMP_AGE:
                        os.unlink(entry.name, dir_fd=tmp_folder)

    @contextmanager
    def _folder(self, names: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """A descriptor of the folder, reached step by step from the root without following a link."""
        if create:
            _make_folder(self._root)
        fd = os.open(self._root, _FOLDER & ~os.O_NOFOLLOW)
        try:
            for name in names:
                inner = _step(fd, name, create)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)

    def _nothing_there(self, exc: OSError) -> bool:
        """Whether a failed walk means "no such key"; a root that is no folder is an error of its own."""
        return exc.errno in _NO_FOLDER and not self._root_is_no_folder()

    def _root_is_no_folder(self) -> bool:
        try:
            return not S_ISDIR(os.stat(self._root).st_mode)
        except FileNotFoundError:
            return False
        except OSError:
            return True

    @contextmanager
    def _translated(self, what: str, key: str) -> Iterator[None]:
        """The one place where an OSError becomes a StoreError."""
        try:
            yield
        except OSError as exc:
            if exc.errno in _NO_FOLDER and self._root_is_no_folder():
                raise StoreError(f"{self.url} is not a folder") from exc
            if what == "get" and exc.errno in _NO_FOLDER:
                raise NotFound(f"no object {key} in {self.url}") from exc
            reason = os.strerror(exc.errno or 0).lower()
            where = f"{what} {key}".rstrip() + f" in {self.url}"
            raise _KINDS.get(exc.errno or 0, StoreError)(f"{where}: {reason}") from exc


_KINDS: dict[int, type[StoreError]] = {
    errno.ENOENT: NotFound,
    errno.EACCES: Denied,
    errno.EPERM: Denied,
    errno.EROFS: Denied,
    # Each of these passes when somebody makes room or the device comes back.
    errno.ENOSPC: Unavailable,
    errno.EDQUOT: Unavailable,
    errno.EMFILE: Unavailable,
    errno.ENFILE: Unavailable,
    errno.EIO: Unavailable,
    errno.ESTALE: Unavailable,
    errno.ETIMEDOUT: Unavailable,
}


def _step(fd: int, name: str, create: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=fd)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=fd)
    os.fsync(fd)
    return os.open(name, _FOLDER, dir_fd=fd)


def _open_object(folder: int, name: str, _flags: int) -> int:
    """Only a file that is one: no link, pipe or socket that somebody left there, and no folder."""
    try:
        fd = os.open(name, _FILE, dir_fd=folder)
    except OSError as exc:
        if exc.errno == errno.ENXIO:  # a socket
            raise FileNotFoundError(errno.ENOENT, "not a file") from exc
        raise
    if not S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "not a file")
    return fd


def _write(name: str, folder: int, data: bytes) -> str:
    fd = os.open(name, _NEW, 0o666, dir_fd=folder)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        # The kernel's own stamps are a few ms coarse: too coarse to tell two versions of the same size apart.
        os.utime(fd, ns=(now := time.time_ns(), now))
        os.fsync(fd)
        return _etag(os.fstat(fd))


def _make_folder(path: str) -> None:
    """The folder and those above it, each as durable as what will stand in it."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    _make_folder(above)
    with suppress(FileExistsError):
        os.mkdir(path)
    fd = os.open(above, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _etag(stat: os.stat_result) -> str:
    return f"{stat.st_mtime_ns:x}-{stat.st_size:x}-{stat.st_ino:x}"


def _walk(folder: int, at: str, prefix: str, after: str) -> Generator[ObjectInfo, None, None]:
    """All objects below ``folder`` in the order of their whole keys. Only what is beyond ``after`` is looked at."""
    for key, entry in _entries(folder, at, prefix, after):
        if not key.endswith("/"):
            if info := _info(key, entry):
                yield info
            continue
        try:
            inner = os.open(entry.name, _FOLDER, dir_fd=folder)
        except OSError as exc:
            if exc.errno in _NO_FOLDER:  # gone since, or swapped for a link
                continue
            raise
        try:
            yield from _walk(inner, key, prefix, after)
        finally:
            os.close(inner)


def _entries(folder: int, at: str, prefix: str, after: str) -> list[tuple[str, os.DirEntry[str]]]:
    """A folder's files and folders (their keys end in ``/``), sorted, less what can't hold a key beyond ``after``.

    A folder sorts by its name with the slash, because that is where its keys stand among its neighbours:
    ``a-b`` comes before ``a/b``.
    """
    found: list[tuple[str, os.DirEntry[str]]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            key = at + entry.name
            if entry.name.startswith(".") or not key.startswith(prefix):
                continue
            if entry.is_dir(follow_symlinks=False):
                key += "/"
                if key <= after and not after.startswith(key):
                    continue
                if not at and entry.name == "lost+found":  # the file system's own, in the root of a volume
                    continue
                if at.count("/") + 2 > MAX_DEPTH:
                    continue
            elif key <= after or not entry.is_file(follow_symlinks=False):
                continue
            if is_key(key.removesuffix("/")):
                found.append((key, entry))
    found.sort(key=lambda pair: pair[0])
    return found


def _info(key: str, entry: os.DirEntry[str]) -> ObjectInfo | None:
    """None where the file went away between being listed and being looked at."""
    try:
        stat = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return ObjectInfo(key, stat.st_size, _etag(stat))


def _holds_object(folder: int, name: str, key: str) -> bool:
    """Whether there is any object below: a folder that a killed put made and never filled is not a prefix."""
    try:
        inner = os.open(name, _FOLDER, dir_fd=folder)
    except OSError as exc:
        if exc.errno in _NO_FOLDER:
            return False
        raise
    try:
        return any(
            _holds_object(inner, entry.name, below) if below.endswith("/") else True
            for below, entry in _entries(inner, key, key, "")
        )
    finally:
        os.close(inner)


def _existing_parent(path: str) -> str:
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path
