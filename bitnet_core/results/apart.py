"""Whether trainings were measured against the same thing at all: the same teacher, and the same held-out texts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bitnet_core.results.differing import settings_of
from bitnet_core.results.subject import Subject
from bitnet_core.secrets.known import redactor
from bitnet_core.text import crop, finite, flat, listed, number

_NAME_CELLS, _ADDRESS_CELLS = 40, 60
_WITHOUT_MODEL = ("", "embedded")


class Teacher(NamedTuple):
    """Two are the same only if they are equal. One without a model has none, or its provider decides it."""

    provider: str
    model: str = ""
    address: str = ""

    def words(self) -> tuple[str, str, str]:
        """Its name, with its provider, and with its address too."""
        name = crop(flat(self.model or self.provider), _NAME_CELLS)
        of_provider = f"{name} of {flat(self.provider)}" if self.model else name
        at_address = f" at {crop(flat(redactor()(self.address)), _ADDRESS_CELLS)}" if self.address else ""
        return name, of_provider, of_provider + at_address


def measured_apart(subjects: Sequence[Subject], letters: str) -> str:
    """Why their held-out figures can't be compared, as a clause; empty if they can, as far as is known."""
    pairs = list(zip(letters, subjects, strict=False))
    texts = {letter: finite(getattr(one.training.held_out, "heldout_tokens", None)) for letter, one in pairs}
    known = {letter: tokens for letter, tokens in texts.items() if tokens is not None}
    reasons = [reason] if (reason := _teachers_apart(pairs)) else []
    if len(set(known.values())) > 1:
        told = listed([f"{letter} {number(tokens)}" for letter, tokens in known.items()])
        reasons.append(f"they were measured on different texts ({told} held-out tokens)")
    return ", and ".join(reasons)


def _teachers_apart(pairs: Sequence[tuple[str, Subject]]) -> str:
    """That their teachers differ, or may: where no run of collect tells whose the traces are, settings only hint."""
    teachers = {letter: teacher_of(settings_of(one)) for letter, one in pairs}
    if len(set(teachers.values())) < 2:
        return ""
    known = {letter: teachers[letter] for letter, one in pairs if "collect" in one.runs}
    different = set(known.values())
    ways = zip(*(one.words() for one in different), strict=True)
    level = next((place for place, way in enumerate(ways) if len(set(way)) == len(different)), -1)
    told = ", ".join(
        f"{letter} {known[letter].words()[level] if letter in known else 'not known'}" for letter in teachers
    )
    found = "their teachers differ" if len(different) > 1 else "it is not known whether their teachers are the same"
    return f"{found} ({told})"


def teacher_of(values: Mapping[str, Any]) -> Teacher:
    """The teacher of these settings."""
    provider = str(values.get("TEACHER_PROVIDER") or values.get("PROVIDER") or "")
    if provider in _WITHOUT_MODEL:
        return Teacher(provider)
    model, address = (
        str(values.get(f"TEACHER_{what}") or values.get(f"{provider.upper()}_{what}") or "")
        for what in ("MODEL", "BASE_URL")
    )
    return Teacher(provider, model, address.rstrip("/"))
