"""The hidden states of a transformers model and its head, to compute its logits a few positions at a time.

Shapes: S texts, L ids, E the model's hidden size, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.hf.model import out_of_memory

_PROBED = 8
_CLOSE = 1e-2
"""Of the largest logit: products of other shapes round differently, in bfloat16 by less than this."""


class HiddenStates:
    """`states(ids_SL)` [S, L, E] times `head_VE` are the model's logits of the first `vocabulary` tokens.

    BitnetError for a model that knows fewer tokens, that changes its logits after the head, or that is damaged: a
    number that is not finite would look like the student's own failure.
    """

    def __init__(self, name: str, model: Any, vocabulary: int) -> None:
        self.name, self._model = name, model
        head = model.get_output_embeddings()
        if head is None or model.base_model is model:
            raise self._unfit("it has no output head")
        if head.weight.shape[0] < vocabulary:
            raise self._unfit(f"it knows {head.weight.shape[0]:,} tokens, and the traces {vocabulary:,}")
        self.head_VE: Tensor = head.weight.detach()[:vocabulary]
        self._require_finite(self.head_VE, "its output head")
        with torch.no_grad():
            ids_1L = torch.arange(_PROBED, device=self.head_VE.device)[None]
            wanted = model(input_ids=ids_1L, use_cache=False).logits[..., :vocabulary].float()
            found = (self(ids_1L) @ self.head_VE.T).float()
        if float((found - wanted).abs().max()) > _CLOSE * max(1.0, float(wanted.abs().max())):
            raise self._unfit("its logits are not those of its head")

    @torch.no_grad()
    def __call__(self, ids_SL: Tensor) -> Tensor:
        """Causal, so padding on the right changes nothing. OutOfMemory if the pass does not fit."""
        with out_of_memory(
            f"The memory of {self.head_VE.device} is too small for {self.name} to read {ids_SL.shape[0]} texts of "
            f"{ids_SL.shape[1]} tokens beside the student; lower TRAIN_BATCH_SIZE or MAX_SEQ_LEN."
        ):
            found: Tensor = self._model.base_model(input_ids=ids_SL, use_cache=False).last_hidden_state
        self._require_finite(found, "what it computes")
        return found

    def _require_finite(self, values: Tensor, where: str) -> None:
        if not bool(values.isfinite().all()):
            raise self._unfit(f"there are numbers in {where} that are not finite, so its files may be damaged")

    def _unfit(self, reason: str) -> BitnetError:
        return BitnetError(
            f"{self.name} can't teach while training ({reason}); train on its traces (TRAIN_ONLINE=0)."
        )
