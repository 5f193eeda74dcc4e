"""The logits after one more token for each row: computed as it stands, or on a GPU recorded once and replayed.

For one token a small student is hundreds of kernels that take less time than their launches. A CUDA graph launches
them all at once, on the same memory each time.

Shapes: B rows, V vocabulary.
"""

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor

from bitnet_core.model.cache import KVCache, WholeCache
from bitnet_core.model.student import Student

_BEFORE_RECORDING = 2
"""How many tokens are computed as they stand: libraries set themselves up then, and short answers need no more."""


def replays(device: torch.device) -> bool:
    """Whether `RecordedStep` gains on this device. Elsewhere it costs: it attends to the whole cache."""
    return device.type == "cuda"


class RecordedStep:
    """`step(ids_B)` is the logits [B, V] after these ids, which follow the tokens that the cache holds.

    The rows of the cache and the weights must stay as they are. Call it inside `torch.inference_mode`.
    """

    def __init__(self, student: Student, cache: KVCache, padding_B: Tensor) -> None:
        """`padding_B` counts the positions at the start of each row that are padding."""
        self._student, self._cache = student, cache
        self._whole = WholeCache(cache, padding_B)
        self._ids_B1 = torch.zeros_like(padding_B)[:, None]
        self._computed = 0
        self._run: Callable[[], Tensor] = self._compute

    def __call__(self, ids_B: Tensor) -> Tensor:
        self._cache.advance(1)
        self._ids_B1.copy_(ids_B[:, None])
        if self._computed == _BEFORE_RECORDING:
            # A driver or a setting may not allow recording. The step is then slower, and the same.
            with contextlib.suppress(RuntimeError):
                self._run = recorded(self._compute)
        self._computed += 1
        # The next call writes to the same memory.
        return self._run().clone()

    def _compute(self) -> Tensor:
        return self._student.logits(self._student.one_more(self._ids_B1, self._whole))[:, 0]


def recorded(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """What does the same again, on the same memory, in one launch. Recording computes nothing."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = compute()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay
