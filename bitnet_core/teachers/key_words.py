"""Whether the words of a refusal blame the key. Pure: knows neither status nor provider; words are in lower case."""

import re

_BAD = r"(?:not valid|invalid|incorrect|wrong|expired|revoked|disabled|deactivated|unknown)"
_KEY = re.compile(
    rf"\b(?:x-)?api[ _-]?key\b.{{0,30}}\b{_BAD}\b|\b{_BAD} (?:x-)?api[ -]?key\b|api_key_invalid|invalid_api_key"
)
_NAMED = r"\b(?:keys?|tokens?|credentials?|secret|signature|authorization header)\b"
_BLAMED = re.compile(
    rf"{_NAMED}.{{0,50}}\b{_BAD}\b"
    rf"|\b(?:{_BAD}|no|missing|bad|malformed|provide|check|verify|without|need|requires?|supply)\b.{{0,25}}{_NAMED}"
    rf"|{_NAMED} (?:is |are |was |were )?(?:missing|required|not|rejected|mismatch)"
    r"|\b(?:log|sign)(?:ged)? ?in\b|\bmissing (?:scopes?|permissions?)\b|\bpermissions?\b.{0,20}\brequired\b"
)
_SOMETHING_ELSE = re.compile(r"\b(?:clock|skew|system time|allow ?list|white ?list|ip|header x-\w+|model(?!\.))\b")
_EMPTY = (
    "http error errors status code message 401 403 unauthorized unauthorised unauthenticated forbidden access "
    "permission permissions denied invalid bad request failed fails failure required not allowed the you your "
    "are is was a an to this do don t does have has no user client sorry please resource page on for of in "
    "with lack lacks be can cannot server it that perform action we unable insufficient credentials "
)
"""Words of a 401 or 403 that say no more than its status."""
_SAYING_NOTHING = frozenset(_EMPTY.split())


def names_bad_key(words: str) -> bool:
    """Whether the words say of an API key that it is bad, whatever the status."""
    return _KEY.search(words) is not None


def blames_key(words: str) -> bool:
    """Whether the words of a 401 or 403 blame the key: they name it as what is wrong, or name nothing at all."""
    if _BLAMED.search(words):
        return _SOMETHING_ELSE.search(words) is None
    said = re.findall(r"[^\W_]+", words)
    return all(word in _SAYING_NOTHING or word.startswith(("authenticat", "authoriz", "authoris")) for word in said)
