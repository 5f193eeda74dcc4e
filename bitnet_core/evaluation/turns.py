"""Time several models by turns, so that what slows the machine slows all of them. Pure: the turns are given.

Speeds that are taken minutes apart compare the machine's load as much as the models. In a round every model has two
turns, A B B A and in the next one B A A B, so that a load that rises or falls meets all of them alike.

Two figures come from a model's turns. `spread` says what was seen: the median and the quartiles. `fastest` says what
the model does undisturbed: other programs only ever make a turn longer, and make each one longer by another amount,
so if several of the fastest turns agree, nothing disturbed them. Rounds therefore go on until they agree.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FEWEST_ROUNDS = 4
MOST_ROUNDS = 100
NOTABLE_SPREAD = 0.1
FASTEST_TURNS = 8
"""How many must agree."""
AGREEMENT = 0.015
"""By which share the fastest turn may exceed one that agrees with it."""


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
    def notable(self) -> float | None:
        """The share where it is so large that it must stand beside the number."""
        return notable(self.share)

    @property
    def remark(self) -> str:
        """What must stand beside the number: its spread where it is notable, or nothing."""
        return "" if self.notable is None else f", spread {self.notable:.0%}"


@dataclass(frozen=True)
class Fastest:
    """The mean speed of the turns that are within AGREEMENT of the fastest; `agreeing` of `turns` are.

    `spread` is the interquartile range of all turns as a share of their median.
    """

    speed: float
    agreeing: int
    turns: int
    spread: float

    @property
    def sure(self) -> bool:
        return self.agreeing >= FASTEST_TURNS


def notable(share: float) -> float | None:
    """A spread where it is so large that it must stand beside the number."""
    return share if share > NOTABLE_SPREAD else None


def spread(values: Sequence[float]) -> Spread:
    """The median of at least one turn and its quartiles."""
    several = values if len(values) > 1 else [*values, *values]
    low, median, high = statistics.quantiles(several, n=4, method="inclusive")
    return Spread(median, low, high, len(values))


def fastest(values: Sequence[float]) -> Fastest:
    """What a model does undisturbed, from at least one turn."""
    best = [value for value in values if value >= max(values) / (1 + AGREEMENT)]
    return Fastest(statistics.fmean(best), len(best), len(values), spread(values).share)


def take_turns(
    models: Sequence[Callable[[], float]],
    clock: Callable[[], float],
    seconds: float,
    after_round: Callable[[int], None] = lambda _rounds: None,
) -> list[list[float]]:
    """The turns of each model; a call is one turn, and gives tokens/s.

    There are FEWEST_ROUNDS rounds, and then more until the fastest turns of every model agree, `seconds` of `clock`
    have passed, or there were MOST_ROUNDS. `after_round` is called with the number of rounds so far, and may raise.
    """
    turns: list[list[float]] = [[] for _ in models]
    order = range(len(models))
    end = clock() + seconds
    for number in range(MOST_ROUNDS):
        enough = clock() >= end or all(fastest(values).sure for values in turns if values)
        if number >= FEWEST_ROUNDS and enough:
            break
        there, back = (order, reversed(order)) if number % 2 == 0 else (reversed(order), order)
        for place in (*there, *back):
            turns[place].append(models[place]())
        after_round(number + 1)
    return turns
