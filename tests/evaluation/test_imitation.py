"""Every figure against a slow twin that applies the definitions position by position."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.imitation import SUMS, Scores, figures, majority_token, score
from bitnet_core.evaluation.summary import imitation_table
from bitnet_core.model import chunks
from bitnet_core.model.packing import pack_student
from bitnet_core.model.student import Student
from bitnet_core.traces.dataset import TraceSequence
from bitnet_core.traces.examples import Examples
from tests.evaluation.conftest import VOCAB, make_sequence

LENGTHS = [0 if index == 7 else 1 + index % 4 for index in range(VOCAB)]


@torch.no_grad()
def slow_sums(student: Student, sequence: TraceSequence, majority: int) -> dict[str, float]:
    sums = dict.fromkeys(SUMS, 0.0)
    ids = [*sequence.prompt_ids_P.tolist(), *sequence.completion_ids_C.tolist()]
    logits = student.logits(student(torch.tensor([ids]))[0]).double()
    for place, token in enumerate(sequence.completion_ids_C.tolist()):
        log_p = torch.log_softmax(logits[len(sequence.prompt_ids_P) + place - 1], 0)
        nats = -float(log_p[token])
        sums["tokens"] += 1
        sums["nats"] += nats
        sums["bytes"] += LENGTHS[token]
        if not sequence.kd_valid_C[place]:
            continue
        row = zip(sequence.topk_ids_CK[place].tolist(), sequence.topk_logprobs_CK[place].tolist(), strict=True)
        teacher = {index: lp for index, lp in row if lp > -math.inf}
        top1 = max(teacher, key=lambda index: teacher[index])
        rest = math.log(sum(math.exp(float(log_p[i])) for i in range(VOCAB) if i not in teacher))
        other = float(sequence.other_logprob_C[place])
        sums["kd_tokens"] += 1
        sums["kd_kl"] += sum(math.exp(lp) * (lp - float(log_p[i])) for i, lp in teacher.items())
        sums["kd_kl"] += math.exp(other) * (other - rest)
        sums["kd_agree"] += int(log_p.argmax()) == top1
        sums["kd_majority"] += majority == top1
        sums["kd_teacher_top1"] += math.exp(teacher[top1])
        if token in teacher:
            sums["shared_tokens"] += 1
            sums["shared_bytes"] += LENGTHS[token]
            sums["shared_student_nats"] += nats
            sums["shared_teacher_nats"] -= teacher[token]
    return sums


@pytest.mark.parametrize("chunk_bytes", [24 << 20, 1], ids=["one chunk", "chunks"])
def test_sums_against_the_slow_twin(
    student: Student, sequences: list[TraceSequence], chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", chunk_bytes)
    examples = Examples(sequences, 64)
    assert examples.cuts.completion_tokens == 0
    majority = int(sequences[0].topk_ids_CK[0, 0])
    with student.held_weights():
        found = score(student, examples, LENGTHS, majority)
        for row, sequence in enumerate(sequences):
            expected = slow_sums(student, sequence, majority)
            result = dict(zip(SUMS, found.sums_SM[row].tolist(), strict=True))
            assert result == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert found.total("shared_tokens") < found.total("kd_tokens") < found.total("tokens")
    assert found.total("kd_majority") > 0


@torch.no_grad()
def test_a_student_equals_a_teacher_with_its_own_distribution(student: Student) -> None:
    """Candidates made from the student itself: full agreement, no divergence, equal quality."""
    sequence = make_sequence(3, completion=12)
    ids = torch.tensor([[*sequence.prompt_ids_P.tolist(), *sequence.completion_ids_C.tolist()]])
    log_p_TV = torch.log_softmax(student.logits(student(ids)[0]).double(), -1)
    first = len(sequence.prompt_ids_P) - 1
    top = log_p_TV[first : first + 12].topk(5)
    observed = top.indices[:, 1].numpy().astype(np.int32)
    own = replace(
        sequence,
        topk_ids_CK=top.indices.numpy().astype(np.int32),
        topk_logprobs_CK=top.values.numpy().astype(np.float32),
        other_logprob_C=np.log1p(-top.values.exp().sum(-1).numpy()).astype(np.float32),
        kd_valid_C=np.ones(12, bool),
    )
    # One position at a time, for the stream must stay the one that the candidates were computed on.
    for place in range(12):
        ids_place = sequence.completion_ids_C.copy()
        ids_place[place] = observed[place]
        kd_valid = np.arange(12) == place
        one = replace(own, completion_ids_C=ids_place, kd_valid_C=kd_valid)
        examples = Examples([one], 64)
        found = figures(score(student, examples, LENGTHS, None), seed=0)
        assert found["agreement"].value == 1.0
        assert found["coarse_kl"].value == pytest.approx(0.0, abs=1e-5)
        assert found["imitation_ratio"].value == pytest.approx(1.0, abs=1e-4)
        assert found["student_ce"].value == pytest.approx(found["teacher_ce"].value, abs=1e-4)


def test_a_batch_is_its_sequences_one_by_one(student: Student, sequences: list[TraceSequence]) -> None:
    packed = pack_student(student)
    examples = Examples(sequences, 64)
    together = score(packed, examples, LENGTHS, 3).sums_SM
    alone = np.concatenate([score(packed, [example], LENGTHS, 3).sums_SM for example in examples])
    assert np.allclose(together, alone, rtol=1e-3, atol=1e-3)


def test_the_majority_token_is_the_commonest_first_candidate() -> None:
    sequences = [make_sequence(seed) for seed in range(6)]
    for sequence in sequences[:3]:
        sequence.topk_ids_CK[sequence.kd_valid_C, 0] = 11
    assert majority_token(sequences, VOCAB) == 11
    assert majority_token([], VOCAB) is None


def scores_of(rows: list[dict[str, float]]) -> Scores:
    return Scores(np.array([[row.get(name, 1.0) for name in SUMS] for row in rows]), VOCAB)


def test_figures_are_ratios_of_sums() -> None:
    found = figures(
        scores_of(
            [
                {"shared_student_nats": 8 * math.log(2), "shared_teacher_nats": 4 * math.log(2), "shared_bytes": 4},
                {"shared_student_nats": 0.0, "shared_teacher_nats": 0.0, "shared_bytes": 4},
                {
                    "kd_tokens": 7,
                    "kd_agree": 4,
                    "shared_student_nats": 0,
                    "shared_teacher_nats": 0,
                    "shared_bytes": 0,
                },
            ]
        ),
        seed=1,
    )
    assert found["student_bits_per_byte"].value == pytest.approx(1.0)
    assert found["student_imitation"].value == pytest.approx(0.5)
    assert found["teacher_imitation"].value == pytest.approx(2**-0.5)
    assert found["imitation_ratio"].value == pytest.approx(2**-0.5)
    assert found["agreement"].value == pytest.approx(6 / 9)


def test_the_interval_is_the_bootstrap_over_sequences() -> None:
    rng = np.random.default_rng(0)
    rates = rng.random(40)
    found = figures(scores_of([{"kd_tokens": 100, "kd_agree": 100 * rate} for rate in rates]), seed=5)["agreement"]
    error = rates.std() / math.sqrt(40)
    assert found.value == pytest.approx(rates.mean())
    assert found.low == pytest.approx(rates.mean() - 1.96 * error, abs=0.25 * error)
    assert found.high == pytest.approx(rates.mean() + 1.96 * error, abs=0.25 * error)


def test_a_seed_decides_the_interval() -> None:
    rows = [{"kd_tokens": 10, "kd_agree": float(hits)} for hits in range(8)]
    assert figures(scores_of(rows), seed=1) == figures(scores_of(rows), seed=1)
    assert figures(scores_of(rows), seed=1)["agreement"] != figures(scores_of(rows), seed=2)["agreement"]


def test_nothing_to_measure_raises() -> None:
    with pytest.raises(BitnetError, match="KD_NUM_PROMPTS"):
        figures(scores_of([{"shared_bytes": 0}]), seed=0)


def test_one_sequence_has_no_interval_in_the_table() -> None:
    def intervals(rows: list[dict[str, float]]) -> set[bool]:
        scores = scores_of(rows)
        return {row[3] is None and row[4] is None for row in imitation_table({8: figures(scores, 0)}, scores)[:1]}

    assert intervals([{"kd_agree": 0.5}]) == {True}
    assert intervals([{"kd_agree": 0.5}, {"kd_agree": 0.2}]) == {False}
