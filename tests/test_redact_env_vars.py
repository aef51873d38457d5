"""Secrets stay on the machine: after redaction no value of any ``env_vars`` is left, and nothing else has changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.captures import captures

from pipeline.redact import redact_block, redact_json, show_masked

Json = Any

SECRET = "s3cr3t-"
texts = st.text(max_size=12).filter(lambda text: "env_vars" not in text) | st.sampled_from(
    ['a"b', "a\\", '\\"', "\\\\", "é€😀", "}{", '": "', "\n\t", "\\u0022", "'", "*"]
)
secrets = texts.map(lambda text: f"{SECRET}{text}")
names = st.text(max_size=8).map(lambda text: f"N{text}")
env_vars = st.dictionaries(names, secrets, max_size=4)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def tree(secret: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    """Values with runtime environments here and there, as objects and as JSON texts in strings, deeper and deeper."""
    runtime_env = st.builds(
        lambda env, rest: {**rest, "env_vars": env}, secret, st.dictionaries(names, plain, max_size=2)
    )
    return st.recursive(
        runtime_env,
        lambda inner: (
            st.builds(
                lambda value, rest: {"runtime_env": value, **rest}, inner, st.dictionaries(names, plain, max_size=2)
            )
            | st.builds(lambda value, rest: [rest, value, rest], inner, plain)
            | st.builds(
                lambda value, escaped: {"serialized_runtime_env": json.dumps(value, ensure_ascii=escaped)},
                inner,
                st.booleans(),
            )
        ),
        max_leaves=4,
    )


def masked(value: Json, name: str = "") -> Json:
    """The same with the secrets gone, decided on the decoded value: what redaction must come to, but for lengths."""
    if isinstance(value, dict):
        return {
            key: {k: gone(v) for k, v in inner.items()} if key == "env_vars" else masked(inner, key)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [masked(item) for item in value]
    if isinstance(value, str) and name == "serialized_runtime_env":
        return masked(json.loads(value))
    return value


def gone(value: Json) -> Json:
    if isinstance(value, str):
        assert SECRET in value or value.strip("*") == ""
        return "gone"
    if isinstance(value, dict):
        return {k: gone(v) for k, v in value.items()}
    return [gone(v) for v in value] if isinstance(value, list) else "gone"


def opened(value: Json) -> Json:
    """All JSON texts in strings decoded."""
    return masked(value)


@settings(max_examples=400, deadline=None)
@given(value=tree(env_vars), escaped=st.booleans(), compact=st.booleans())
@example(value={"env_vars": {}}, escaped=True, compact=False)
def test_a_record_parses_keeps_its_length_and_loses_only_the_values(value: Json, escaped: bool, compact: bool) -> None:
    line = json.dumps(value, ensure_ascii=escaped, separators=(",", ":") if compact else None).encode() + b"\n"

    after = redact_block(line)

    assert len(after) == len(line)
    assert b"s3cr" not in after
    assert opened(json.loads(after)) == masked(value)


nested = st.recursive(
    secrets | st.integers(10_000, 10**12) | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x * 1.0001),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(value=tree(st.dictionaries(names, nested, max_size=3)))
def test_values_that_ray_would_refuse_are_masked_too(value: Json) -> None:
    line = json.dumps(value).encode()

    after = redact_block(line)

    assert len(after) == len(line)
    assert b"s3cr" not in after
    assert shape(json.loads(after)) == shape(value)


def shape(value: Json, secret: bool = False) -> Json:
    """The value with what is secret left open, JSON texts in strings decoded."""
    if isinstance(value, dict):
        return {key: shape(inner, secret or key == "env_vars") for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(item, secret) for item in value]
    if secret:
        return "gone"
    if isinstance(value, str) and "env_vars" in value:
        return shape(json.loads(value))
    return value


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(
        st.binary(max_size=60)
        | st.sampled_from([b'{"env_vars": {"A": "b', b'"env_vars"', b"env_vars", b'\\"env_vars\\": {\\"'])
    )
)
def test_bytes_that_are_no_json_keep_their_length_and_their_newlines(lines: list[bytes]) -> None:
    block = b"\n".join(lines)

    after = redact_block(block)

    assert len(after) == len(block)
    assert redact_block(after) == after
    assert after.count(b"\n") == block.count(b"\n")


def test_a_block_without_env_vars_is_the_very_same_object() -> None:
    block = b'{"serialized_runtime_env": "{\\"pip\\": [\\"x\\"]}"}\n' * 3

    assert redact_block(block) is block


@pytest.mark.parametrize(
    "line",
    [
        '{"message": "see env_vars: they are \\"env_vars\\" in the docs"}',
        '{"env_vars": null, "x": "kept"}',
        '{"env_vars": {}, "x": "kept"}',
        '{"env_vars": {"A": ""}, "x": "kept"}',
        '{"names": ["env_vars"], "x": "kept"}',
        '{"env_vars_too": {"A": "kept"}}',
        '{"my_env_vars": {"A": "kept"}}',
    ],
)
def test_what_only_looks_like_it_stays_as_it_is(line: str) -> None:
    assert redact_block(line.encode()).decode() == line


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ('{"env_vars":{"A":"secret","B":"x"},"pip":["y"]}', '{"env_vars":{"A":"******","B":"*"},"pip":["y"]}'),
        (r'{"s":"{\"env_vars\": {\"A\": \"se\\\"cret\\\\\"}, \"pip\": [\"y\"]}"}', r'{"s":"{\"env_vars\": {\"A\": \"**************\"}, \"pip\": [\"y\"]}"}'),
        (r'{"s":"{\u0022env_vars\u0022:{\u0022A\u0022:\u0022s\\\u0022t\u0022}}"}', r'{"s":"{\u0022env_vars\u0022:{\u0022A\u0022:\u0022**********\u0022}}"}'),
        (r'{"env_vars":{"A":"\u0073ecret"}}', r'{"env_vars":{"A":"***********"}}'),
        ('{"env_vars":{"A":12345678,"B":true,"C":["secret"]}}', '{"env_vars":{"A":11111111,"B":true,"C":["******"]}}'),
        ('{"env_vars": "secret"}', '{"env_vars": "******"}'),
        ('{"env_vars": {"A": "secr', '{"env_vars": {"A": "****'),
        ('INFO -- Creating runtime env: {"env_vars": {"A": "secret"}} with 3', 'INFO -- Creating runtime env: {"env_vars": {"A": "******"}} with 3'),
        ("INFO -- {'env_vars': {'A': 'secret', 'B': \"it's\"}, 'pip': ['x']}", "INFO -- {'env_vars': {'A': '******', 'B': \"****\"}, 'pip': ['x']}"),
    ],
)  # fmt: skip
def test_each_way_to_write_it_is_masked(line: str, after: str) -> None:
    assert redact_block(line.encode()).decode() == after


def test_two_records_of_a_block_are_masked_each_in_its_own_way() -> None:
    quick, slow = b'{"env_vars": {"A": "secret"}}\n', b'{"env_vars": {"A": ["secret"]}}\n'

    assert redact_block(quick + b"{}\n" + slow + quick) == quick.replace(b"secret", b"******") + b"{}\n" + slow.replace(
        b"secret", b"******"
    ) + quick.replace(b"secret", b"******")


def test_a_decoded_answer_reads_as_rays_own_redaction_does() -> None:
    redaction = pytest.importorskip("ray.dashboard.runtime_env_redaction")
    row = {
        "runtime_env": {"env_vars": {"A": "secret", "B": ""}, "pip": ["x"]},
        "serialized_runtime_env": json.dumps({"pip": ["x"], "env_vars": {"A": "secret"}}),
        "runtime_env_info": {"serialized_runtime_env": json.dumps({"env_vars": {"A": "secret"}})},
    }

    assert redact_json([row]) == redaction.redact_state_rows([row])


def test_masked_values_read_as_redacted_and_kept_ones_as_they_are() -> None:
    row = {"env_vars": {"A": "secret", "B": ""}, "serialized_runtime_env": json.dumps({"env_vars": {"A": "secret"}})}
    stored = json.loads(redact_block(json.dumps(row).encode()))

    assert show_masked(row)["env_vars"] == row["env_vars"]
    assert show_masked(stored) == {
        "env_vars": {"A": "<redacted>", "B": ""},
        "serialized_runtime_env": '{"env_vars": {"A": "<redacted>"}}',
    }


def test_every_recorded_line_keeps_its_length_and_its_other_values() -> None:
    folder = captures()
    if folder is None:
        pytest.skip("no captures beside the repository")
    lines = 0
    for file in [*folder.glob("*/posts-*.jsonl"), *folder.glob("*/logs/export_events/*.log")]:
        for line in file.read_bytes().splitlines(keepends=True):
            after = redact_block(line)
            assert len(after) == len(line)
            assert shape(json.loads(after)) == shape(json.loads(line))
            lines += after != line
    assert lines > 0
