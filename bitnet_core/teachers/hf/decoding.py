"""Decode several answers together with a transformers model: rows join and leave between two tokens.

A row's tokens are right-aligned in the batch, and its prompt is processed alone before the row joins. Each row has a
random generator of its own and samples by an exponential race: it draws a waiting time for every token of the
vocabulary and takes the token with the shortest. So an answer depends on its prompt, sampling and seed. Other rows
change it only by rounding, since products of other shapes round differently (about 1e-6 of a logit in float32, 1e-2
in bfloat16): that decides only between two tokens that are practically tied, or one on the edge of the nucleus. Other
devices draw other numbers. Knows no tokenizer, no text and no request.
"""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache

from bitnet_core.settings.values import Sampling

_NOT_DRAWN = math.log(1e-6)
_LIKELY = 1024
"""Most nuclei hold fewer tokens; only if one holds more is the whole vocabulary sorted."""


@dataclass(frozen=True)
class _Row:
    """How one row is decoded: temperature 0 takes the likeliest token."""

    sampling: Sampling
    candidates: int
    generator: torch.Generator
    draws: bool = False
    """Whether the candidates are drawn, see `drawn`."""


@dataclass(frozen=True)
class Choice:
    """One token of one row. Logprobs are the model's own, over its whole vocabulary, at temperature 1.

    Drawn candidates have shares of the draws as logprobs, and so has the token.
    """

    token: int
    logprob: float
    top_ids: list[int]
    top_logprobs: list[float]


def drawn(logprobs_V: Tensor, token: int, count: int, generator: torch.Generator) -> Choice:
    """A step whose candidates are `count` draws from the distribution, each with its share of them.

    The shares are an unbiased estimate of the whole distribution (sparse logit sampling, arXiv 2503.16870), where the
    likeliest candidates alone are a biased one. A token that was not drawn has next to no share. Of what is no
    distribution (NaN, as of a model that fp16 is too small for) nothing is drawn: its token has the logprob NaN.
    """
    probs_V = logprobs_V.exp()
    if not 0 < float(probs_V.sum()) < math.inf:
        return Choice(token, math.nan, [], [])
    found_N = torch.multinomial(probs_V, count, replacement=True, generator=generator)
    ids_K, counts_K = found_N.unique(return_counts=True)  # type: ignore[no-untyped-call]
    order_K = counts_K.argsort(descending=True, stable=True)
    ids = ids_K[order_K].tolist()
    shares = (counts_K[order_K].double() / count).log().tolist()
    return Choice(token, dict(zip(ids, shares, strict=True)).get(token, _NOT_DRAWN), ids, shares)


