"""Quality on held-out traces: agreement with the teacher, coarse KL, cross-entropy, bits per byte, with intervals.

Every figure is a ratio of sums over sequences (`scores`). Its 95 % interval is a bootstrap over sequences, because
the tokens of one answer are not independent.

Shapes: S sequences, M sums, R resamples.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.scores import SUMS, Float64, Scores, majority_token, score
from bitnet_core.model.student import Student
from bitnet_core.runs.reporter import Reporter
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces.dataset import TraceSet
from bitnet_core.traces.examples import Examples

_LN2 = math.log(2)
_RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % bootstrap interval over sequences."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Quality:
    """Figures by activation bits, the student's own first; `scores` are those at its own bits."""

    by_bits: dict[int, dict[str, Estimate]]
    scores: Scores

    @property
    def own(self) -> dict[str, Estimate]:
        return next(iter(self.by_bits.values()))


def measure_quality(
    packed: Student,
    own_bits: int,
    traces: TraceSet,
    tokenizer: StudentTokenizer,
    reporter: Reporter,
    *,
    max_seq_len: int,
    seed: int,
) -> Quality | None:
    """Quality at the student's own activation bits and at the other width; None when no prompt is held out."""
    train, held_out = traces.split()
    if not held_out:
        reporter.alert(
            "warning",
            "no_heldout",
            "The traces have only one prompt, so none is held out to measure quality on.",
            "Collect more prompts (KD_NUM_PROMPTS).",
        )
        return None
    max_len = min(max_seq_len, packed.config.max_position_embeddings)
    examples = Examples(held_out, max_len)
    if lost := examples.cuts.completion_tokens:
        reporter.log(f"MAX_SEQ_LEN={max_len} cut {lost} held-out tokens off, as in training.")
    byte_lengths = [len(tokenizer.text_bytes(index)) for index in range(traces.vocab_size)]
    majority = majority_token(train, traces.vocab_size)
    by_bits: dict[int, dict[str, Estimate]] = {}
    scores: dict[int, Scores] = {}
    for bits in (own_bits, 4 if own_bits == 8 else 8):
        packed.activation_bits = bits
        progress = _progress(reporter, len(examples), f"quality at A{bits}")
        scores[bits] = score(packed, examples, byte_lengths, majority, progress)
        by_bits[bits] = figures(scores[bits], seed)
    packed.activation_bits = own_bits
    return Quality(by_bits, scores[own_bits])


def _progress(reporter: Reporter, total: int, label: str) -> Callable[[int], None]:
    def on_progress(done: int) -> None:
        reporter.check_stop()
        reporter.progress(done, total, "sequences", label)

    return on_progress


def figures(scores: Scores, seed: int, resamples: int = _RESAMPLES) -> dict[str, Estimate]:
    """Every figure by name, each with its interval; BitnetError when there is nothing to divide by.

    Over positions with candidates: agreement, majority_agreement, teacher_self_agreement (how often a sample of the
    teacher at temperature 1 is its own top-1) and coarse_kl (nats/token). Over all tokens: ce (nats/token) and
    bits_per_byte. Over shared tokens: student_ce, teacher_ce, student_bits_per_byte, teacher_bits_per_byte,
    student_quality, teacher_quality and their quotient quality_ratio.
    """
    if not scores.total("shared_bytes"):
        raise BitnetError(
            "No held-out token has the teacher's own probability, so quality can't be measured; "
            "collect more traces (KD_NUM_PROMPTS)."
        )
    draws_RS = np.random.default_rng(seed).multinomial(
        len(scores.sums_SM), np.full(len(scores.sums_SM), 1 / len(scores.sums_SM)), size=resamples
    )
    points = _ratios(scores.sums_SM.sum(axis=0, keepdims=True))
    spread = _ratios(draws_RS @ scores.sums_SM)
    return {name: _estimate(float(points[name][0]), spread[name]) for name in points}


def _estimate(value: float, spread_R: Float64) -> Estimate:
    # A resample may consist of sequences without bytes or candidates; it has no figure.
    finite_R = spread_R[np.isfinite(spread_R)]
    low, high = np.percentile(finite_R, [2.5, 97.5]) if len(finite_R) else (value, value)
    return Estimate(value, float(low), float(high))


def _ratios(sums_RM: Float64) -> dict[str, Float64]:
    at = {name: sums_RM[:, place] for place, name in enumerate(SUMS)}
    with np.errstate(divide="ignore", invalid="ignore"):
        student_bits = at["shared_student_nats"] / _LN2 / at["shared_bytes"]
        teacher_bits = at["shared_teacher_nats"] / _LN2 / at["shared_bytes"]
        return {
            "agreement": at["kd_agree"] / at["kd_tokens"],
            "majority_agreement": at["kd_majority"] / at["kd_tokens"],
            "teacher_self_agreement": at["kd_teacher_top1"] / at["kd_tokens"],
            "coarse_kl": at["kd_kl"] / at["kd_tokens"],
            "ce": at["nats"] / at["tokens"],
            "bits_per_byte": at["nats"] / _LN2 / at["bytes"],
            "student_ce": at["shared_student_nats"] / at["shared_tokens"],
            "teacher_ce": at["shared_teacher_nats"] / at["shared_tokens"],
            "student_bits_per_byte": student_bits,
            "teacher_bits_per_byte": teacher_bits,
            "student_quality": np.exp2(-student_bits),
            "teacher_quality": np.exp2(-teacher_bits),
            "quality_ratio": np.exp2(teacher_bits - student_bits),
        }
