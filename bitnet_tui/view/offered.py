"""Sentences that name a key, as places to click: a click does what the key does."""

import re
from collections.abc import Sequence

from bitnet_tui.actions import by_id
from bitnet_tui.key_names import key
from bitnet_tui.view.spans import Line, Span, line, wrapped

_CLAUSE = r"\s+[a-z]+s\b(?:[^.;,:()]*[^.;,:()\s])?"
"""What a key does, behind it: `opens Reports`."""


def a_key(name: str) -> Span:
    """The key of an action, by its id, as a place to click."""
    return Span(key(name), "key", _does(name))


def _does(name: str) -> str:
    """What a screen runs for an action."""
    action = by_id(name)
    return f"app.{action.name}" if action.where == "app" else action.name


def way(name: str, words: str, does: str = "", style: str = "label") -> Line:
    """`ctrl+t test`: the key of an action, by its id, and what it does on this screen, as a place to click.

    `does` is what the screen runs, if that is not the action's own.
    """
    return line(Span(f"{key(name)} {words}", style, does or _does(name)))


def closes(name: str = "dialog.close") -> Line:
    """How a dialog's title says which key closes it, by the id of what does."""
    return way(name, "closes", "dismiss")


def linked(lines: Sequence[Line], *names: str) -> list[Line]:
    """The lines with what they say of the keys of these actions, by their ids, as places to click.

    Such as `Config (6)`, `4 Checkpoints`, `(6 Config)`, `start it (r)`, `3 opens Reports`, `Press p`; also where that
    is broken over two lines. A key that no line names in one of these ways is left as it is.
    """
    found = list(lines)
    for name in dict.fromkeys(names):
        found = _linked(found, name)
    return found


def _linked(lines: Sequence[Line], name: str) -> list[Line]:
    action, at = _does(name), 0
    text = "\n".join("".join(span.text for span in one) for one in lines)
    places = [found.span() for found in _named(by_id(name).label, key(name)).finditer(text)]
    painted: list[Line] = []
    for one in lines:
        parts: list[Span] = []
        for span in one:
            parts += _cut(span, [(first - at, end - at) for first, end in places], action)
            at += len(span.text)
        painted.append(tuple(parts))
        at += 1
    return painted


def _named(label: str, shown: str) -> re.Pattern[str]:
    words, sign = r"\s+".join(map(re.escape, label.split())), re.escape(shown)
    forms = (
        rf"(?i:\b{words})\s+\({sign}\)",
        rf"\({sign}\s+{words}\)",
        rf"(?<![^\s(])[^\s(]++\s+\({sign}\)",
        rf"(?<![^\s(]){sign}\s+{words}\b",
        rf"\b(?i:press)\s+{sign}(?![^\s.,;:)])",
        rf"(?<!\S){sign}{_CLAUSE}",
    )
    return re.compile("|".join(forms))


def _cut(span: Span, places: Sequence[tuple[int, int]], action: str) -> list[Span]:
    """The span cut so that each of these places is a span to click, without the indent before it."""
    parts: list[Span] = []
    at = 0
    for first, end in places:
        left, right = max(at, first), min(len(span.text), end)
        left += len(span.text[left:right]) - len(span.text[left:right].lstrip())
        if left < right and not span.action:
            parts += [Span(span.text[at:left], span.style), Span(span.text[left:right], "accent", action)]
            at = right
    parts.append(Span(span.text[at:], span.style, span.action))
    return [one for one in parts if one.text]


def said(text: str, style: str, *names: str) -> tuple[Line, ...]:
    """One sentence on one line, with the keys of these actions as places to click; nothing if it is empty."""
    return tuple(linked([line(Span(text, style))], *names)) if text else ()


def wrapped_links(lead: str, text: str, style: str, cells: int, *names: str) -> list[Line]:
    """As `wrapped`, with the keys of these actions as places to click."""
    return linked(wrapped(lead, text, style, cells), *names)
