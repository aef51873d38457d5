"""Every error that crosses a module boundary, as one tree.

    RayHistoryError
    ├── ConfigError             an option or environment variable is wrong: say which, exit 2
    ├── StoreError              the object store did not do what was asked
    │   ├── NotFound            no such object (or bucket)
    │   ├── AlreadyExists       a conditional put lost: somebody wrote that key first
    │   ├── Denied              credentials missing, wrong or without the right
    │   ├── Throttled           asked too often; worth another try later
    │   └── Unavailable         no answer, or a 5xx; worth another try later
    ├── FormatError             bytes that are not what their place says they are
    │   ├── BadKey              a name that can't be a part of a key (``..``, ``/``, control characters)
    │   ├── BadSegment          a segment whose header or body doesn't hold together
    │   ├── BadPush             a push that doesn't, or that is larger than any may be
    │   └── BadCheckpoint       a local checkpoint that can't be read: the message says the remedy
    ├── PushFailed              a push was not taken: worth another try, and nothing is lost by it
    ├── OutputFailed            what a command prints can't be written: the disk is full, stdout is closed
    ├── Full                    a bounded thing (disk, body, queue) is full: the sender must wait
    └── HoleError               bytes of a source were skipped: never committed over

A bad *record* is a value (see ``decode.Rejected``), not an exception: one bad line never holds up
its neighbours. Vendor errors are translated in the one module that talks to the vendor, ``from exc``.
"""

from __future__ import annotations


class RayHistoryError(Exception):
    """Root of the tree."""


class ConfigError(RayHistoryError):
    """An option or environment variable is wrong."""


class StoreError(RayHistoryError):
    """The object store did not do what was asked. ``retryable`` says whether trying again can help."""

    retryable = False


class NotFound(StoreError):
    """No such object, or no such bucket."""


class AlreadyExists(StoreError):
    """A conditional put lost: the key holds an object already."""


class Denied(StoreError):
    """Credentials are missing, wrong, or lack the right."""


class Throttled(StoreError):
    """The store asks for fewer requests."""

    retryable = True


class Unavailable(StoreError):
    """The store gave no answer, or a 5xx."""

    retryable = True


class FormatError(RayHistoryError):
    """Bytes that are not what their place says they are."""


class BadKey(FormatError):
    """A name that can't be a part of an object key."""


class BadSegment(FormatError):
    """A segment whose header or body doesn't hold together."""


class BadPush(FormatError):
    """A push whose header or body doesn't hold together."""


class BadCheckpoint(FormatError):
    """A local checkpoint that can't be read."""


class PushFailed(RayHistoryError):
    """A push was not taken. ``refused``: by a server that was reached, and would refuse it again."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class OutputFailed(RayHistoryError):
    """What a command prints can't be written."""


class Full(RayHistoryError):
    """A bounded thing is full; the sender must wait and try again."""


class HoleError(RayHistoryError):
    """Bytes of a source were skipped."""
