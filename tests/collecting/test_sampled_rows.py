"""Candidates that are draws: unbiased where the likeliest ones are biased, and the same rows on disk."""

import dataclasses
import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bitnet_core.errors import UsageError
from bitnet_core.model.presets import preset
from bitnet_core.settings.values import LossWeights, TrainOptions
from bitnet_core.stages import collect
from bitnet_core.teachers.hf.decoding import drawn
from bitnet_core.tokenizer.mass import settle
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.examples import Counts, Targets
from bitnet_core.training.fit import require_fit
from bitnet_core.training.losses import distill_loss
from bitnet_core.training.whole_vocabulary import TeacherStates
from tests.collecting.test_given import TEXTS, context, folder, written

__all__ = ["folder"]
V, D, DRAWS = 4, 6, 3


def row_of(counts: Counter[int], width: int) -> tuple[list[int], list[float], float]:
    """A step's candidates, padded, and Other, as collecting settles them."""
    likeliest_first = counts.most_common()
    ids = [token for token, _ in likeliest_first]
    logprobs_1K = np.log(np.array([[count / DRAWS for _, count in likeliest_first]]))
    mass = settle(logprobs_1K)
    padding = width - len(ids)
    return ids + [0] * padding, mass.logprobs_NK[0].tolist() + [-math.inf] * padding, float(mass.other_N[0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_in_expectation_the_gradient_is_that_of_the_whole_kl(seed: int) -> None:
    """The mean over every possible outcome of the draws, each with its probability."""
    rng = torch.Generator().manual_seed(seed)
    hidden_1D = torch.randn(1, D, dtype=torch.float64, generator=rng)
    head_VD = torch.randn(V + 1, D, dtype=torch.float64, generator=rng)
    states_1E = torch.randn(1, 3, dtype=torch.float64, generator=rng)
    teacher_VE = torch.randn(V + 1, 3, dtype=torch.float64, generator=rng)
    p_V = torch.softmax(states_1E @ teacher_VE.T, 1)[0]
    weights, counts = LossWeights(tau=1.0, ce=0.0, format=0.0), Counts(1, 1, 0)
    plain = Targets(
        observed_N=torch.zeros(1, dtype=torch.int64),
        topk_ids_NK=torch.zeros((1, 0), dtype=torch.int64),
        topk_logprobs_NK=torch.zeros((1, 0)),
        other_logprob_N=torch.zeros(1),
        kd_valid_N=torch.ones(1, dtype=torch.bool),
        is_struct_N=torch.zeros(1, dtype=torch.bool),
    )

    def gradient(targets: Targets, teacher: TeacherStates | None = None) -> Tensor:
        asked_1D = hidden_1D.clone().requires_grad_()
        distill_loss(asked_1D, head_VD, targets, weights, counts, teacher=teacher).total.backward()
        assert asked_1D.grad is not None
        return asked_1D.grad

    mean_1D = torch.zeros_like(hidden_1D)
    for outcome in itertools.product(range(V + 1), repeat=DRAWS):
        ids, logprobs, other = row_of(Counter(outcome), DRAWS)
        row = dataclasses.replace(
            plain,
            topk_ids_NK=torch.tensor([ids]),
            topk_logprobs_NK=torch.tensor([logprobs], dtype=torch.float64),
            other_logprob_N=torch.tensor([other], dtype=torch.float64),
        )
        mean_1D += math.prod(float(p_V[token]) for token in outcome) * gradient(row)
    whole_1D = gradient(plain, TeacherStates(states_1E, teacher_VE))
    torch.testing.assert_close(mean_1D, whole_1D, rtol=0, atol=1e-5)
    likeliest = p_V.topk(DRAWS)
    biased = dataclasses.replace(  # what naive top-k does: the listed mass is all there is
        plain,
        topk_ids_NK=likeliest.indices[None],
        topk_logprobs_NK=(likeliest.values / likeliest.values.sum()).log()[None],
        other_logprob_N=torch.tensor([math.log(1e-6)], dtype=torch.float64),
    )
    assert (gradient(biased) - whole_1D).abs().max() > 3e-4


def test_draws_have_their_shares_and_depend_on_the_seed_alone() -> None:
    logprobs_V = torch.log_softmax(torch.randn(50, generator=torch.Generator().manual_seed(1)) * 2, 0)

    def made(seed: int, count: int = 40, token: int = 3) -> tuple[list[int], list[float], float]:
        choice = drawn(logprobs_V, token, count, torch.Generator().manual_seed(seed))
        return choice.top_ids, choice.top_logprobs, choice.logprob

    ids, shares, _ = made(7)
    assert made(7) == made(7) != made(8)
    assert len(set(ids)) == len(ids) and sum(map(math.exp, shares)) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)
    assert made(7, token=ids[2])[2] == shares[2]
    assert made(7, token=min(set(range(50)) - set(ids)))[2] < -13
    ids, shares, _ = made(7, count=20_000)
    found_V = torch.zeros(50).scatter(0, torch.tensor(ids), torch.tensor(shares).exp())
    assert (found_V - logprobs_V.exp()).abs().max() < 0.02


def test_sampled_rows_are_collected_read_whole_and_need_tau_1(tmp_path: Path, folder: Path) -> None:
    file = written(tmp_path / "texts.jsonl", TEXTS)
    values = {"KD_ROWS": "sampled", "TEACHER_TOP_LOGPROBS": "12"}
    summary = collect.run(context(tmp_path, folder, file, **values))
    assert summary["sequences"] == 3 and summary["rejected"] == {}
    traces = load_traces(tmp_path / "e" / "data", 2)
    assert traces.sampled and traces.top_k == 12
    for one in traces.sequences:
        shares_CK = np.exp(one.topk_logprobs_CK)
        np.testing.assert_allclose(shares_CK.sum(1), 1, atol=1e-3)
        np.testing.assert_allclose(shares_CK * 12, np.round(shares_CK * 12), atol=0.02)
    config = preset("nano", traces.vocab_size, layers=1)
    with pytest.raises(UsageError, match=r"KD_TAU is 1\.3, .* draws .*; set KD_TAU=1\."):
        require_fit(config, traces, TrainOptions(max_seq_len=16))
    require_fit(config, traces, TrainOptions(max_seq_len=16, loss=LossWeights(tau=1.0)))
    require_fit(config, traces, TrainOptions(max_seq_len=16), online=True)


def test_a_teacher_that_tells_only_the_likeliest_tokens_is_refused(tmp_path: Path, folder: Path) -> None:
    file = written(tmp_path / "texts.jsonl", TEXTS)
    ctx = context(tmp_path, folder, file, KD_ROWS="sampled", TEACHER_PROVIDER="vllm", TEACHER_MODEL="m")
    with pytest.raises(
        UsageError, match=r"vllm tells only the likeliest tokens; set TEACHER_PROVIDER=hf, or .*KD_ROWS=top\."
    ):
        collect.run(ctx)
