"""Reading what another version or another program may have written, whatever it is: bounded, typed, with a reason.

One odd value must not hide the rest.
"""

import errno
import os
import stat
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, get_type_hints

import msgspec

_T = TypeVar("_T")
_DEEPEST = 50
"""Levels of nesting that are read. Deeper values exhaust the stack of whoever walks them."""
_REASON_CHARS = 200


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it. OSError if it is a folder, a pipe or a device; opening a pipe could wait for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(fd, "rb")


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """The content of a regular file. OSError, also if it is longer than `limit_bytes`."""
    with open_regular(path) as source:
        data = source.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise OSError(errno.EFBIG, f"it is longer than {limit_bytes >> 20} MiB", str(path))
    return data


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
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)[:_REASON_CHARS]) from error


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
