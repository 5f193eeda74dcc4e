"""Reading what another version or another program may have written: one odd value must not hide the rest."""

from typing import Any, TypeVar, get_type_hints

import msgspec

_T = TypeVar("_T")


def without_odd_fields(raw: dict[str, Any], kind: type[_T]) -> _T:
    """A struct or dataclass from a JSON object, less the optional fields whose value has a wrong type.

    msgspec.ValidationError if a required field is missing or has a wrong type.
    """
    kept, hints = dict(raw), get_type_hints(kind)
    for field in msgspec.inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        if field.name in kept and not field.required:
            try:
                msgspec.convert(kept[field.name], hints[field.name])
            except msgspec.ValidationError:
                del kept[field.name]
    return msgspec.convert(kept, kind)
