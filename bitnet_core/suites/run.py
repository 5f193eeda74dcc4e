"""Ask whatever can answer prompts every item of some suites, grade the answers, and score each suite.

An item without an answer is not a wrong one: it is counted as unanswered, with the reason, and the score is the share
of answered items that passed.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bitnet_core.suites.graders import grade
from bitnet_core.suites.intervals import Estimate, macro_share, share
from bitnet_core.suites.items import Item


@dataclass(frozen=True)
class Unanswered:
    """Why there is no answer."""

    reason: str


Answer = str | Unanswered
Suites = Mapping[str, Sequence[Item]]
OnAnswer = Callable[[int, Answer], None]


class Answerer(Protocol):
    """Something that answers prompts."""

    def __call__(self, prompts: Sequence[str], on_answer: OnAnswer, /) -> None:
        """Call `on_answer` with the number of each prompt and its answer, in any order; both may raise."""


@dataclass(frozen=True)
class Graded:
    """An item and what became of it. `passed` is None without an answer, and `reason` says why not."""

    suite: str
    item: Item
    text: str
    passed: bool | None
    reason: str


@dataclass(frozen=True)
class Score:
    """One suite, or all of them. `estimate` is None if nothing was answered."""

    items: int
    answered: int
    passed: int
    estimate: Estimate | None

    @property
    def unanswered(self) -> int:
        return self.items - self.answered


def prompts_of(suites: Suites) -> list[str]:
    """The prompts of all items, in the order in which answers are numbered."""
    return [item.prompt for items in suites.values() for item in items]


def run_suites(suites: Suites, answerer: Answerer) -> list[Graded]:
    """Every item of every suite, in order."""
    answers: dict[int, Answer] = {}
    answerer(prompts_of(suites), answers.__setitem__)
    return grade_answers(suites, answers)


def grade_answers(suites: Suites, answers: Mapping[int, Answer]) -> list[Graded]:
    """Every item, with the answer to its prompt; one that is not there is unanswered."""
    order = [(name, item) for name, items in suites.items() for item in items]
    silent = Unanswered("no answer came")
    return [_graded(name, item, answers.get(place, silent)) for place, (name, item) in enumerate(order)]


def _graded(suite: str, item: Item, answer: Answer) -> Graded:
    if isinstance(answer, Unanswered):
        return Graded(suite, item, "", None, answer.reason)
    verdict = grade(item, answer)
    return Graded(suite, item, answer, verdict.passed, verdict.reason)


def scores(graded: Sequence[Graded], seed: int) -> dict[str, Score]:
    """The score of each suite, in order."""
    by_suite: dict[str, list[Graded]] = {}
    for one in graded:
        by_suite.setdefault(one.suite, []).append(one)
    return {name: _score(ones, [_passes(ones)], seed) for name, ones in by_suite.items()}


def total(graded: Sequence[Graded], seed: int) -> Score:
    """The mean of the suites' scores, each suite with the same weight."""
    names = dict.fromkeys(one.suite for one in graded)
    return _score(graded, [_passes([one for one in graded if one.suite == name]) for name in names], seed)


def unanswered(graded: Sequence[Graded]) -> Counter[str]:
    """How many items got no answer, by reason."""
    return Counter(one.reason for one in graded if one.passed is None)


def _passes(graded: Sequence[Graded]) -> list[bool]:
    return [one.passed for one in graded if one.passed is not None]


def _score(graded: Sequence[Graded], groups: Sequence[Sequence[bool]], seed: int) -> Score:
    answered = sum(map(len, groups))
    if not answered:
        return Score(len(graded), 0, 0, None)
    estimate = share(groups[0], seed) if len(groups) == 1 else macro_share(groups, seed)
    return Score(len(graded), answered, sum(map(sum, groups)), estimate)
