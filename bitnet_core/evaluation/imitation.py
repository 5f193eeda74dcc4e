"""How well a student imitates its teacher, on held-out traces: agreement, coarse KL, bits per byte, with intervals.

The text is the teacher's own, drawn at the temperature of collecting and scored at 1, so that a perfect imitator may
score better than the teacher's reported logprobs do. It is not a quality: `quality` has that.

Every figure is a ratio of sums over sequences. Its 95 % interval is a bootstrap over sequences, because the tokens of
one answer are not independent. With student logits z, the teacher's candidates K, their log-masses ℓ_k and the rest
ℓ_o, in nats per token and at τ = 1:

    s_k = z_k − LSE(z),  s_o = LSE(z outside K) − LSE(z),  KL = Σ_k e^ℓ_k (ℓ_k − s_k) + e^ℓ_o (ℓ_o − s_o)

Teacher and student are compared in bits per byte on *shared* tokens: those whose logprob the teacher reported, where
the position has candidates and the token that follows is one of them. Tokens sampled outside the top-k are left out.

Shapes: S sequences, M sums, R resamples, N supervised positions (n in one chunk), K candidates, V vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.model.chunks import positions_at_a_time
from bitnet_core.model.config import told_bits
from bitnet_core.model.student import Student
from bitnet_core.runs.reporter import Reporter
from bitnet_core.suites.intervals import RESAMPLES, Estimate, draws, estimate
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces.dataset import TraceSequence, TraceSet, top1_counts
from bitnet_core.traces.examples import Example, Examples, Targets, collate

Float64 = npt.NDArray[np.float64]
_NEG_INF = float("-inf")
_LN2 = math.log(2)
_BATCH = 8

SUMS = (
    *("tokens", "bytes", "nats"),
    *("kd_tokens", "kd_kl", "kd_agree", "kd_majority", "kd_teacher_top1"),
    *("shared_tokens", "shared_bytes", "shared_student_nats", "shared_teacher_nats"),
)
"""What is summed over each sequence: over all tokens; kd_* where the teacher's candidates are known; shared_* over
shared tokens."""


@dataclass(frozen=True)
class Scores:
    """Sums of one student over held-out sequences, `sums_SM` in the order of SUMS."""

    sums_SM: Float64
    vocab_size: int

    def total(self, name: str) -> float:
        return float(self.sums_SM[:, SUMS.index(name)].sum())

    def of_each(self, names: Sequence[str]) -> Float64:
        """These sums of each sequence, [S, len(names)]."""
        return self.sums_SM[:, [SUMS.index(name) for name in names]]


@dataclass(frozen=True)
class Imitation:
    """Figures by activation bits (`told_bits`), the student's own first; `scores` are those at its own bits."""

    by_bits: dict[int | str | None, dict[str, Estimate]]
    scores: Scores

    @property
    def own(self) -> dict[str, Estimate]:
        return next(iter(self.by_bits.values()))


def measure_imitation(
    packed: Student,
    traces: TraceSet,
    tokenizer: StudentTokenizer,
    reporter: Reporter,
    *,
    max_seq_len: int,
    seed: int,
) -> Imitation | None:
    """Imitation at the student's own activation bits and at 8 and 4 throughout; None when no prompt is held out."""
    train, held_out = traces.split()
    if not held_out:
        reporter.alert(
            "warning",
            "no_heldout",
            "The traces have only one prompt, so none is held out to measure imitation on.",
            "Collect more prompts (KD_NUM_PROMPTS).",
        )
        return None
    max_len = min(max_seq_len, packed.config.max_position_embeddings)
    examples = Examples(held_out, max_len)
    if lost := examples.cuts.completion_tokens:
        reporter.log(f"MAX_SEQ_LEN={max_len} cut {lost} held-out tokens off, as in training.")
    byte_lengths = [len(tokenizer.text_bytes(index)) for index in range(traces.vocab_size)]
    majority = majority_token(train, traces.vocab_size)
    own, layers = packed.layer_bits, packed.config.num_hidden_layers
    widths = {told_bits(own): own} | {bits: (bits,) * layers for bits in (8, 4) if set(own) != {bits}}
    by_bits: dict[int | str | None, dict[str, Estimate]] = {}
    scores: dict[int | str | None, Scores] = {}
    for bits, layer_bits in widths.items():
        packed.set_layer_bits(layer_bits)
        progress = _progress(reporter, len(examples), f"imitation at A{bits}")
        scores[bits] = score(packed, examples, byte_lengths, majority, progress)
        by_bits[bits] = figures(scores[bits], seed)
    packed.set_layer_bits(own)
    return Imitation(by_bits, scores[told_bits(own)])


def _progress(reporter: Reporter, total: int, label: str) -> Callable[[int], None]:
    def on_progress(done: int) -> None:
        reporter.check_stop()
        reporter.progress(done, total, "sequences", label)

    return on_progress


def majority_token(train: Sequence[TraceSequence], vocab_size: int) -> int | None:
    """The teacher's most frequent top-1 token on the *training* side; None when nothing has candidates."""
    counts_V = top1_counts(train, vocab_size)
    return int(counts_V.argmax()) if counts_V.any() else None


