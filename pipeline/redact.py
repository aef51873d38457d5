r"""Secrets stay on the machine: the values of ``env_vars`` in runtime environments are masked before anything is sent.

``redact_block`` works on raw bytes (records of every dialect, log lines, polled answers) and keeps their
length, because a record's identity is its byte offset: each byte of a value becomes ``*`` (``1`` where the
value isn't a string), names stay. A runtime environment often is JSON inside a JSON string, so the same
thing is found at any depth of escaping. ``redact_json`` and ``show_masked`` give Ray's own ``<redacted>``
for decoded answers (``ray/dashboard/runtime_env_redaction.py``). Pure.

Two ways lead to the same bytes. The quick one knows the shape that Ray writes, an object of strings quoted
by runs of backslashes, by one pattern a depth; the same environment comes thousands of times, so what was
masked is kept. Everything else goes the slow way: unescape level by level, remembering where each byte came
from. What isn't JSON is masked by its shape as far as it can be recognised: more rather than less.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

KEY = b"env_vars"
REDACTED = "<redacted>"
_DEPTHS = 4


class _Depth:
    """The patterns of JSON that stands ``depth`` strings deep: its quote is ``2**depth - 1`` backslashes and ``"``."""

    def __init__(self, depth: int) -> None:
        quote = rb'\\{%d}"' % (2**depth - 1)
        period = 2 ** (depth + 1)  # so many backslashes are one escaped backslash more or less: they change nothing
        body = rb'(?:[^"\\\n]++|\\++[^"\\\n]|(?:\\{%d})*+\\{%d}")*+(?:\\{%d})*+' % (period, period - 1, period)
        name = rb"\s*+%s%s%s\s*+:\s*+%s" % (quote, body, quote, quote)
        pair = rb"%s%s%s" % (name, body, quote)
        self.open = re.compile(rb"%s\s*+:\s*+(?=\{)" % quote)
        self.object = re.compile(rb"\{(?:%s\s*+,?+)*+\s*+\}" % pair)
        self.pair = re.compile(rb"(%s)(%s)(%s)" % (name, body, quote))


_depths = [_Depth(depth) for depth in range(_DEPTHS)]
_ODD = re.compile(rb"\\u00(?:22|5[cC])")  # a quote or backslash written by number: the quick patterns don't see those
_REPR = re.compile(rb"'env_vars'\s*+:\s*+(\{[^{}\n]*+\}?+)")  # a dict that Python printed
_REPR_VALUE = re.compile(rb"""(:\s*+)('(?:[^'\\]|\\++.)*+'?|\\*"(?:[^"\\]|\\++.)*+"?)""")


def redact_block(block: bytes) -> bytes:
    """``block`` (whole lines) with the values of all ``env_vars`` masked, byte for byte as long as it was."""
    if KEY not in block:
        return block
    out = bytearray(block)
    at = block.find(KEY)
    while at >= 0:
        after = _quick(block, out, at)
        if after is None:
            start, end = block.rfind(b"\n", 0, at) + 1, block.find(b"\n", at)
            after = len(block) if end < 0 else end
            _slow(block[start:after], out, start)
        at = block.find(KEY, after)
    return bytes(out)


def unfinished(block: bytes) -> int | None:
    """Where the line begins in which an ``env_vars`` begins that goes on behind ``block`` (whole lines); None where none does.

    Printed over several lines it can be told for what it is only as a whole.
    """
    at = block.find(KEY)
    while at >= 0:
        quoted, after = block[at - 1 : at] == b'"', at + len(KEY)
        if quoted and (colon := _OPENS.match(block, after)):
            closed = _closes(block, colon.end())
            if closed is None:
                return block.rfind(b"\n", 0, at) + 1
            after = closed
        at = block.find(KEY, after)
    return None


def _closes(text: bytes, at: int) -> int | None:
    """Where the JSON value at ``at`` ends; None where ``text`` ends first."""
    depth = 0
    while token := _TOKEN.match(text, at):
        at = token.end()
        if token[2] in (b"{", b"["):
            depth += 1
        elif token[2] in (b"}", b"]"):
            depth -= 1
        elif not depth and token[1] and not (len(token[1]) > 1 and token[1].endswith(b'"')):
            return None
        if depth <= 0 and token[2] != b":":
            return at
    return None


def _quick(block: bytes, out: bytearray, at: int) -> int | None:
    """Mask what follows the name at ``at`` if it has the shape Ray writes; where that ends, or None."""
    quote = at - 1
    if block[quote:at] != b'"':
        return None
    first = quote
    while first > 0 and block[first - 1] == 0x5C:  # a backslash
        first -= 1
    depth = (quote - first + 1).bit_length() - 1
    if quote - first != 2**depth - 1 or depth >= _DEPTHS:
        return None
    patterns = _depths[depth]
    opened = patterns.open.match(block, at + len(KEY))
    found = opened and patterns.object.match(block, opened.end())
    if not found or (depth and _ODD.search(found[0])):
        return None
    out[found.start() : found.end()] = _masked(depth, found[0])
    return found.end()


