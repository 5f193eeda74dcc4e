"""The sampling fields of a request: which mean nothing, which a server refuses, and what it means to leave one out.

A field at its neutral value changes nothing, so it is sent only to servers whose own default is another one. Some
servers refuse a field that they don't know, or whose value they have fixed. Pure: knows no HTTP client.
"""

import re
from collections.abc import Mapping
from typing import Any

from bitnet_core.teachers.http.reply import Reply

NEUTRAL: Mapping[str, tuple[float, ...]] = {
    "temperature": (1,),
    "top_p": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "repetition_penalty": (1,),
}
"""The values with which a field changes nothing."""
_COMMON_NAMES = {"topP": "top_p", "topK": "top_k"}
"""Gemini's names."""
_REFUSING = frozenset({400, 401, 403, 404, 405, 422, 501})
_LIMIT_NAMES = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_FIXED = re.compile(
    r"only (?:the )?default|only (?:be )?(?:set to )?1\b|must (?:be|equal) 1(?:\.0)?\b"
    r"|only [\d.]+ (?:is|are) (?:allowed|supported|accepted)"
)
_RANGE = re.compile(
    r"between|or (?:less|lower|more|greater|higher|below|above|fewer)|less than|greater than|at most|at least|[<>≤≥]"
    r"|range|maximum|minimum|exceed|\d\s*(?:to|-|–|\.\.)\s*\d|[\[(]\s*-?\d+(?:\.\d+)?\s*,"
)
_UNKNOWN = re.compile(
    r"unsupported|not support|not permitted|not allowed|not accept|not available|not implemented|not configurable"
    r"|can ?not be (?:set|used|changed)|unknown|unrecogni[sz]ed|unexpected|extra (?:inputs|fields)|deprecated"
    r"|no endpoints found|invalid (?:parameter|argument|field)"
)


def sampling_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling in a request's body, by the common names."""
    config = body.get("generationConfig")
    fields = {**body, **config} if isinstance(config, dict) else body
    common = {_COMMON_NAMES.get(name, name): value for name, value in fields.items()}
    return {name: common[name] for name in (*NEUTRAL, "seed") if name in common}


def without(body: dict[str, Any], left_out: frozenset[str]) -> dict[str, Any]:
    """The body without some sampling fields, given by their common names."""
    kept = {name: value for name, value in body.items() if _COMMON_NAMES.get(name, name) not in left_out}
    if isinstance(kept.get("generationConfig"), dict):
        kept["generationConfig"] = without(kept["generationConfig"], left_out)
    return kept


def refused_field(reply: Reply, sent: Mapping[str, Any]) -> str | None:
    """The field that the server refuses by name, if the request may be sent again without it.

    It may if the field changes nothing, or if the server takes no value or only one. A value outside the server's
    range is a mistake in the settings: without it, the server would do something else than was asked for. The words
    may be quoted from the prompt, so the name is only a suspicion.
    """
    name = next(iter(named_fields(reply, sent)), None)  # a list of what the server does take may follow
    if name is None:
        return None
    value = sent[name]
    return name if value in NEUTRAL.get(name, ()) or _takes_no_value(reply.words().lower(), value) else None


def named_fields(reply: Reply, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the fields that a refusal names, in the order of their names, with the values that were sent."""
    if reply.code not in _REFUSING or reply.about_the_prompt:
        return {}
    words, named = reply.words().lower(), (reply.error or {}).get("param")
    places = {name: _place(name, named.lower() if isinstance(named, str) and named else words) for name in sent}
    found = {name: place for name, place in places.items() if place is not None}
    return {name: sent[name] for name in sorted(found, key=lambda one: found[one])}


def _place(name: str, words: str) -> int | None:
    names = _LIMIT_NAMES if name == "max_tokens" else (name,)
    spelled = "|".join(f"{one}|{one.replace('_', '')}" for one in names)
    found = re.search(rf"\b(?:{spelled})\b", words)
    return found.start() if found else None


def _takes_no_value(words: str, value: Any) -> bool:
    """Whether the server takes no value of the field, or only its own; it may also refuse just this one."""
    if _RANGE.search(words):
        return False
    return bool(_FIXED.search(words) or (_UNKNOWN.search(words) and str(value) not in words))
