"""Reading what another version or another program may have written, whatever it is: bounded, typed, with a reason.

One odd value must not hide the rest.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar, get_type_hints

import msgspec

from bitnet_core.files.json_faults import json_fault

_T = TypeVar("_T")
_DEEPEST = 50
"""Levels of nesting that are read. Walking deeper values exhausts the stack."""


def may_be_deep(data: bytes) -> bool:
    """Whether JSON has enough brackets to be nested more deeply than `decode` allows."""
    return data.count(b"[") + data.count(b"{") > _DEEPEST


def decode(data: bytes, kind: type[_T]) -> _T:
    """A struct or dataclass from a JSON object, less the optional fields whose value has a wrong type.

    ValueError says in a few words why there is none.
    """
    try:
        if may_be_deep(data) and _is_deep(msgspec.json.decode(data)):
            raise RecursionError
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.ValidationError:
            raw = msgspec.json.decode(data)
            if not isinstance(raw, dict):
                raise
            return _without_odd_fields(raw, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(json_fault(error, data)) from error


def _without_odd_fields(raw: dict[str, Any], kind: type[_T]) -> _T:
    """ValidationError if a required field is missing or has a wrong type."""
    kept = dict(raw)
    for name, hint in _optional_fields(kind):  # type: ignore[arg-type] # mypy: a type is hashable
        if name in kept:
            try:
                msgspec.convert(kept[name], hint)
            except msgspec.ValidationError:
                del kept[name]
    return msgspec.convert(kept, kind)


@cache
def _optional_fields(kind: type[Any]) -> list[tuple[str, Any]]:
    hints = get_type_hints(kind, include_extras=True)
    fields = msgspec.inspect.type_info(kind).fields  # type: ignore[attr-defined]
    return [(field.name, hints[field.name]) for field in fields if not field.required]


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [child for item in level for child in _children(item)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, (dict, list))]
