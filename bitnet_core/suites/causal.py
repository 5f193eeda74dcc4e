"""Score given tokens with a causal model of torch in this process. It gets the model as a function of ids.

Shapes: B pairs, T ids, K kept positions, V vocabulary.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bitnet_core.suites.likelihood import IdPair, OnDone

Logits = Callable[[Tensor, int], Tensor]
"""From ids [B, T] and a number K to the logits [B, K, V] of the last K positions."""

_BATCH_IDS = 1024
"""Ids in one pass; their logits over 50,000 tokens take 200 MB in float32."""


class CausalScorer:
    """See `TokenScorer`. Pairs of similar length are read together, padded on the right, where no real id sees it."""

    def __init__(self, logits: Logits, device: torch.device, limit: int) -> None:
        self.limit = limit
        self._logits = logits
        self._device = device

    @torch.inference_mode()
    def score_ids(self, pairs: Sequence[IdPair], on_done: OnDone) -> list[tuple[float, bool] | None]:
        found: list[tuple[float, bool] | None] = [None] * len(pairs)
        done = 0
        # The longest first: a lack of memory shows at once.
        order = sorted(range(len(pairs)), key=lambda place: -_size(pairs[place]))
        while done < len(order):
            rows = max(1, _BATCH_IDS // _size(pairs[order[done]]))
            batch = order[done : done + rows]
            for place, score in zip(batch, self._score([pairs[place] for place in batch]), strict=True):
                found[place] = score
            done += len(batch)
            on_done(done)
        return found

    def _score(self, pairs: Sequence[IdPair]) -> list[tuple[float, bool]]:
        width = _size(pairs[0])
        rows = [[*context, *continuation] for context, continuation in pairs]
        ids_BT = torch.tensor([row[:-1] + [0] * (width + 1 - len(row)) for row in rows], device=self._device)
        first = min(len(context) for context, _ in pairs) - 1
        logits_BKV = self._logits(ids_BT, width - first)
        scores = []
        for (context, continuation), logits_KV in zip(pairs, logits_BKV, strict=True):
            start = len(context) - 1 - first
            logits_nV = logits_KV[start : start + len(continuation)].float()
            targets_n = torch.tensor(continuation, device=self._device)
            logprobs_n = logits_nV.gather(1, targets_n[:, None])[:, 0] - logits_nV.logsumexp(dim=1)
            greedy = bool((logits_nV.argmax(dim=1) == targets_n).all())
            scores.append((float(logprobs_n.double().sum()), greedy))
        return scores


def _size(pair: IdPair) -> int:
    """How many ids are read to score a pair."""
    return len(pair[0]) + len(pair[1]) - 1
