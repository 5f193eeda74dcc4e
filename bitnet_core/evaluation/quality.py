"""Q_s and Q_t: what a student and its teacher score on the same items and on the same fixed text. Pure.

    Q = (1 − w) · I + w · T,    0 ≤ Q ≤ 1

I is the mean over suites and benchmarks, each alike, of the share of items that were answered right; for a benchmark
of texts it is 2^(−bits/byte). T is 2^(−bits/byte) on the fixed text, which neither model wrote, with

    bits/byte = −Σ ln p(token) / (ln 2 · bytes of the text)

summed over all tokens: the bits that a model needs for the text, whatever its tokenizer (bits per byte of Gao et al.
2020, "The Pile", section 3.1). T is the geometric mean of the probability of one byte. w is EVAL_TEXT_WEIGHT. Both
models are counted by the same rule on what both have answered; if either lacks the text or the items, both are
counted by the other alone. Equal models have equal scores, so that Q_s/Q_t is 1.

Intervals are a bootstrap over items within their suite and over passages, resampled once for both models, because an
item that is hard for one is hard for the other. Where a model passed no item, or all, resampling would claim
certainty; there the exact bound of the share is added on the side where it is open.

Shapes: N items, R resamples.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bitnet_core.suites.intervals import Estimate, Float64, draws, estimate, open_ends

COLUMNS = ["part", "of", "value", "95 % from", "95 % to", "weight", "items"]
ITEMS, TEXT = "items", "fixed text"


@dataclass(frozen=True)
class Part:
    """A suite, a benchmark or a text, as both models answered it.

    The values are 1 for right and 0 for wrong, or bits per byte where `is_text`; the weights are 1, or bytes.
    """

    name: str
    student_N: Float64
    teacher_N: Float64
    weights_N: Float64
    is_text: bool = False

    def qualities(self, counts_RN: Float64) -> tuple[Float64, Float64]:
        """Student's and teacher's quality in each resample [R], from 0 to 1."""
        weighted_RN = counts_RN * self.weights_N
        total_R = weighted_RN.sum(-1)
        student_R, teacher_R = weighted_RN @ self.student_N / total_R, weighted_RN @ self.teacher_N / total_R
        return (np.exp2(-student_R), np.exp2(-teacher_R)) if self.is_text else (student_R, teacher_R)

    def points(self) -> tuple[float, float]:
        """Both qualities as they are."""
        student_R, teacher_R = self.qualities(np.ones((1, len(self.weights_N))))
        return float(student_R[0]), float(teacher_R[0])

    def resampled(self, seed: int) -> tuple[Float64, Float64]:
        return self.qualities(draws(len(self.weights_N), seed).astype(np.float64))

    def ratio(self, seed: int) -> Estimate | None:
        """Student / teacher; None if the teacher's is 0."""
        return _ratio(self.points(), self.resampled(seed))


@dataclass(frozen=True)
class Score:
    """Both models on items, on text, or on both of them together. `ratio` is None if the teacher has 0."""

    student: Estimate
    teacher: Estimate
    ratio: Estimate | None


@dataclass(frozen=True)
class Quality:
    """Q of both models, and what it is made of; `items` or `text` is None if one of the models lacks it."""

    whole: Score
    items: Score | None
    text: Score | None
    parts: tuple[Part, ...]
    weights: dict[str, float]

    @property
    def how(self) -> str:
        """What it rests on, in a few words."""
        return " and ".join(name for name, weight in self.weights.items() if weight)


def measure(items: Sequence[Part], text: Part | None, text_weight: float, seed: int) -> Quality | None:
    """Q of both models; None if there is nothing that both answered and that has a weight."""
    found = {ITEMS: _Group(items, seed), TEXT: _Group([text] if text else [], seed + len(items))}
    asked = {ITEMS: 1 - text_weight, TEXT: text_weight}
    present = {name: asked[name] if group.parts else 0.0 for name, group in found.items()}
    total = sum(present.values())
    if not total:
        return None
    weights = {name: weight / total for name, weight in present.items()}
    groups = [(found[name], weight) for name, weight in weights.items() if weight]
    return Quality(
        whole=_score(groups),
        items=_score([(found[ITEMS], 1.0)]) if items else None,
        text=_score([(found[TEXT], 1.0)]) if text else None,
        parts=(*items, *([text] if text else [])),
        weights=weights,
    )


class _Group:
    """Parts that count alike."""

    def __init__(self, parts: Sequence[Part], seed: int) -> None:
        self.parts = parts
        if parts:
            self.points = np.mean([part.points() for part in parts], axis=0)
            self.resampled = np.mean([part.resampled(seed + place) for place, part in enumerate(parts)], axis=0)
            self.open = [_open_ends(parts, side) for side in (0, 1)]


def _open_ends(parts: Sequence[Part], side: int) -> tuple[float, float]:
    """How far below and above its score a model may be that passed all items of a part or none; (0, 0) for others."""
    suites = [part for part in parts if not part.is_text]
    return open_ends([[bool(one) for one in (part.student_N, part.teacher_N)[side]] for part in suites], len(parts))


def _score(groups: Sequence[tuple[_Group, float]]) -> Score:
    ours, theirs = (float(sum(weight * group.points[side] for group, weight in groups)) for side in (0, 1))
    resampled = sum(weight * group.resampled for group, weight in groups)
    below, above = (
        np.array([sum(weight * group.open[side][end] for group, weight in groups) for side in (0, 1)])
        for end in (0, 1)
    )
    student, teacher = (
        _between(point, resampled[side] - below[side], resampled[side] + above[side])
        for side, point in enumerate((ours, theirs))
    )
    low = _ratio((ours, theirs), (resampled[0] - below[0], resampled[1] + above[1]))
    high = _ratio((ours, theirs), (resampled[0] + above[0], resampled[1] - below[1]))
    ratio = Estimate(low.value, low.low, high.high) if low and high else None
    return Score(student, teacher, ratio)


def _between(value: float, low_R: Float64, high_R: Float64) -> Estimate:
    return Estimate(value, estimate(value, low_R).low, estimate(value, high_R).high)


def _ratio(points: tuple[float, float], resampled: tuple[Float64, Float64]) -> Estimate | None:
    if not points[1]:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimate(points[0] / points[1], resampled[0] / resampled[1])


def table(found: Quality) -> list[list[Any]]:
    """Rows under COLUMNS: items and text, then Q. Bits per byte stand beside the text's quality."""
    rows: list[list[Any]] = []
    items = [part for part in found.parts if part.name != TEXT]
    text = next((part for part in found.parts if part.name == TEXT), None)
    if found.items:
        count = sum(len(part.weights_N) for part in items)
        rows += _rows("items, suites weighted equally", found.items, found.weights[ITEMS], count)
    if found.text and text:
        bits = Score(_bits(found.text.student), _bits(found.text.teacher), None)
        rows += _rows("fixed text, bits/byte", bits, None, len(text.weights_N))
        rows += _rows("fixed text, 2^(-bits/byte)", found.text, found.weights[TEXT], len(text.weights_N))
    rows += _rows("Q", found.whole, None, None)
    if found.whole.ratio:
        rows.append(["Q_s/Q_t", "both", *_rounded(found.whole.ratio), None, None])
    return rows


def _rows(name: str, score: Score, weight: float | None, count: int | None) -> list[list[Any]]:
    return [
        [name, "student", *_rounded(score.student), weight, count],
        [name, "teacher", *_rounded(score.teacher), weight, count],
    ]


def _bits(quality: Estimate) -> Estimate:
    return Estimate(*(float(-np.log2(one)) for one in (quality.value, quality.high, quality.low)))


def _rounded(found: Estimate) -> list[float]:
    return [round(one, 4) for one in (found.value, found.low, found.high)]


def record(found: Quality) -> dict[str, Any]:
    """The report's `quality`."""
    bits = {side: _bits(getattr(found.text, side)) for side in ("student", "teacher")} if found.text else {}
    return {
        "origin": "measured",
        "interval": "95 % bootstrap over items and passages",
        "weights": found.weights,
        **asdict(found.whole),
        ITEMS: found.items and asdict(found.items),
        "text": found.text
        and asdict(found.text) | {"bits_per_byte": {side: asdict(one) for side, one in bits.items()}},
        "parts": {
            part.name: {"items": len(part.weights_N), **dict(zip(("student", "teacher"), part.points(), strict=True))}
            for part in found.parts
        },
    }
