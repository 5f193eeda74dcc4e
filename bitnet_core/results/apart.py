"""Whether trainings were measured against the same thing at all: the same teacher, and the same held-out texts."""

from collections.abc import Mapping, Sequence
from typing import Any

from bitnet_core.results.differing import settings_of
from bitnet_core.results.subject import Subject
from bitnet_core.text import crop, finite, flat, listed, number

_NAME_CELLS = 40
_WITHOUT_MODEL = ("", "embedded")


def measured_apart(subjects: Sequence[Subject], letters: str) -> str:
    """Why their held-out figures can't be compared, as a clause; empty if they can, as far as is known."""
    pairs = list(zip(letters, subjects, strict=False))
    teachers = {letter: _teacher(settings_of(one)) for letter, one in pairs}
    texts = {letter: finite(getattr(one.training.held_out, "heldout_tokens", None)) for letter, one in pairs}
    known = {letter: tokens for letter, tokens in texts.items() if tokens is not None}
    reasons = []
    if len(set(teachers.values())) > 1:
        told = ", ".join(f"{letter} {crop(flat(name), _NAME_CELLS)}" for letter, name in teachers.items())
        reasons.append(f"their teachers differ ({told})")
    if len(set(known.values())) > 1:
        told = listed([f"{letter} {number(tokens)}" for letter, tokens in known.items()])
        reasons.append(f"they were measured on different texts ({told} held-out tokens)")
    return ", and ".join(reasons)


def _teacher(values: Mapping[str, Any]) -> str:
    """The model that a subject's traces are of; its provider where that has one model or names none."""
    provider = str(values.get("TEACHER_PROVIDER") or values.get("PROVIDER") or "")
    if provider in _WITHOUT_MODEL:
        return provider
    return str(values.get("TEACHER_MODEL") or values.get(f"{provider.upper()}_MODEL") or provider)
