"""How sure the difference of two students is that were measured on the same held-out answers.

Each figure is a ratio of sums over answers, and what makes an answer hard makes it hard for both. So the difference
is taken answer by answer: for a figure Σ k_s / Σ n_s with the differences d_s of k_s, whose ratio is
D = Σ d_s / Σ n_s, the linearised residuals are r_s = (d_s − D n_s) / Σ n_s; those of KL + w·CE are r_s of KL plus
w r_s of CE. The variance is S/(S − 1) · Σ r_s² (Cochran 1977, Sampling Techniques, chapter 6: variance of a ratio).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitnet_core.text import finite

COLUMNS = ("tokens", "nats", "kd_tokens", "kd_kl", "teacher_nats")
"""Of each answer: its tokens and the student's nats on them; the tokens with candidates and the KL on these; and the
teacher's nats, which tell whether two answers are the same."""
_FEWEST, _MOST = 8, 20_000
Z95 = 1.96
"""Half-widths of a 95 % interval, in standard deviations."""


@dataclass(frozen=True)
class Answers:
    """The sums of one student over held-out answers, in the order of COLUMNS."""

    rows: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of_report(cls, report: Any) -> "Answers":
        """The answers in an evaluation's report; none if an older version wrote it or if it is not a report."""
        imitation = report.get("imitation") if isinstance(report, Mapping) else None
        found = imitation.get("answers") if isinstance(imitation, Mapping) else None
        if not isinstance(found, Mapping) or found.get("columns") != list(COLUMNS):
            return cls()
        rows = found.get("rows")
        if not isinstance(rows, list) or len(rows) > _MOST:
            return cls()
        values = [tuple(map(finite, row)) for row in rows if isinstance(row, list) and len(row) == len(COLUMNS)]
        known = [tuple(value for value in row if value is not None) for row in values]
        complete = len(known) == len(rows) and all(len(row) == len(COLUMNS) for row in known)
        return cls(tuple(known)) if complete else cls()

    def same_as(self, other: "Answers") -> bool:
        """Whether both were measured on the same answers, and on enough of them to compare."""
        pairs = zip(self.rows, other.rows, strict=False)
        return len(self.rows) == len(other.rows) >= _FEWEST and all(
            one[0] == two[0] and one[2] == two[2] and math.isclose(one[4], two[4], rel_tol=1e-6, abs_tol=1e-6)
            for one, two in pairs
        )


def half_width(one: Answers, two: Answers, kl_weight: float, ce_weight: float) -> float | None:
    """Half the 95 % interval of the difference of `kl_weight` · KL + `ce_weight` · CE; None on other answers."""
    if not one.same_as(two):
        return None
    many = len(one.rows)
    residuals = [0.0] * many
    for value, tokens, weight in ((3, 2, kl_weight), (1, 0, ce_weight)):
        counts = [row[tokens] for row in one.rows]
        whole = sum(counts)
        if not whole:
            return None
        apart = _differences(one.rows, two.rows, value)
        mean = sum(apart) / whole
        for place in range(many):
            residuals[place] += weight * (apart[place] - mean * counts[place]) / whole
    return Z95 * math.sqrt(many / (many - 1) * sum(one * one for one in residuals))


def _differences(one: Sequence[tuple[float, ...]], two: Sequence[tuple[float, ...]], column: int) -> list[float]:
    return [first[column] - second[column] for first, second in zip(one, two, strict=True)]
