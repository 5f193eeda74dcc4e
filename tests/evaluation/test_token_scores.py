"""A student's probabilities token by token, against a slow twin; and the command that keeps them in a file."""

import math

import numpy as np
import pytest
import torch

from bitnet_core.evaluation import token_scores as module
from bitnet_core.evaluation.imitation import score
from bitnet_core.evaluation.token_scores import token_scores
from bitnet_core.model.student import Student
from bitnet_core.traces.dataset import TraceSequence
from bitnet_core.traces.examples import Examples
from tests.evaluation.conftest import VOCAB, make_sequence


@torch.no_grad()
def test_each_token_against_the_slow_twin(student: Student, sequences: list[TraceSequence]) -> None:
    found = dict(token_scores(student, Examples(sequences, 64)))
    assert list(found) == [one.prompt_idx for one in sequences]
    for sequence in sequences:
        one = found[sequence.prompt_idx]
        ids = torch.tensor([[*sequence.prompt_ids_P.tolist(), *sequence.completion_ids_C.tolist()]])
        log_p_TV = student.logits(student(ids)[0]).double().log_softmax(-1)
        for place, token in enumerate(sequence.completion_ids_C.tolist()):
            log_p_V = log_p_TV[len(sequence.prompt_ids_P) + place - 1]
            assert one.observed_C[place] == pytest.approx(float(log_p_V[token]), abs=1e-3)
            assert one.top_ids_CT[place].tolist() == log_p_V.topk(5).indices.tolist()
            assert one.top_CT[place] == pytest.approx(log_p_V.topk(5).values.numpy(), abs=1e-3)
            if not sequence.kd_valid_C[place]:
                assert math.isnan(one.kl_C[place])
                continue
            row = zip(sequence.topk_ids_CK[place].tolist(), sequence.topk_logprobs_CK[place].tolist(), strict=True)
            teacher = [(rank, index, lp) for rank, (index, lp) in enumerate(row) if lp > -math.inf]
            known = {index for _, index, _ in teacher}
            rest = math.log(sum(math.exp(float(log_p_V[index])) for index in range(VOCAB) if index not in known))
            kl = math.exp(other := float(sequence.other_logprob_C[place])) * (other - rest)
            for rank, index, lp in teacher:
                assert one.candidates_CK[place, rank] == pytest.approx(float(log_p_V[index]), abs=1e-3)
                kl += math.exp(lp) * (lp - float(log_p_V[index]))
            assert one.other_C[place] == pytest.approx(rest, abs=1e-3)
            assert one.kl_C[place] == pytest.approx(kl, abs=1e-3)


def test_groups_and_a_cut_change_no_token_and_the_mean_is_that_of_imitation(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [make_sequence(seed, completion=4 + seed) for seed in range(5)]
    whole = dict(token_scores(student, Examples(sequences, 64)))
    monkeypatch.setattr(module, "_TOGETHER", 2)
    seen: list[int] = []
    cut = Examples(sequences, 10)
    short = dict(token_scores(student, cut, seen.append))
    assert seen == [0, 2, 4, 5]
    for example in cut:
        index, kept = example.sequence.prompt_idx, example.supervised
        assert len(short[index].kl_C) == kept
        if example.prompt == len(example.sequence.prompt_ids_P):
            assert np.allclose(short[index].kl_C, whole[index].kl_C[:kept], atol=1e-3, equal_nan=True)
    assert any(example.supervised < len(example.sequence.completion_ids_C) for example in cut)
    sums = score(student, Examples(sequences, 64), [1] * VOCAB, None)
    values = np.concatenate([one.kl_C for one in whole.values()])
    assert np.nanmean(values) == pytest.approx(sums.total("kd_kl") / sums.total("kd_tokens"), abs=1e-3)
