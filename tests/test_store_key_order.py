"""Listings reach every key in both orders that stores have: by the whole key, and folder by folder."""

from __future__ import annotations

from hypothesis import assume, example, given
from hypothesis import strategies as st

from pipeline.stores.key_order import settled, start_after

_names = st.text(st.sampled_from("ab-!0"), min_size=1, max_size=3)
_key = st.lists(_names, min_size=1, max_size=3).map("/".join)
_some_keys = st.lists(_key, min_size=1, max_size=8, unique=True).map(
    lambda keys: [key for key in keys if not any(other.startswith(f"{key}/") for other in keys)]
)
_prefix = st.sampled_from(["", "a", "a/", "a-", "a/b", "-", "ab/a/"])


def by_key(keys: list[str], start: str) -> list[str]:
    return sorted(key for key in keys if key > start)


def by_folder(keys: list[str], start: str) -> list[str]:
    """As SeaweedFS does, measured: a folder's own name in ``start`` leaves out all that is in it."""
    listed = sorted(keys, key=lambda key: key.split("/"))
    if start.endswith("/"):
        return [key for key in listed if key.split("/") > start.split("/")]
    return [
        key
        for key in listed
        if not start or (key.split("/") > start.split("/") and f"{start}/" != key[: len(start) + 1])
    ]


@example(["a/b", "a-b", "a0", "ab/a"], "", "a-b")
@example(["ns/c/s", "ns-a/c/s"], "", "ns-a/c/s")
@given(_some_keys, _prefix, _key)
def test_no_key_beyond_the_start_is_missed_in_either_order(keys: list[str], prefix: str, after: str) -> None:
    assume(after <= prefix or after.startswith(prefix))
    below = [key for key in keys if key.startswith(prefix)]
    wanted = {key for key in below if key > after}
    start = start_after(prefix, after)
    assert start <= after
    assert wanted <= set(by_key(below, start))
    assert wanted <= set(by_folder(below, start))


@given(_some_keys, _prefix)
def test_nothing_that_comes_later_sorts_below_what_is_settled(keys: list[str], prefix: str) -> None:
    below = [key for key in keys if key.startswith(prefix)]
    for listed in (by_key(below, ""), by_folder(below, "")):
        for at, last in enumerate(listed):
            assert all(later > settled(prefix, last) for later in listed[at + 1 :])


def test_in_a_folder_of_segments_few_are_listed_again() -> None:
    folder = "ns/c/s/events/n/"
    names = [f"{folder}{seq:012d}.jsonl.zst" for seq in range(2000)]
    for after in names[::7]:
        start = start_after(folder, after)
        assert sum(start < name <= after for name in names) <= 11
        assert settled(folder, after) == after
