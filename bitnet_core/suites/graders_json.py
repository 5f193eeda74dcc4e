"""The JSON value in an answer, against a schema or as a tool call."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bitnet_core.suites.refusals import refuses
from bitnet_core.suites.schema import equal, mismatch

_DEEPEST = 32
_ATTEMPTS = 20
# Possessive, so that blanks before an end that never comes are not tried again in every division.
_FENCE = re.compile(r"```[ \t]*+[\w+-]*+[ \t]*+\r?\n?"), "```"
_TOOL_TAG = re.compile("<tool_call>"), "</tool_call>"


class _NotStrict(ValueError):
    """The message says what is wrong."""


def schema_fault(answer: str, schema: Mapping[str, Any]) -> str:
    """Why the answer is not one JSON value that fits the schema; empty if it is."""
    try:
        value = _only_value(answer)
    except _NotStrict as error:
        return str(error)
    return mismatch(value, schema)


def tool_fault(answer: str, name: str, arguments: Mapping[str, Sequence[Any]], optional: Sequence[str]) -> str:
    """Why the answer is not this call; empty if it is. The arguments may be a JSON text, as OpenAI's API has them."""
    try:
        call = _only_value(answer)
        if isinstance(call, list) and len(call) == 1:
            call = call[0]
        if not isinstance(call, dict):
            return "it is not one call"
        given = call.get("arguments")
        if isinstance(given, str):
            given = _parsed(given)
    except _NotStrict as error:
        return str(error)
    if call.get("name") != name:
        return "it calls another tool"
    if set(call) != {"name", "arguments"}:
        return "a call has a name and arguments, and nothing else"
    if not isinstance(given, dict):
        return "its arguments are not an object"
    for argument, accepted in arguments.items():
        if argument not in given:
            if argument in optional:
                continue
            return f"the argument {argument} is missing"
        if not any(_same(given[argument], one) for one in accepted):
            return f"the argument {argument} has another value"
    extra = next((argument for argument in given if argument not in arguments), None)
    return "" if extra is None else f"there is no argument {extra[:40]}"


def _same(given: Any, accepted: Any) -> bool:
    """Equality of JSON values, but texts are compared without case and repeated spaces."""
    if isinstance(given, str) and isinstance(accepted, str):
        return " ".join(given.casefold().split()) == " ".join(accepted.casefold().split())
    if isinstance(given, list) and isinstance(accepted, list):
        return len(given) == len(accepted) and all(map(_same, given, accepted))
    return equal(given, accepted)


# -- finding the value -----------------------------------------------------------------------------------
def _only_value(answer: str) -> Any:
    """The one JSON object or array of an answer: all of it, in a fence, or with prose around it."""
    for wrapped in (_TOOL_TAG, _FENCE):
        found = _block(answer, 0, *wrapped)
        if found is None:
            continue
        start, inside, end = found
        if _block(answer, end, *wrapped):
            raise _NotStrict("it has several blocks")
        outside = answer[:start] + answer[end:]
        if _spans(outside):
            raise _NotStrict("it has several JSON values")
        _refuse_refusal(outside)
        return _parsed(inside)
    if answer[0] in "[{" and answer[-1] in "]}":
        spans = _spans(answer)
        if len(spans) <= 1:
            return _parsed(answer)
    spans = _spans(answer)
    if not spans:
        raise _NotStrict("it has no JSON object or array")
    if len(spans) > 1:
        raise _NotStrict("it has several JSON values")
    start, end = spans[0]
    _refuse_refusal(answer[:start] + " " + answer[end:])
    return _parsed(answer[start:end])


def _block(text: str, place: int, opening: re.Pattern[str], closing: str) -> tuple[int, str, int] | None:
    """Where the first block behind a place starts, what is in it, and where it ends.

    One pass: an end that never comes is not looked for from every beginning.
    """
    begin = opening.search(text, place)
    end = text.find(closing, begin.end()) if begin else -1
    return (begin.start(), text[begin.end() : end], end + len(closing)) if begin and end >= 0 else None


def _refuse_refusal(prose: str) -> None:
    if refuses(prose):
        raise _NotStrict("it is a refusal")


def _spans(text: str) -> list[tuple[int, int]]:
    """Where objects and arrays stand in a text, by their brackets; outside of them a quote is an apostrophe."""
    spans: list[tuple[int, int]] = []
    place = 0
    for _ in range(_ATTEMPTS):
        start = next((at for at in range(place, len(text)) if text[at] in "[{"), None)
        if start is None:
            break
        end = _end_of_value(text, start)
        if end is not None and (text[start] == "{" or not _is_prose(text[start:end])):
            spans.append((start, end))
        place = end or start + 1
    return spans


def _is_prose(bracketed: str) -> bool:
    """Whether square brackets hold words, as in "[see below]"."""
    return re.fullmatch(r"\[[A-Za-z][^\"\[\]{}]*\]", bracketed) is not None and bracketed not in (
        "[true]",
        "[false]",
        "[null]",
    )


def _end_of_value(text: str, start: int) -> int | None:
    depth, inside, escaped = 0, False, False
    for at in range(start, len(text)):
        sign = text[at]
        if inside:
            if escaped:
                escaped = False
            elif sign == "\\":
                escaped = True
            elif sign == '"':
                inside = False
        elif sign == '"':
            inside = True
        elif sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
            if not depth:
                return at + 1
    return None


def _parsed(text: str) -> Any:
    """Strict JSON: no repeated names, no NaN, bounded depth. Raises _NotStrict."""
    if _depth(text) > _DEEPEST:
        raise _NotStrict("its JSON is nested too deeply")
    try:
        value = json.loads(
            text.strip(), object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
        )
    except _NotStrict:
        raise
    except (ValueError, RecursionError) as error:
        raise _NotStrict("its JSON has a mistake") from error
    if not isinstance(value, dict | list):
        raise _NotStrict("it has no JSON object or array")
    return value


def _depth(text: str) -> int:
    depth = deepest = 0
    for sign in text:
        if sign in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif sign in "]}":
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _NotStrict("its JSON has a name twice")
    return found


def _constant(name: str) -> float:
    raise _NotStrict(f"{name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _NotStrict("its JSON has a number that is too large")
    return value


def _int(text: str) -> int:
    if len(text) > 300:
        raise _NotStrict("its JSON has a number that is too large")
    return int(text)
