"""The logits of a transformers model for given ids, to score text with it. Knows no text.

Shapes: B texts, T ids, K kept positions, V vocabulary.
"""

from collections.abc import Callable

from torch import Tensor

from bitnet_core.teachers.hf.model import LoadedModel, out_of_memory


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
