"""Quality on held-out traces: agreement with the teacher, coarse KL, cross-entropy, bits per byte, with intervals.

Nothing is averaged before the end: each sequence leaves its sums, every figure is a ratio of sums, and the
95 % interval is a bootstrap over sequences, for tokens of one answer are not independent.

With student logits z, teacher candidates K, their log-masses ℓ_k and the rest ℓ_o, in nats per token and at τ = 1:

    s_k = z_k − LSE(z),  s_o = LSE(z outside K) − LSE(z),  KL = Σ_k e^ℓ_k (ℓ_k − s_k) + e^ℓ_o (ℓ_o − s_o)

Teacher and student are compared in bits per byte on *shared* tokens: those whose logprob the teacher reported (it
carries candidates there and the token that follows is one of them). Tokens sampled outside the top-k are not.

Shapes: S sequences, N supervised positions, n positions of one chunk, K candidates, V vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.model.student import Student
from bitnet_core.traces.dataset import TraceSequence, top1_counts
from bitnet_core.traces.examples import Example, Targets, collate

Float64 = npt.NDArray[np.float64]
_NEG_INF = float("-inf")
_LN2 = math.log(2)
_BATCH = 8
_CHUNK_BYTES = {"cpu": 24 << 20}
_CHUNK_BYTES_ELSEWHERE = 256 << 20
_RESAMPLES = 1000

# What is summed for each sequence. kd_*: positions that carry the teacher's candidates; shared_*: see above.
SUMS = (
    "tokens",
    "bytes",
    "nats",
    "kd_tokens",
    "kd_kl",
    "kd_agree",
    "kd_majority",
    "kd_teacher_top1",
    "shared_tokens",
    "shared_bytes",
    "shared_student_nats",
    "shared_teacher_nats",
)


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % bootstrap interval over sequences."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Scores:
    """Sums of one student over held-out sequences, `sums_SM` in the order of SUMS."""

    sums_SM: Float64
    vocab_size: int

    def total(self, name: str) -> float:
        return float(self.sums_SM[:, SUMS.index(name)].sum())


def majority_token(train: Sequence[TraceSequence], vocab_size: int) -> int | None:
    """The teacher's most frequent top-1 token on the *training* side; None when nothing carries candidates."""
    counts_V = top1_counts(train, vocab_size)
    return int(counts_V.argmax()) if counts_V.any() else None


@torch.no_grad()
def score(
    student: Student,
    examples: Sequence[Example],
    byte_lengths_V: Sequence[int],
    majority: int | None,
    between: Callable[[int], None] = lambda _done: None,
) -> Scores:
    """Sums of every example at the student's present activation bits, in the order of `examples`.

    `byte_lengths_V` has the bytes of text that each id stands for, 0 for special tokens. `between` is told how
    many examples are done, and may raise.
    """
    device = student.output_weight.device
    lengths_V = torch.tensor(byte_lengths_V, dtype=torch.float64, device=device)
    sums_SM = np.zeros((len(examples), len(SUMS)))
    order = sorted(range(len(examples)), key=lambda place: len(examples[place].ids_T))
    for start in range(0, len(order), _BATCH):
        between(start)
        places = order[start : start + _BATCH]
        batch = collate([examples[place] for place in places]).to(device)
        hidden_ND = student(batch.ids_BT).flatten(0, 1).index_select(0, batch.positions_N)
        sums_NM = _position_sums(student, hidden_ND, batch.targets, lengths_V, majority)
        owners_N = torch.repeat_interleave(
            torch.arange(len(places)), torch.tensor([len(examples[place].targets) for place in places])
        ).to(device)
        sums_BM = sums_NM.new_zeros(len(places), len(SUMS)).index_add_(0, owners_N, sums_NM)
        sums_SM[places] = sums_BM.cpu().numpy()
    between(len(order))
    return Scores(sums_SM, student.config.vocab_size)


