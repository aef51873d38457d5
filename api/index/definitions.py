"""What many task attempts have in common, kept once: a definition without what is the attempt's own.

A million attempts of one function share everything but their ids, names and parents. That common part is a
``Template``; an attempt holds its number. Filters on its fields are so decided once a template.

Promises: two accounts of one attempt (both dialects may tell of it) become one template by the rule of
``order.combine``: said beats unsaid, whichever came first.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from api.index.order import combine, encode
from pipeline.events import TaskDefinition

_TEMPLATE_BYTES = 1200


class Template(Struct, frozen=True):
    """The common part of a definition. ``named``: the dialect carries names, so an empty one is meant."""

    type: str
    language: str
    func_or_class_name: str
    named: bool
    required_resources: dict[str, float]
    serialized_runtime_env: str
    runtime_env_config: dict[str, Any] | None
    runtime_env_uris: dict[str, Any] | None
    placement_group_id: bytes
    call_site: str | None
    label_selector: dict[str, str]
    fallback_strategy: dict[str, Any] | None
    is_detached_actor: bool


_NONE = Template("", "", "", False, {}, "", None, None, b"", None, {}, None, False)
_NIL = b"\xff" * 18


class Templates:
    """All templates by number, from 1 on; 0 is an attempt that has not been defined."""

    __slots__ = ("_codes", "_merged", "nbytes", "values")

    def __init__(self) -> None:
        self.values: list[Template] = [_NONE]
        self._codes: dict[tuple[object, ...], int] = {}
        self._merged: dict[tuple[int, int], int] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self.values)

    def code(self, record: TaskDefinition) -> int:
        """The number of a definition's common part."""
        resources, labels = record.required_resources, record.label_selector
        config, uris, fallback = record.runtime_env_config, record.runtime_env_uris, record.fallback_strategy
        key = (
            record.func_or_class_name,
            record.type,
            record.name is None,
            record.language,
            record.serialized_runtime_env,
            record.placement_group_id,
            record.call_site,
            record.is_detached_actor,
            tuple(resources.items()) if resources else None,
            tuple(labels.items()) if labels else None,
            None if config is None else encode(config),
            None if uris is None else encode(uris),
            None if fallback is None else encode(fallback),
        )
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = self._add(_template(record))
        return code

    def merged(self, one: int, other: int) -> int:
        """The number of what two accounts of one attempt say together."""
        pair = (one, other) if one < other else (other, one)
        code = self._merged.get(pair)
        if code is None:
            both = combine(self.values[pair[0]], self.values[pair[1]])
            code = next((old for old in pair if self.values[old] == both), 0) or self._find(both)
            self._merged[pair] = code
        return code

    def _find(self, template: Template) -> int:
        key = (encode(template),)
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = self._add(template)
        return code

    def _add(self, template: Template) -> int:
        self.values.append(template)
        self.nbytes += _TEMPLATE_BYTES + 2 * len(msgspec.msgpack.encode(template))
        return len(self.values) - 1


def _template(record: TaskDefinition) -> Template:
    group = record.placement_group_id
    return Template(
        type=record.type,
        language=record.language,
        func_or_class_name=record.func_or_class_name,
        named=record.name is not None,
        required_resources=record.required_resources,
        serialized_runtime_env=record.serialized_runtime_env,
        runtime_env_config=record.runtime_env_config,
        runtime_env_uris=record.runtime_env_uris,
        placement_group_id=b"" if group == _NIL else group,
        call_site=record.call_site,
        label_selector=record.label_selector,
        fallback_strategy=record.fallback_strategy,
        is_detached_actor=record.is_detached_actor,
    )
