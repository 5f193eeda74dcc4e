"""What `bitnet traces browse` answers, as values. Texts are as they were written: they are made safe when drawn."""

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import msgspec

from bitnet_core.errors import BitnetError

Shading = Literal["kl", "other"]
_T = TypeVar("_T")


class Scored(msgspec.Struct, frozen=True):
    """Which student was scored on the traces; `outdated` says why it is not the newest on the present traces."""

    step: int = 0
    activation_bits: int | str | None = None
    scope: str = ""
    sequences: int = 0
    mean_kl: float | None = None
    outdated: str = ""


class Row(msgspec.Struct, frozen=True):
    """One trace in the list; `other` and `kl` are means over its tokens."""

    prompt_idx: int
    prompt: str
    tokens: int
    finish_reason: str = ""
    heldout: bool = False
    other: float | None = None
    kl: float | None = None


class Page(msgspec.Struct, frozen=True):
    """Some rows, the first at `offset` among those that match; `at` is the place of the one that was asked for."""

    total: int
    matched: int
    offset: int
    sequences: list[Row]
    at: int | None = None
    scored: Scored | None = None


class Candidate(msgspec.Struct, frozen=True):
    token: str
    probability: float | None
    student: float | None = None


class Step(msgspec.Struct, frozen=True):
    """The teacher's token, which the student's tokenizer cuts into `pieces`, the first at position `first`."""

    token: str
    first: int
    pieces: int


class Token(msgspec.Struct, frozen=True):
    """One token of an answer. `text` is its part of the text, empty inside a character."""

    position: int
    token: str
    text: str
    structure: bool = False
    teacher: Step | None = None
    candidates: list[Candidate] | None = None
    other: float | None = None
    kl: float | None = None
    student: float | None = None
    student_other: float | None = None
    student_top: list[Candidate] | None = None

    def value(self, shading: Shading) -> float | None:
        return self.kl if shading == "kl" else self.other


class Trace(Row, frozen=True, kw_only=True):
    """One trace in full."""

    positions: list[Token]
    completion_tokens: int
    scored: Scored | None = None


class WorstToken(msgspec.Struct, frozen=True):
    prompt_idx: int
    position: int


class Worst(msgspec.Struct, frozen=True):
    tokens: list[WorstToken]


class Rejected(msgspec.Struct, frozen=True):
    prompt_idx: int
    prompt: str
    answer: str = ""
    finish_reason: str | None = None


class Reason(msgspec.Struct, frozen=True):
    reason: str
    answers: int
    examples: list[Rejected]


class Rejects(msgspec.Struct, frozen=True):
    rejected: list[Reason]


def of_answer(kind: type[_T], found: dict[str, Any]) -> _T:
    """The answer as a value of its kind; BitnetError for another shape, as of another version."""
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise BitnetError(f"The process that reads traces gave an unexpected answer ({error}).") from error


def worst_first(tokens: Sequence[Token], shading: Shading) -> list[int]:
    """The positions of tokens that have a value, the largest first."""
    known = [(one.value(shading), one.position) for one in tokens]
    finite = [(value, place) for value, place in known if value is not None and math.isfinite(value)]
    return [place for _, place in sorted(finite, key=lambda one: -one[0])]


def next_in(order: Sequence[_T], here: _T) -> _T | None:
    """What follows `here` in the order, or its first if `here` is not in it; after the last the first again."""
    if not order:
        return None
    return order[(order.index(here) + 1) % len(order)] if here in order else order[0]
