"""Decoding in batches, against each row on its own and against distributions summed by hand."""

import itertools
import math
from collections import Counter
from typing import Any

import pytest
import torch
import transformers

from bitnet_core.settings.values import Sampling
from bitnet_core.teachers.hf.decoding import RunningBatch

pytestmark = pytest.mark.teacher


@pytest.fixture(scope="module")
def small() -> Any:
    """A model without a tokenizer, which the batch does not need."""
    torch.manual_seed(1)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=3000, **shape)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(12 if parameter.dim() == 2 else 1)
    return model


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.8), (1.4, 0.9999), (1.0, 0.05)])
@pytest.mark.parametrize("known", [40, 3000])
@torch.inference_mode()
def test_samples_follow_the_distribution(small: Any, temperature: float, top_p: float, known: int) -> None:
    """Many rows with one distribution and different seeds; the expected shares are summed by hand."""
    batch = RunningBatch(small, known)
    for seed in range(40):
        batch.join([1, 2, 3], Sampling(max_tokens=1, temperature=temperature, top_p=top_p), 1, seed)
    drawn = Counter(choice.token for _ in range(50) for choice in batch.choose())
    logits = small(input_ids=torch.tensor([[1, 2, 3]])).logits[0, -1, :known].double()
    weights = sorted(((w, n) for n, w in enumerate((logits / temperature).softmax(-1).tolist())), reverse=True)
    nucleus: dict[int, float] = {}
    for weight, index in weights:
        if math.fsum(nucleus.values()) >= top_p:
            break
        nucleus[index] = weight
    mass = math.fsum(nucleus.values())
    assert set(drawn) <= set(nucleus)
    halves = [list(nucleus)[0::2], list(nucleus)[1::2], list(nucleus)[: max(1, len(nucleus) // 10)]]
    for half in halves:
        share = math.fsum(nucleus[index] for index in half) / mass
        assert sum(drawn[index] for index in half) / 2000 == pytest.approx(share, abs=5 * math.sqrt(0.25 / 2000))


def test_rows_join_and_leave_in_any_order(small: Any) -> None:
    """Several orders of three rows that come and go, against each row on its own."""

    @torch.inference_mode()
    def decoded(rows: list[tuple[int, int, int]]) -> dict[int, list[int]]:
        """(row, joins before round, stays for rounds)"""
        batch, places, said = RunningBatch(small, 3000), list[int](), {row: list[int]() for row, _, _ in rows}
        lengths = {row: stay for row, _, stay in rows}
        for turn in itertools.count():
            for row, joins, _ in rows:
                if joins == turn:
                    batch.join(list(range(3, 8 + 7 * row)), Sampling(max_tokens=1), 1, 0)
                    places.append(row)
            if not places:
                if turn > 6:
                    return said
                continue
            for row, choice in zip(places, batch.choose(), strict=True):
                said[row].append(choice.token)
            going = [place for place, row in enumerate(places) if len(said[row]) < lengths[row]]
            batch.keep(going)
            places = [places[place] for place in going]
            batch.forward()
        raise AssertionError

    alone = {row: decoded([(row, 0, 9)])[row] for row in range(3)}
    stays = itertools.cycle([(2, 5, 9), (9, 2, 5), (5, 9, 2), (4, 4, 4)])
    for joins in ((0, 0, 0), (0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 2), (2, 0, 0), (0, 3, 6), (6, 0, 3), (1, 1, 0)):
        rows = [(row, join, stay) for row, (join, stay) in enumerate(zip(joins, next(stays), strict=True))]
        assert decoded(rows) == {row: alone[row][:stay] for row, _, stay in rows}