@torch.no_grad()
def score(
    student: Student,
    examples: Sequence[Example],
    byte_lengths_V: Sequence[int],
    majority: int | None,
    on_progress: Callable[[int], None] = lambda _done: None,
) -> Scores:
    """Sums of every example at the student's present activation bits, in the order of `examples`.

    `byte_lengths_V` has the bytes of text that each id stands for, 0 for special tokens; `majority` is the token of
    `majority_token`. `on_progress` gets the number of finished examples, and may raise.
    """
    device = student.output_weight.device
    lengths_V = torch.tensor(byte_lengths_V, dtype=torch.float64, device=device)
    sums_SM = np.zeros((len(examples), len(SUMS)))
    order = sorted(range(len(examples)), key=lambda place: examples[place].length)
    for start in range(0, len(order), _BATCH):
        on_progress(start)
        places = order[start : start + _BATCH]
        batch = collate([examples[place] for place in places]).to(device)
        hidden_ND = student(batch.ids_BT).flatten(0, 1).index_select(0, batch.positions_N)
        sums_NM = _position_sums(student, hidden_ND, batch.targets, lengths_V, majority)
        owners_N = torch.repeat_interleave(
            torch.arange(len(places)), torch.tensor([examples[place].supervised for place in places])
        ).to(device)
        sums_BM = sums_NM.new_zeros(len(places), len(SUMS)).index_add_(0, owners_N, sums_NM)
        sums_SM[places] = sums_BM.cpu().numpy()
    on_progress(len(order))
    return Scores(sums_SM, student.config.vocab_size)


def _position_sums(
    student: Student, hidden_ND: Tensor, targets: Targets, lengths_V: Tensor, majority: int | None
) -> Tensor:
    """What each position adds, [N, M] in fp64; logits exist for a chunk of positions at a time."""
    chunk = positions_at_a_time(student.config.vocab_size, hidden_ND.device.type)
    targets = targets.at_least_one_candidate()
    parts = []
    for start in range(0, len(targets), chunk):
        rows = targets.rows(start, start + chunk)
        z_nV = student.logits(hidden_ND[start : start + chunk]).float()
        parts.append(_chunk_sums(z_nV, rows, lengths_V, majority))
    return torch.cat(parts)


def _chunk_sums(z_nV: Tensor, rows: Targets, lengths_V: Tensor, majority: int | None) -> Tensor:
    """What each position of a chunk adds, [n, M]; overwrites `z_nV`."""
    observed_n = rows.observed_N
    kd_n = rows.kd_valid_N
    top1_n = rows.topk_ids_NK[:, 0]
    agree_n = z_nV.argmax(dim=1) == top1_n
    lse_n = z_nV.logsumexp(dim=1).double()
    nats_n = lse_n - z_nV.gather(1, observed_n[:, None]).squeeze(1).double()
    teacher_nK = rows.topk_logprobs_NK.double()
    valid_nK, kl_n, _student_nK, _tail_n = coarse(z_nV, lse_n, rows)
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


def coarse(z_nV: Tensor, lse_n: Tensor, rows: Targets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Teacher and student on the teacher's candidates and the rest; overwrites the logits `z_nV`.

    `lse_n` is their log-sum-exp. Which candidates there are [n, K], the divergence [n], the student's logprobs of the
    candidates [n, K] and of the rest [n]; in fp64. Where the teacher has no candidates, the divergence means nothing.
    """
    teacher_nK = rows.topk_logprobs_NK.double()
    valid_nK = (teacher_nK > _NEG_INF) & rows.kd_valid_N[:, None]
    # Padding has id 0, which may be a real token elsewhere: let it repeat the row's first candidate.
    ids_nK = torch.where(valid_nK, rows.topk_ids_NK, rows.topk_ids_NK[:, :1])
    student_nK = z_nV.gather(1, ids_nK).double() - lse_n[:, None]
    tail_n = z_nV.scatter_(1, ids_nK, _NEG_INF).logsumexp(dim=1).double() - lse_n
    kl_nK = torch.where(valid_nK, teacher_nK.exp() * (teacher_nK - student_nK), 0.0)
    other_n = rows.other_logprob_N.double()
    # 0·log 0 = 0 where the teacher has no other mass.
    kl_other_n = torch.where(other_n > _NEG_INF, other_n.exp() * (other_n - tail_n), 0.0)
    return valid_nK, kl_nK.sum(dim=1) + kl_other_n, student_nK, tail_n


def figures(scores: Scores, seed: int, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """Every figure by name, each with its interval; BitnetError when there is nothing to divide by.

    Over positions with candidates: agreement, majority_agreement, teacher_self_agreement (how often a sample of the
    teacher at temperature 1 is its own top-1) and coarse_kl (nats/token). Over all tokens: ce (nats/token) and
    bits_per_byte. Over shared tokens: student_ce, teacher_ce, student_bits_per_byte, teacher_bits_per_byte,
    student_imitation, teacher_imitation and their quotient imitation_ratio.
    """
    if not scores.total("shared_bytes"):
        raise BitnetError(
            "No held-out token has the teacher's own probability, so imitation can't be measured; "
            "collect more traces (KD_NUM_PROMPTS)."
        )
    draws_RS = draws(len(scores.sums_SM), seed, resamples)
    points = _ratios(scores.sums_SM.sum(axis=0, keepdims=True))
    spread = _ratios(draws_RS @ scores.sums_SM)
    # A resample may consist of sequences without bytes or candidates; it has no figure.
    return {name: estimate(float(points[name][0]), spread[name]) for name in points}


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
            "student_imitation": np.exp2(-student_bits),
            "teacher_imitation": np.exp2(-teacher_bits),
            "imitation_ratio": np.exp2(teacher_bits - student_bits),
        }
