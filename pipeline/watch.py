"""When to look again: the kernel's word that something changed, as a hint, and a regular look, as the truth.

Any wake-up means "scan again": which path changed is not used, because the kernel forgets some. Folders
come and go; where none can be watched it is the regular look alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import aclosing
from pathlib import Path

import anyio
import structlog
from watchfiles import awatch

log = structlog.get_logger()


class Wake:
    """Set by any number of tasks, waited for by one; setting it twice is setting it once."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, timeout: float) -> None:
        """Return when it was set since the last wait, or after ``timeout`` seconds."""
        with anyio.move_on_after(max(0.0, timeout)):
            await self._event.wait()
        self._event = anyio.Event()


async def watch(folders: Callable[[], Iterable[Path]], every: float, notify: Callable[[], None]) -> None:
    """Call ``notify`` at any change in ``folders()`` and at least once in ``every`` seconds, until cancelled."""
    complained = False
    while True:
        watched = await anyio.to_thread.run_sync(_existing, folders)
        notify()
        try:
            if watched:
                await _until_others(watched, folders, every, notify)
                continue
        except FileNotFoundError:
            pass  # gone since it was listed
        except OSError as exc:
            if not complained:
                log.warning("changes can't be watched, looking regularly", every_seconds=every, error=str(exc))
                complained = True
        await anyio.sleep(every)


async def _until_others(
    watched: list[Path], folders: Callable[[], Iterable[Path]], every: float, notify: Callable[[], None]
) -> None:
    """Watch these folders until there are others to watch."""
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_set_when_cancelled, stop)
        hints = awatch(
            *watched,
            watch_filter=None,
            debounce=50,
            step=5,
            rust_timeout=max(1, int(every * 1000)),
            yield_on_timeout=True,
            recursive=False,
            stop_event=stop,
        )
        async with aclosing(hints):
            async for _ in hints:
                notify()
                if watched != await anyio.to_thread.run_sync(_existing, folders):
                    break
        tasks.cancel_scope.cancel()


async def _set_when_cancelled(stop: anyio.Event) -> None:
    """The watcher's thread ends at this event only: without it a cancelled watch would wait for its time-out."""
    try:
        await anyio.sleep_forever()
    finally:
        stop.set()


def _existing(folders: Callable[[], Iterable[Path]]) -> list[Path]:
    return sorted({folder for folder in folders() if folder.is_dir()})
