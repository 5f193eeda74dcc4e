"""Where a runtime's greedy text leaves the student's, and how nearly its two likeliest tokens were tied there. Pure.

Shapes: T steps, those of all answers one after the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitnet_core.text import number

_HALF_A_CHARACTER = "\ufffd"


@dataclass(frozen=True)
class Parting:
    """The step of an answer, from 0, at which a runtime took another token. Margin and noise are in nats."""

    answer: int
    step: int
    margin: float
    """Between the student's two most likely tokens."""
    noise: float
    """What the runtime's rounding can change of such a margin; 0 where it rounds as the student does."""

    @property
    def explained(self) -> bool:
        """Whether rounding alone can make it."""
        return self.margin <= self.noise


def partings(
    texts: Sequence[str],
    answers: Sequence[Sequence[int]],
    decode: Callable[[Sequence[int]], str],
    same_T: NDArray[np.bool_],
    margin_T: NDArray[np.float64],
    noise_T: NDArray[np.float64] | None = None,
) -> list[Parting]:
    """One for each text that is not that of the student's answer, an end token included.

    `same_T` tells at which steps of the student's answers the runtime has the same most likely token.
    """
    found, first = [], 0
    for place, (text, answer) in enumerate(zip(texts, answers, strict=True)):
        if text != decode(answer):
            step = min(_common(text, answer, decode), len(answer) - 1)
            others = np.flatnonzero(~same_T[first : first + step + 1])
            # Other tokens may spell the same text for a while.
            step = int(others[0]) if len(others) else step
            noise = 0.0 if noise_T is None else float(noise_T[first + step])
            found.append(Parting(place, step, float(margin_T[first + step]), noise))
        first += len(answer)
    return found


def _common(text: str, answer: Sequence[int], decode: Callable[[Sequence[int]], str]) -> int:
    """How many of the answer's tokens the text begins with."""
    for count in range(1, len(answer) + 1):
        if not text.startswith(decode(answer[:count]).rstrip(_HALF_A_CHARACTER)):
            return count - 1
    return len(answer)


def words(found: Sequence[Parting], texts: int) -> str:
    """A clause about the texts that differ, the one that rounding explains least."""
    worst = max(found, key=lambda one: one.margin - one.noise)
    verb = "differs, from a step" if len(found) == 1 else "differ, at the clearest from a step"
    told = f"{len(found)} of {texts} texts {verb} where the student's two most likely tokens are "
    told += f"{number(worst.margin)} nats apart"
    if worst.noise == 0:
        return told
    bound = f"the {number(worst.noise)} that rounding can change"
    return f"{told}, {'less' if worst.explained else 'more'} than {bound}"
