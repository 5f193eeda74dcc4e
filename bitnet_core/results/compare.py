"""Two to eight trainings beside each other: their figures, the settings that differ, and one sentence on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bitnet_core.errors import UsageError
from bitnet_core.results.apart import measured_apart
from bitnet_core.results.differing import Difference, differences
from bitnet_core.results.figures import LAST, LOWEST, MEASURES, Figure, Measure, figures_of
from bitnet_core.results.subject import TRAIN, Subject
from bitnet_core.results.verdict import (
    LETTERS,
    Contender,
    Verdict,
    chance,
    comparable,
    settings_words,
    verdict,
)
from bitnet_core.text import UNKNOWN

FEWEST, MOST = 2, 8
BEST, OUTDATED = "*", "↻"
LEGEND = f"{BEST} best, beyond chance   {OUTDATED} outdated: made before a change   {UNKNOWN} not measured"


@dataclass(frozen=True)
class Row:
    """One measure of all subjects. `best` are the places of the best values; none if all are alike, by what is shown
    or by what chance may do, if a training is unfinished, or if they were measured by different things."""

    measure: Measure
    figures: tuple[Figure | None, ...]
    best: frozenset[int]

    def value(self, place: int) -> str:
        figure = self.figures[place]
        return UNKNOWN if figure is None else self.measure.words(figure.value)

    def marks(self, place: int) -> str:
        figure = self.figures[place]
        return (BEST if place in self.best else "") + (OUTDATED if figure and figure.outdated else "")

    def cell(self, place: int) -> str:
        """The value with its marks."""
        return f"{self.value(place)} {self.marks(place)}".rstrip()


@dataclass(frozen=True)
class Comparison:
    """`verdict` says in words which is better, by how much, and whether that can be said."""

    subjects: tuple[Subject, ...]
    rows: tuple[Row, ...]
    differing: tuple[Difference, ...]
    verdict: Verdict

    @property
    def sentence(self) -> str:
        """The verdict and what differs, with settings by their names."""
        said = (self.verdict.headline, settings_words(self.differing), self.verdict.reasons)
        return " ".join(filter(None, said))

    @property
    def shown(self) -> tuple[Row, ...]:
        """The rows to show: the lowest loss only where it is another one than the last."""
        words = {row.measure.name: [row.value(at) for at in range(len(self.subjects))] for row in self.rows}
        same = words.get(LOWEST) == words.get(LAST)
        return tuple(row for row in self.rows if not (same and row.measure.name == LOWEST))

    @property
    def names(self) -> tuple[str, ...]:
        """`A kd-smol`, `B kd-smol-lr2`."""
        return tuple(f"{letter} {one.name}" for letter, one in zip(LETTERS, self.subjects, strict=False))

    def record(self) -> dict[str, Any]:
        """As JSON, with the values as they are."""
        return {
            "sentence": self.sentence,
            "compared": [
                {
                    "letter": letter,
                    "name": one.name,
                    "root": str(one.root),
                    "runs": {stage: run.id for stage, run in one.runs.items()},
                    "states": {stage: run.state for stage, run in one.runs.items()},
                }
                for letter, one in zip(LETTERS, self.subjects, strict=False)
            ],
            "results": [
                {
                    "name": row.measure.name,
                    "better": row.measure.better or None,
                    "values": [figure and figure.value for figure in row.figures],
                    "best": sorted(row.best),
                    "outdated": [bool(figure and figure.outdated) for figure in row.figures],
                    "how": [figure and f"{figure.origin}: {figure.how}".rstrip(": ") for figure in row.figures],
                }
                for row in self.rows
            ],
            "settings": [
                {"name": one.name, "stage": one.stage or None, "values": list(one.values)} for one in self.differing
            ],
        }


def require_number(found: int) -> None:
    """UsageError for more or fewer than can be compared."""
    if not FEWEST <= found <= MOST:
        raise UsageError(f"{found or 'None'} can't be compared; name {FEWEST} to {MOST} experiments or runs.")


def compare(subjects: Sequence[Subject]) -> Comparison:
    """UsageError unless there are two to eight."""
    require_number(len(subjects))
    contenders = [Contender(place, subject, figures_of(subject)) for place, subject in enumerate(subjects)]
    unfinished = any(one.unfinished for one in subjects)
    apart = measured_apart(subjects, LETTERS)
    rows = (
        _row(
            measure,
            contenders,
            judged=not (unfinished and measure.stage == TRAIN) and not (apart and measure.by_teacher),
        )
        for measure in MEASURES
    )
    known = tuple(row for row in rows if any(row.figures))
    found = differences(subjects)
    return Comparison(tuple(subjects), known, found, verdict(contenders, found, apart))


def _row(measure: Measure, contenders: Sequence[Contender], *, judged: bool) -> Row:
    figures = tuple(one.figures.get(measure.name) for one in contenders)
    best: frozenset[int] = frozenset()
    known = [one for one in contenders if measure.name in one.figures]
    if judged and measure.better and known:
        choose = min if measure.better == "lower" else max
        first = choose(known, key=lambda one: one.figures[measure.name].value)
        alike = frozenset(one.place for one in known if _alike(first, one, measure))
        same = all(comparable(first, one, measure.name) for one in known)
        best = alike if same and len(alike) < len(known) else best
    return Row(measure, figures, best)


def _alike(one: Contender, two: Contender, measure: Measure) -> bool:
    """Whether the two are shown as the same number, or may differ by chance alone."""
    values = [each.figures[measure.name].value for each in (one, two)]
    limit = chance(one, two, measure.name)
    by_chance = limit is None or abs(values[0] - values[1]) <= limit
    return by_chance or measure.words(values[0]) == measure.words(values[1])
