"""Finds what a tokenizer leaves out of a text: a rule in its file can remove any sign, and the library is silent."""

import unicodedata
from collections.abc import Iterable

_MAY_GO = "CZM"
"""Kinds of signs that tokenizers change on purpose: controls, blanks, and marks on the sign before."""


def outside(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The signs of `text` that no span [first, last) holds, in their order; blanks, controls and marks apart."""
    place, found = 0, ""
    for first, last in sorted(spans):
        found += _signs(text[place:first])
        place = max(place, last)
    return found + _signs(text[place:])


def _signs(text: str) -> str:
    return "".join(sign for sign in text if unicodedata.category(sign)[0] not in _MAY_GO)
