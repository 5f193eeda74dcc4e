"""A JSON value against a schema: the part of JSON Schema (2020-12) that items use, each keyword as there.

An item file may come from anywhere, so there are no references, which a validator would fetch, and no patterns, which
may take for ever to match. A schema with another keyword is refused when it is read.
"""

from collections.abc import Mapping
from typing import Any

_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength")
_BOUNDS = ("minimum", "maximum")
_KEYWORDS = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "uniqueItems", *_COUNTS}
    | {*_BOUNDS, "description", "title"}
)
_DEEPEST = 8


def refuse_schema(schema: Any, where: str = "schema", depth: int = 0) -> None:
    """ValueError unless `mismatch` can check every keyword of `schema`."""
    if depth > _DEEPEST:
        raise ValueError(f"{where} is nested too deeply")
    if not isinstance(schema, dict):
        raise ValueError(f"{where} is not an object")
    for name, value in schema.items():
        if name not in _KEYWORDS:
            raise ValueError(f"{where} has the keyword {name[:30]!r}, which is not supported")
        if not _well_formed(name, value):
            raise ValueError(f"{where}.{name} has a value that is not allowed there")
    for name, inner in schema.get("properties", {}).items():
        refuse_schema(inner, f"{where}.properties.{name[:30]}", depth + 1)
    if "items" in schema:
        refuse_schema(schema["items"], f"{where}.items", depth + 1)


def _well_formed(name: str, value: Any) -> bool:
    match name:
        case "type":
            kinds = value if isinstance(value, list) else [value]
            return bool(kinds) and all(kind in _TYPES for kind in kinds)
        case "properties":
            return isinstance(value, dict)
        case "required":
            return isinstance(value, list) and all(isinstance(one, str) for one in value)
        case "enum":
            return isinstance(value, list) and bool(value)
        case "additionalProperties" | "uniqueItems":
            return isinstance(value, bool)
        case "minimum" | "maximum":
            return _is_number(value)
        case "description" | "title":
            return isinstance(value, str)
    return name not in _COUNTS or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)


def mismatch(value: Any, schema: Mapping[str, Any], where: str = "the value") -> str:
    """What is wrong with `value`, in a few words; empty if it fits."""
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(_is_a(kind, value) for kind in kinds):
            return f"{where} is not of type {' or '.join(kinds)}"
    if "const" in schema and not equal(value, schema["const"]):
        return f"{where} is not the expected value"
    if "enum" in schema and not any(equal(value, one) for one in schema["enum"]):
        return f"{where} is none of the allowed values"
    if isinstance(value, dict):
        return _object_mismatch(value, schema)
    if isinstance(value, list):
        return _array_mismatch(value, schema, where)
    if isinstance(value, str):
        short, long = len(value) < schema.get("minLength", 0), len(value) > schema.get("maxLength", len(value))
        return f"{where} is too {'short' if short else 'long'}" if short or long else ""
    if _is_number(value):
        low, high = value < schema.get("minimum", value), value > schema.get("maximum", value)
        return f"{where} is too {'small' if low else 'large'}" if low or high else ""
    return ""


def _object_mismatch(value: dict[str, Any], schema: Mapping[str, Any]) -> str:
    properties = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in value:
            return f"{name} is missing"
    if not schema.get("additionalProperties", True):
        for name in value:
            if name not in properties:
                return f"{name[:40]} is not allowed"
    return next(
        (fault for name in properties if name in value and (fault := mismatch(value[name], properties[name], name))),
        "",
    )


def _array_mismatch(value: list[Any], schema: Mapping[str, Any], where: str) -> str:
    if len(value) < schema.get("minItems", 0):
        return f"{where} has too few entries"
    if len(value) > schema.get("maxItems", len(value)):
        return f"{where} has too many entries"
    if schema.get("uniqueItems") and any(equal(one, other) for at, one in enumerate(value) for other in value[:at]):
        return f"{where} has an entry twice"
    if "items" in schema:
        return next((fault for one in value if (fault := mismatch(one, schema["items"], f"an entry of {where}"))), "")
    return ""


def equal(one: Any, other: Any) -> bool:
    """Equality of JSON values: 1 equals 1.0, but true is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def _is_a(kind: str, value: Any) -> bool:
    match kind:
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return _is_number(value) and value == int(value)
        case "number":
            return _is_number(value)
    return value is None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