class RunningBatch:
    """The rows being decoded, in order. Shapes: B rows, T cached tokens of the longest, V vocabulary, K candidates.

    A round is `choose` → `keep` → `forward`; rows `join` between rounds. Between two rounds `_logits_BV` holds the
    logits of each row's next token.
    """

    def __init__(self, model: Any, known: int) -> None:
        """`known` tokens have text; the padding of the vocabulary beyond them is never a candidate."""
        self._model = model
        self._known = known
        self._takes = set(inspect.signature(type(model).forward).parameters)
        self._device = model.device
        self._rows: list[_Row] = []
        self._lengths: list[int] = []
        """Cached tokens, by row."""
        self._cache = DynamicCache()
        self._mask_BT = torch.zeros(0, 0, dtype=torch.long, device=self._device)
        self._logits_BV = torch.zeros(0, 0, device=self._device)
        self._chosen_B = torch.zeros(0, dtype=torch.long, device=self._device)

    def __len__(self) -> int:
        return len(self._rows)

    def join(
        self, prompt: Sequence[int], sampling: Sampling, candidates: int, seed: int | None, *, draws: bool = False
    ) -> None:
        """Process a prompt and add its row. Without a seed the row is random."""
        ids_1T = torch.tensor([list(prompt)], device=self._device)
        cache = DynamicCache()
        logits_1V = self._logits(input_ids=ids_1T, past_key_values=cache, logits_to_keep=1)
        width = max([*self._lengths, len(prompt)])
        self._mask_BT = torch.cat([_widened(self._mask_BT, width), _widened(torch.ones_like(ids_1T), width)])
        if self._rows:
            for mine, its in zip(self._cache.layers, cache.layers, strict=True):
                if not its.is_initialized:  # it shares another layer's cache
                    continue
                mine.keys = torch.cat([_right_aligned(mine.keys, width), _right_aligned(its.keys, width)])
                mine.values = torch.cat([_right_aligned(mine.values, width), _right_aligned(its.values, width)])
            self._logits_BV = torch.cat([self._logits_BV, logits_1V])
        else:
            self._cache, self._logits_BV = cache, logits_1V
        generator = torch.Generator(self._device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        self._rows.append(_Row(sampling, candidates, generator, draws))
        self._lengths.append(len(prompt))

    def choose(self) -> list[Choice]:
        """The next token of each row. Synchronizes with the device once."""
        logprobs_BV = self._logits_BV.log_softmax(-1)[:, : self._known]
        chosen_B = logprobs_BV.argmax(-1)
        if any(row.sampling.temperature > 0 for row in self._rows):
            warm_B = self._column([row.sampling.temperature > 0 for row in self._rows])
            chosen_B = torch.where(warm_B, self._sampled(logprobs_BV), chosen_B)
        self._chosen_B = chosen_B
        count = min(max(row.candidates for row in self._rows), self._known)
        top_logprobs_BK, top_ids_BK = logprobs_BV.topk(count)
        own_B1 = logprobs_BV.gather(1, chosen_B[:, None])
        # Packed into one tensor of 4-byte numbers, so that one transfer is enough.
        floats = torch.cat([own_B1, top_logprobs_BK], 1).view(torch.int32)
        packed = torch.cat([chosen_B[:, None].int(), top_ids_BK.int(), floats], 1).cpu()
        ids = packed[:, : count + 1].tolist()
        logprobs = packed[:, count + 1 :].contiguous().view(torch.float32).tolist()
        return [
            drawn(logprobs_BV[n], ids[n][0], row.candidates, row.generator)
            if row.draws
            else Choice(
                ids[n][0], logprobs[n][0], ids[n][1 : row.candidates + 1], logprobs[n][1 : row.candidates + 1]
            )
            for n, row in enumerate(self._rows)
        ]

    def keep(self, places: Sequence[int]) -> None:
        """Drop all rows but these, and the columns that none of them needs."""
        if len(places) == len(self._rows):
            return
        self._rows = [self._rows[place] for place in places]
        self._lengths = [self._lengths[place] for place in places]
        kept = torch.tensor(places, dtype=torch.long, device=self._device)
        first = self._mask_BT.shape[1] - max(self._lengths, default=0)
        self._mask_BT = self._mask_BT[kept, first:]
        self._chosen_B = self._chosen_B[kept]
        for layer in (layer for layer in self._cache.layers if layer.is_initialized):
            layer.keys = layer.keys[kept, :, first:]
            layer.values = layer.values[kept, :, first:]

    def forward(self) -> None:
        """Feed each row its chosen token."""
        if not self._rows:
            self._cache = DynamicCache()
            return
        self._lengths = [length + 1 for length in self._lengths]
        self._mask_BT = functional.pad(self._mask_BT, (0, 1), value=1)
        self._logits_BV = self._logits(
            input_ids=self._chosen_B[:, None],
            attention_mask=None if min(self._lengths) == max(self._lengths) else self._mask_BT,
            position_ids=self._column([length - 1 for length in self._lengths])[:, None],
            past_key_values=self._cache,
        )

    def _logits(self, **inputs: Any) -> Tensor:
        """The logits of the last column, from a model that may not accept all of the inputs."""
        inputs = {name: value for name, value in inputs.items() if name in self._takes}
        return cast(Tensor, self._model(**inputs, use_cache=True).logits[:, -1].float())

    def _sampled(self, logprobs_BV: Tensor) -> Tensor:
        """A token of each row's nucleus, by an exponential race; see the module's docstring."""
        temperature_B1 = self._column([row.sampling.temperature or 1.0 for row in self._rows])[:, None]
        probs_BV = (logprobs_BV / temperature_B1).softmax(-1)
        rates_BV = torch.where(probs_BV >= self._least(probs_BV)[:, None], probs_BV, 0.0)
        waits_BV = torch.ones_like(probs_BV)
        for wait_V, row in zip(waits_BV, self._rows, strict=True):
            if row.sampling.temperature > 0:
                wait_V.exponential_(generator=row.generator)
        return (rates_BV / waits_BV.clamp_(min=torch.finfo(waits_BV.dtype).tiny)).argmax(-1)

    def _least(self, probs_BV: Tensor) -> Tensor:
        """The lowest probability in each row's nucleus: the fewest tokens, likeliest first, that sum to `top_p`."""
        if all(row.sampling.top_p >= 1 for row in self._rows):
            return torch.zeros_like(probs_BV[:, 0])
        top_p_B = self._column([row.sampling.top_p for row in self._rows], torch.float64)
        probs_BS = None
        if self._device.type == "cpu" and self._known > _LIKELY:  # on a GPU the check would synchronize
            probs_BS = probs_BV.topk(_LIKELY).values
            if bool(((top_p_B < 1) & (probs_BS.double().sum(-1) < top_p_B)).any()):
                probs_BS = None
        if probs_BS is None:
            probs_BS = probs_BV.sort(descending=True).values
        before_BS = probs_BS.double().cumsum(-1) - probs_BS.double()
        last_B = (before_BS < top_p_B[:, None]).sum(-1) - 1
        least_B = probs_BS.gather(1, last_B[:, None].clamp(min=0))[:, 0]
        return torch.where(top_p_B < 1, least_B, 0.0)

    def _column(self, values: Sequence[float], dtype: torch.dtype | None = None) -> Tensor:
        return torch.tensor(values, dtype=dtype).to(self._device, non_blocking=True)


def _widened(mask_BT: Tensor, width: int) -> Tensor:
    return functional.pad(mask_BT, (width - mask_BT.shape[1], 0))


def _right_aligned(states_BHTD: Tensor, width: int) -> Tensor:
    return functional.pad(states_BHTD, (0, 0, width - states_BHTD.shape[2], 0))
