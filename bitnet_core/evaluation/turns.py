"""Time several models by turns, so that what slows the machine slows all of them. Pure: the turns are given.

Speeds that are taken minutes apart compare the machine's load as much as the models. In a round every model has one
short turn, A B A B …. A speed is the median of its turns, with the quartiles as the spread; the ratio of two models
is the median over rounds, because the two turns of a round had nearly the same load.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FEWEST_ROUNDS = 27
MOST_ROUNDS = 101
NOTABLE_SPREAD = 0.1


@dataclass(frozen=True)
class Spread:
    """The median of what some turns gave, and the quartiles."""

    median: float
    low: float
    high: float
    turns: int

    @property
    def share(self) -> float:
        """The interquartile range as a share of the median."""
        return (self.high - self.low) / self.median

    @property
    def remark(self) -> str:
        """What must stand beside the number: its spread where it is notable, or nothing."""
        return f", spread {self.share:.0%}" if self.share > NOTABLE_SPREAD else ""


def spread(values: Sequence[float]) -> Spread:
    """The median of at least one turn and its quartiles."""
    several = values if len(values) > 1 else [*values, *values]
    low, median, high = statistics.quantiles(several, n=4, method="inclusive")
    return Spread(median, low, high, len(values))


def take_turns(
    models: Sequence[Callable[[int], float]],
    clock: Callable[[], float],
    seconds: float,
    after_round: Callable[[int], None] = lambda _rounds: None,
) -> list[list[float]]:
    """The turns of each model; a call with the round's number is one turn, and gives tokens/s.

    Rounds go on for `seconds` of `clock`, but there are at least FEWEST_ROUNDS and at most MOST_ROUNDS of them.
    `after_round` is called with the number of rounds so far, and may raise to stop.
    """
    turns: list[list[float]] = [[] for _ in models]
    end = clock() + seconds
    for place in range(MOST_ROUNDS):
        if place >= FEWEST_ROUNDS and clock() >= end:
            break
        for model, values in zip(models, turns, strict=True):
            values.append(model(place))
        after_round(place + 1)
    return turns


def ratio(ones: Sequence[float], others: Sequence[float]) -> Spread:
    """How many times as fast the ones are: of the two turns of each round, which had the same load, the median."""
    return spread([one / other for one, other in zip(ones, others, strict=True)])
