"""Keys and values of the tokens read so far, in memory that is reserved once. It knows shapes, not the model."""

import torch
from torch import Tensor

from bitnet_core.model.config import StudentConfig


class KVCache:
    """Keys and values of each layer, [B, G, max_len, C]; the first `length` positions are filled.

    A forward pass calls `update` once for each layer and then `advance` once, so that all layers write to the same
    positions. Shapes: B sequences, G key/value heads, C head size.
    """

    def __init__(
        self,
        config: StudentConfig,
        batch_size: int = 1,
        max_len: int | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.max_len = config.max_position_embeddings if max_len is None else max_len
        self.length = 0
        layers, heads = config.num_hidden_layers, config.num_key_value_heads
        shape = (layers, batch_size, heads, self.max_len, config.head_dim)
        self._keys = torch.zeros(shape, device=device, dtype=dtype)
        self._values = torch.zeros(shape, device=device, dtype=dtype)

    def update(self, layer: int, keys_BGTC: Tensor, values_BGTC: Tensor) -> tuple[Tensor, Tensor]:
        """Append T positions to one layer; return views of all its filled positions, [B, G, length + T, C].

        Raises ValueError when the cache is full.
        """
        end = self.length + keys_BGTC.shape[2]
        if end > self.max_len:
            raise ValueError(f"the cache holds {self.max_len} positions; {end} are needed")
        filled = self._keys[layer, :, :, :end], self._values[layer, :, :, :end]
        for views_BGSC, new_BGTC in zip(filled, (keys_BGTC, values_BGTC), strict=True):
            views_BGSC[:, :, self.length :] = new_BGTC
        return filled

    def advance(self, tokens: int) -> None:
        self.length += tokens

    def keep(self, rows: list[int], start: int) -> None:
        """Forget all other sequences, and the first `start` positions of these."""
        kept = self.length - start
        for name in ("_keys", "_values"):
            old = getattr(self, name)
            new = old.new_zeros((old.shape[0], len(rows), *old.shape[2:]))
            new[:, :, :, :kept] = old[:, rows, :, start : self.length]
            setattr(self, name, new)
        self.length = kept
