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
_REFUSING = frozenset({400, 403, 405, 422, 501})
_FIXED = re.compile(
    r"only\b.{0,40}\b(?:default|allowed|supported|accepted|permitted)|(?:only|must) (?:be )?(?:set to )?1\b"
)
_OUT_OF_RANGE = re.compile(
    r"must be|between|less than|greater than|at most|at least|[<>≤≥]|range|maximum|minimum|exceed"
)
_UNKNOWN = re.compile(
    r"unsupported|not support|not permitted|not allowed|not accept|not available|unknown|unrecogni[sz]ed|unexpected"
    r"|extra (?:inputs|fields)|deprecated|not (?:a )?valid|invalid (?:parameter|argument|field)"
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
    range is a mistake in the settings: without it, the server would do something else than was asked for.
    """
    if reply.code not in _REFUSING or reply.about_the_prompt:
        return None
    words = f"{reply.words()} {(reply.error or {}).get('param') or ''}".lower()
    for name, value in sent.items():
        named = re.search(rf"\b(?:{name}|{name.replace('_', '')})\b", words)
        if named and (value in NEUTRAL.get(name, ()) or _takes_no_other(words)):
            return name
    return None


def _takes_no_other(words: str) -> bool:
    return bool(_FIXED.search(words) or (_UNKNOWN.search(words) and not _OUT_OF_RANGE.search(words)))