@lru_cache(maxsize=1024)
def _masked(depth: int, text: bytes) -> bytes:
    return _depths[depth].pair.sub(lambda found: found[1] + b"*" * len(found[2]) + found[3], text)


def _slow(line: bytes, out: bytearray, base: int) -> None:
    for start, end, mask in (*_spans(line, _DEPTHS), *_repr_spans(line)):
        out[base + start : base + end] = mask * (end - start)


Span = tuple[int, int, bytes]
_STRING = re.compile(rb'"((?:[^"\\]++|\\.)*+)("|\\?\Z)', re.DOTALL)
_TOKEN = re.compile(rb'\s*+(?:("(?:[^"\\]++|\\.)*+(?:"|\\?\Z))|([{}\[\],:])|([^\s{}\[\],:"]++))', re.DOTALL)
_COLON = re.compile(rb"\s*+:")
_OPENS = re.compile(rb'"(?:\s*+\Z|\s*+:)')
_ESCAPE = re.compile(rb"\\u([0-9a-fA-F]{4})|\\(.)", re.DOTALL)
_PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}
_NO_SECRETS = (b"null", b"true", b"false")


def _spans(text: bytes, depth: int) -> list[Span]:
    """What to mask in ``text``, which may be JSON, have JSON in it, or be neither."""
    spans: list[Span] = []
    done = 0
    for token in _STRING.finditer(text):
        if token.start() < done:
            continue
        inner, origin = _unescape(token[1]) if b"\\" in token[1] else (token[1], None)
        if inner == KEY and (colon := _COLON.match(text, token.end())):
            done = _value(text, colon.end(), spans)
        elif depth and KEY in inner and origin is not None:
            base = token.start(1)
            spans += [(base + origin[start], base + origin[end], mask) for start, end, mask in _spans(inner, depth - 1)]
    return spans


def _value(text: bytes, at: int, spans: list[Span]) -> int:
    """Add what is to be masked of the JSON value at ``at``; where it ends."""
    closers: list[bytes] = []  # of what is open, innermost last
    is_name = False
    while token := _TOKEN.match(text, at):
        at = token.end()
        if (string := token[1]) is not None:
            if is_name and _COLON.match(text, at):
                is_name = False
                continue
            closed = len(string) > 1 and string.endswith(b'"')
            spans.append((token.start(1) + 1, at - closed, b"*"))
        elif (mark := token[2]) is not None:
            if mark in b"{[":
                closers.append(b"}" if mark == b"{" else b"]")
            elif mark in b"}]" and (not closers or closers.pop() != mark):
                return token.start()
            is_name = mark in b"{," and bool(closers) and closers[-1] == b"}"
            if mark == b":":
                continue
        elif token[3] not in _NO_SECRETS:
            spans.append((*token.span(3), b"1"))
        if not closers:
            return at
    return at


def _unescape(body: bytes) -> tuple[bytes, list[int]]:
    """The contents of a JSON string, and for each of its bytes (and its end) where in ``body`` it came from."""
    out = bytearray()
    origin: list[int] = []
    at = 0
    for escape in _ESCAPE.finditer(body):
        out += body[at : escape.start()]
        origin.extend(range(at, escape.start()))
        stands_for = (
            chr(int(escape[1], 16)).encode(errors="surrogatepass") if escape[1] else _PLAIN.get(escape[2], escape[2])
        )
        out += stands_for
        origin.extend([escape.start()] * len(stands_for))
        at = escape.end()
    out += body[at:]
    origin.extend(range(at, len(body) + 1))
    return bytes(out), origin


def _repr_spans(line: bytes) -> list[Span]:
    """What to mask of dicts that Python printed into a log line: a guess at their shape is all there is."""
    return [
        (found.start(1) + value.start(2) + 1, found.start(1) + value.end(2) - 1, b"*")
        for found in _REPR.finditer(line)
        for value in _REPR_VALUE.finditer(found[1])
        if value.end(2) - value.start(2) > 2
    ]


def redact_json(value: Any) -> Any:
    """A copy of a decoded answer in which every value of every ``env_vars`` is Ray's ``<redacted>``."""
    return _replaced(value, lambda _: REDACTED)


def show_masked(value: Any) -> Any:
    """A copy in which values that ``redact_block`` masked read as Ray's ``<redacted>``; others stay as they are."""
    return _replaced(value, lambda old: REDACTED if isinstance(old, str) and old and not old.strip("*") else old)


def _replaced(value: Any, replace: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {
            name: {key: replace(old) for key, old in inner.items()}
            if name == "env_vars" and isinstance(inner, dict)
            else _replaced(inner, replace)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_replaced(item, replace) for item in value]
    if isinstance(value, str) and "env_vars" in value:
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            return value
        if isinstance(inner, dict | list):
            return json.dumps(_replaced(inner, replace), sort_keys=True)
    return value
