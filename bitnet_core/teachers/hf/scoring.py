"""The logits of a transformers model for given ids, to score text with it. Knows no text.

Shapes: B texts, T ids, C ids of an answer, n of them at a time, K kept positions or candidates, V vocabulary.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bitnet_core.teachers.hf.decoding import Choice, drawn
from bitnet_core.teachers.hf.model import LoadedModel, out_of_memory

_AT_A_TIME = 64
"""Positions of an answer whose logprobs are computed together."""


def logits_of(loaded: LoadedModel) -> Callable[[Tensor, int], Tensor]:
    """From ids [B, T] and K to the logits [B, K, V] of the last K positions. OutOfMemory if a pass does not fit."""

    def logits(ids_BT: Tensor, keep: int) -> Tensor:
        with out_of_memory(
            f"The memory of {loaded.model.device} is too small to score {ids_BT.shape[0]} texts of "
            f"{ids_BT.shape[1]} tokens; lower TEACHER_CTX_LEN or choose a smaller model."
        ):
            found: Tensor = loaded.model(input_ids=ids_BT, logits_to_keep=keep, use_cache=False).logits
        return found

    return logits


def given_choices(
    loaded: LoadedModel,
    prompt: Sequence[int],
    answer: Sequence[int],
    candidates: int,
    generator: torch.Generator | None = None,
) -> list[Choice]:
    """What `RunningBatch.choose` would give for each id of an answer, had it been drawn: one pass for all of them.

    With a `generator`, the candidates are draws.
    """
    ids_1T = torch.tensor([[*prompt, *answer[:-1]]], device=loaded.model.device)
    logits_CV = logits_of(loaded)(ids_1T, len(answer))[0]
    own_C1 = torch.tensor(answer, device=loaded.model.device)[:, None]
    found: list[Choice] = []
    for start in range(0, len(answer), _AT_A_TIME):
        own_n1 = own_C1[start : start + _AT_A_TIME]
        logprobs_nV = logits_CV[start : start + _AT_A_TIME].float().log_softmax(-1)[:, : loaded.known]
        if generator is not None:
            own = own_n1[:, 0].tolist()
            found += [
                drawn(one_V, token, candidates, generator) for one_V, token in zip(logprobs_nV, own, strict=True)
            ]
            continue
        top_logprobs_nK, top_ids_nK = logprobs_nV.topk(min(candidates, loaded.known))
        columns = own_n1, logprobs_nV.gather(1, own_n1), top_ids_nK, top_logprobs_nK
        rows = zip(*(column.tolist() for column in columns), strict=True)
        found += [Choice(token, logprob, ids, tops) for (token,), (logprob,), ids, tops in rows]
    return found
