"""Finds what a tokenizer leaves out of a text: a rule in its file can remove any sign, and the library is silent."""

import unicodedata
from collections.abc import Iterable

_MAY_GO = "CZM"
"""Kinds of signs that tokenizers change on purpose: controls, blanks, and marks on the sign before."""


def first_dropped(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The first sign of `text` that no span [first, last) holds, blanks, controls and marks apart; "" if none."""
    place = 0
    for first, last in sorted(spans):
        if lost := _first_sign(text[place:first]):
            return lost
        place = max(place, last)
    return _first_sign(text[place:])


def _first_sign(text: str) -> str:
    return next((sign for sign in text if unicodedata.category(sign)[0] not in _MAY_GO), "")
