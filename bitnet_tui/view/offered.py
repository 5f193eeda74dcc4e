"""Sentences that name a key, as places to click: a click does what the key does."""

import re
from collections.abc import Sequence

from bitnet_tui.actions import by_id
from bitnet_tui.key_names import key
from bitnet_tui.view.spans import Line, Span


def a_key(name: str) -> Span:
    """The key of an action, by its id, as a place to click."""
    return Span(key(name), "key", by_id(name).name)


def keyed(name: str, words: str) -> str:
    """`3 opens Reports`: the key of an action, by its id, and what it does."""
    return f"{key(name)} {words}"


def clickable(lines: Sequence[Line], name: str, words: str) -> list[Line]:
    """The lines with `keyed(name, words)` in them as a place to click, also where it is broken over two of them."""
    text = "\n".join("".join(span.text for span in one) for one in lines)
    found = re.search(r"\s+".join(map(re.escape, keyed(name, words).split())), text)
    if found is None:
        return list(lines)
    painted: list[Line] = []
    at = 0
    for one in lines:
        parts: list[Span] = []
        for span in one:
            first, end = (max(0, min(len(span.text), place - at)) for place in found.span())
            inside = span.text[first:end]
            bare = inside.lstrip()  # an indent is no place to click
            before = span.text[: end - len(bare)] if bare else span.text[:first] + inside
            parts += [Span(before, span.style, span.action), Span(bare, "accent", by_id(name).name)]
            parts.append(Span(span.text[end:], span.style, span.action))
            at += len(span.text)
        painted.append(tuple(part for part in parts if part.text))
        at += 1
    return painted
