"""How to list in key order from a store that may list folder by folder. Pure.

S3 lists by the whole key: ``a-b`` before ``a/b``, because ``-`` sorts before ``/``. SeaweedFS, a file system
underneath, lists by one name after another: all of ``a/`` first, then ``a-b``. It also starts ``StartAfter``
in that order, and takes the name of a folder there to mean "after all of it". The two orders differ only
where one key has a slash and the other a character that sorts before it.
"""

from __future__ import annotations


def start_after(prefix: str, after: str) -> str:
    """A ``StartAfter`` from which both orders reach all keys beyond ``after``, or ``""`` to start at the beginning.

    It may reach too many; for names of one length, as segments have, that is fewer than ten. ``after`` is cut at
    the first character before the slash that isn't given by the prefix, and one more, so that it names no folder.
    """
    if after <= prefix:
        return ""
    at = next((at for at in range(len(prefix), len(after)) if after[at] < "/"), len(after))
    if at and after[at - 1] != "/":
        at -= 1
    return after[:at] if at > len(prefix) else ""


def settled(prefix: str, last: str) -> str:
    """Up to where a listing that has come to ``last`` is complete in key order, whichever order the store has.

    Folder by folder, what comes after ``a/x`` may still be ``a-b``, but nothing before ``a``.
    """
    slash = last.find("/", len(prefix))
    return last if slash < 0 else last[:slash]