def _position_sums(
    student: Student, hidden_ND: Tensor, targets: Targets, lengths_V: Tensor, majority: int | None
) -> Tensor:
    """[N, len(SUMS)] in fp64; logits exist for a chunk of positions at a time."""
    room = _CHUNK_BYTES.get(hidden_ND.device.type, _CHUNK_BYTES_ELSEWHERE)
    chunk = max(16, room // (4 * student.config.vocab_size))
    targets = targets.at_least_one_candidate()
    parts = []
    for start in range(0, len(targets), chunk):
        rows = targets.rows(start, start + chunk)
        z_nV = student.logits(hidden_ND[start : start + chunk]).float()
        parts.append(_chunk_sums(z_nV, rows, lengths_V, majority))
    return torch.cat(parts)


def _chunk_sums(z_nV: Tensor, rows: Targets, lengths_V: Tensor, majority: int | None) -> Tensor:
    """The addends of each position; consumes `z_nV`."""
    observed_n = rows.observed_N
    kd_n = rows.kd_valid_N
    top1_n = rows.topk_ids_NK[:, 0]
    agree_n = z_nV.argmax(dim=1) == top1_n
    lse_n = z_nV.logsumexp(dim=1).double()
    nats_n = lse_n - z_nV.gather(1, observed_n[:, None]).squeeze(1).double()

    teacher_nK = rows.topk_logprobs_NK.double()
    valid_nK = (teacher_nK > _NEG_INF) & kd_n[:, None]
    # Padding has id 0, which may be a real token elsewhere: let it repeat the row's first candidate.
    ids_nK = torch.where(valid_nK, rows.topk_ids_NK, top1_n[:, None])
    student_nK = z_nV.gather(1, ids_nK).double() - lse_n[:, None]
    tail_n = z_nV.scatter_(1, ids_nK, _NEG_INF).logsumexp(dim=1).double() - lse_n
    kl_nK = torch.where(valid_nK, teacher_nK.exp() * (teacher_nK - student_nK), 0.0)
    other_n = rows.other_logprob_N.double()
    # 0·log 0 = 0 for a teacher without any other mass.
    kl_other_n = torch.where(other_n > _NEG_INF, other_n.exp() * (other_n - tail_n), 0.0)
    kl_n = kl_nK.sum(dim=1) + kl_other_n

    hit_nK = valid_nK & (rows.topk_ids_NK == observed_n[:, None])
    shared_n = hit_nK.any(dim=1)
    teacher_nats_n = -torch.where(hit_nK, teacher_nK, 0.0).sum(dim=1)
    bytes_n = lengths_V[observed_n]
    majority_n = top1_n == (-1 if majority is None else majority)
    columns = {
        "tokens": torch.ones_like(nats_n),
        "bytes": bytes_n,
        "nats": nats_n,
        "kd_tokens": kd_n,
        "kd_kl": torch.where(kd_n, kl_n, 0.0),
        "kd_agree": kd_n & agree_n,
        "kd_majority": kd_n & majority_n,
        "kd_teacher_top1": torch.where(kd_n, teacher_nK[:, 0].exp(), 0.0),
        "shared_tokens": shared_n,
        "shared_bytes": torch.where(shared_n, bytes_n, 0.0),
        "shared_student_nats": torch.where(shared_n, nats_n, 0.0),
        "shared_teacher_nats": teacher_nats_n,
    }
    return torch.stack([columns[name].double() for name in SUMS], dim=1)


def figures(scores: Scores, seed: int, resamples: int = _RESAMPLES) -> dict[str, Estimate]:
    """Every figure by name, each with its interval; BitnetError when there is nothing to divide by.

    agreement, majority_agreement, teacher_self_agreement (how often a sample of the teacher at temperature 1
    is its own top-1), coarse_kl (nats/token), ce (nats/token) and bits_per_byte over all tokens; and over shared
    tokens student_ce, teacher_ce, student_bits_per_byte, teacher_bits_per_byte, student_quality,
    teacher_quality and their quotient quality_ratio.
    """
    if not scores.total("shared_bytes"):
        raise BitnetError(
            "No held-out token carries the teacher's own probability, so quality can't be measured; "
            "collect more traces (KD_NUM_PROMPTS)."
        )
    draws_RS = np.random.default_rng(seed).multinomial(
        len(scores.sums_SM), np.full(len(scores.sums_SM), 1 / len(scores.sums_SM)), size=resamples
    )
    points = _ratios(scores.sums_SM.sum(axis=0, keepdims=True))
    spread = _ratios(draws_RS @ scores.sums_SM)
    return {name: _estimate(float(points[name][0]), spread[name]) for name in points}


def _estimate(value: float, spread_R: Float64) -> Estimate:
    # A resample of the few sequences without any byte or candidate has no figure.
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
