"""Keys and values of the tokens read so far, in memory that is reserved once. It knows shapes, not the model.

Shapes: B sequences, G key/value heads, C head size, T new tokens, S positions reserved.
"""

from typing import Protocol

import torch
from torch import Tensor

from bitnet_core.model.config import StudentConfig


class LayerMemory(Protocol):
    """What attention needs of a cache."""

    def update(self, layer: int, keys_BGTC: Tensor, values_BGTC: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new keys and values of a layer; return all that it may look at."""
        ...


class KVCache:
    """Keys and values of each layer, [B, G, S, C]; the first `length` positions are filled.

    A forward pass calls `update` once for each layer and then `advance` once, so that all layers write to the same
    positions.
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
        end = self._require_room(keys_BGTC.shape[2])
        filled = self._keys[layer, :, :, :end], self._values[layer, :, :, :end]
        for views_BGSC, new_BGTC in zip(filled, (keys_BGTC, values_BGTC), strict=True):
            views_BGSC[:, :, self.length :] = new_BGTC
        return filled

    def advance(self, tokens: int) -> None:
        self.length = self._require_room(tokens)

    def _require_room(self, tokens: int) -> int:
        """The length after `tokens` more tokens."""
        end = self.length + tokens
        if end > self.max_len:
            raise ValueError(f"the cache holds {self.max_len} positions; {end} are needed")
        return end

    def keep(self, rows: list[int], start: int) -> None:
        """Forget all other sequences, and the first `start` positions of these."""
        kept = self.length - start
        for name in ("_keys", "_values"):
            old = getattr(self, name)
            new = old.new_zeros((old.shape[0], len(rows), *old.shape[2:]))
            new[:, :, :, :kept] = old[:, rows, :, start : self.length]
            setattr(self, name, new)
        self.length = kept


class WholeCache:
    """The memory of a `KVCache` for passes of one token, in tensors that keep their shapes and places.

    Attention looks at all positions, and `mask_B11S` hides those that are padding or not filled yet. Which position
    comes next is a number on the device, so that one recorded pass serves every token. It is used until the cache
    gives up rows (`KVCache.keep`); the cache's own length is the caller's to advance.
    """

    def __init__(self, cache: KVCache, padding_B: Tensor) -> None:
        """`padding_B` counts the positions at the start of each row that are padding."""
        self._keys, self._values = cache._keys, cache._values
        device = self._keys.device
        self._padding_B1 = padding_B[:, None]
        self._next_1 = torch.full((1,), cache.length, dtype=torch.int64, device=device)
        self._places_S = torch.arange(cache.max_len, device=device)

    def update(self, layer: int, keys_BGTC: Tensor, values_BGTC: Tensor) -> tuple[Tensor, Tensor]:
        """Store one layer's next position; return all of its positions, [B, G, S, C]."""
        whole = self._keys[layer], self._values[layer]
        for stored_BGSC, new_BGTC in zip(whole, (keys_BGTC, values_BGTC), strict=True):
            stored_BGSC.index_copy_(2, self._next_1, new_BGTC.to(stored_BGSC.dtype))
        return whole

    @property
    def positions_B1(self) -> Tensor:
        """Where each row's next token stands, counted without padding."""
        return self._next_1 - self._padding_B1

    @property
    def mask_B11S(self) -> Tensor:
        """True where the next token may look."""
        seen_BS = (self._places_S <= self._next_1) & (self._places_S >= self._padding_B1)
        return seen_BS[:, None, None]

    def advance(self) -> None:
        self._next_1 += 1
