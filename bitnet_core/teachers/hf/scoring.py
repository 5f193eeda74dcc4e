"""The logits of a transformers model for given ids, to score text with it. Knows no text.

Shapes: B texts, T ids, C ids of an answer, n of them at a time, K kept positions or candidates, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bitnet_core.teachers.hf.decoding import Choice, drawn
from bitnet_core.teachers.hf.model import LoadedModel, out_of_memory

_AT_A_TIME = 64
"""Positions of an answer whose logprobs are computed together."""
_MOST_LOGITS = 1 << 27
"""Of all texts in one pass: half a gigabyte in float32."""


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


@dataclass(frozen=True)
class GivenText:
    """An answer to score, by its ids; `generator` draws its candidates, without one they are the likeliest."""

    prompt: Sequence[int]
    answer: Sequence[int]
    candidates: int
    generator: torch.Generator | None = None


@torch.inference_mode()
def given_choices(loaded: LoadedModel, texts: Sequence[GivenText]) -> list[list[Choice]]:
    """What `RunningBatch.choose` would give for each id of the answers, had it been drawn; one pass for all."""
    length = max(len(one.prompt) + len(one.answer) - 1 for one in texts)
    first = min(len(one.prompt) for one in texts) - 1
    vocabulary = int(loaded.model.config.get_text_config().vocab_size)
    if len(texts) > 1 and len(texts) * (length - first) * vocabulary > _MOST_LOGITS:
        half = len(texts) // 2
        return given_choices(loaded, texts[:half]) + given_choices(loaded, texts[half:])
    # Padding is on the right, where no real token can see it.
    ids_BT = torch.zeros((len(texts), length), dtype=torch.int64)
    for row_T, one in zip(ids_BT, texts, strict=True):
        row_T[: len(one.prompt) + len(one.answer) - 1] = torch.tensor([*one.prompt, *one.answer[:-1]])
    logits_BKV = logits_of(loaded)(ids_BT.to(loaded.model.device), length - first)
    begins = [len(one.prompt) - 1 - first for one in texts]
    return [
        _choices(logits_KV[begin : begin + len(one.answer)], one, loaded.known)
        for logits_KV, begin, one in zip(logits_BKV, begins, texts, strict=True)
    ]


def _choices(logits_CV: Tensor, text: GivenText, known: int) -> list[Choice]:
    own_C1 = torch.tensor(text.answer, device=logits_CV.device)[:, None]
    found: list[Choice] = []
    for start in range(0, len(text.answer), _AT_A_TIME):
        own_n1 = own_C1[start : start + _AT_A_TIME]
        logprobs_nV = logits_CV[start : start + _AT_A_TIME].float().log_softmax(-1)[:, :known]
        if text.generator is not None:
            rows = zip(logprobs_nV, own_n1[:, 0].tolist(), strict=True)
            found += [drawn(one_V, token, text.candidates, text.generator) for one_V, token in rows]
            continue
        top_logprobs_nK, top_ids_nK = logprobs_nV.topk(min(text.candidates, known))
        columns = own_n1, logprobs_nV.gather(1, own_n1), top_ids_nK, top_logprobs_nK
        listed = zip(*(column.tolist() for column in columns), strict=True)
        found += [Choice(token, logprob, ids, tops) for (token,), (logprob,), ids, tops in listed]
    return found
