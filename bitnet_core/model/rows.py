"""Several prompts continued together, row by row. It knows no text.

Rows are padded on the left and computed in one pass a token; a row that has ended leaves the batch. Each has a random
generator of its own, so its answer does not depend on the others, up to rounding: products of other shapes round
differently, which may decide between two tokens that are practically tied.

Shapes: B rows, T tokens, S = cached + new tokens, D hidden, V vocabulary.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bitnet_core.model.cache import KVCache
from bitnet_core.model.decoding import require_readable
from bitnet_core.model.next_logits import RecordedStep, replays
from bitnet_core.model.sampling import Decoding, next_token
from bitnet_core.model.student import Student

OnId = Callable[[int, int, Tensor], bool]
"""Called with a row, its new id and the logits [V] it was chosen by; False ends the row. It may raise to stop all."""


@torch.inference_mode()
def decode_rows(
    student: Student,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    seeds: Sequence[int],
    eos_id: int | None = None,
    on_id: OnId = lambda _row, _id, _logits_V: True,
) -> list[list[int]]:
    """New ids for each prompt: up to the end token (included), `max_tokens`, or the end of the student's context.

    The weights should be quantised already, see `decoding`. BitnetError for an empty prompt and for one too long.
    """
    limit = student.config.max_position_embeddings
    for ids in prompts:
        require_readable(ids, limit)
    made: list[list[int]] = [[] for _ in prompts]
    if not prompts:
        return made
    batch = _Batch(student, prompts, decoding, seeds)
    while batch.rows:
        going = []
        for place, (row, index) in enumerate(zip(list(batch.rows), batch.choose(), strict=True)):
            made[row].append(index)
            full = len(made[row]) >= decoding.max_tokens or len(prompts[row]) + len(made[row]) > limit
            if on_id(row, index, batch.logits_BV[place]) and not full and index != eos_id:
                going.append(place)
        if going:
            batch.advance(going)
        else:
            break
    return made


class _Batch:
    """The rows that go on, what was read of them, and the logits of their next tokens."""

    def __init__(
        self, student: Student, prompts: Sequence[Sequence[int]], decoding: Decoding, seeds: Sequence[int]
    ) -> None:
        self.student, self.decoding = student, decoding
        self.rows = list(range(len(prompts)))
        self._device = student.output_weight.device
        self._generators = [
            torch.Generator(self._device).manual_seed(seed) for _, seed in zip(prompts, seeds, strict=True)
        ]
        longest = max(map(len, prompts))
        ids_BT = torch.zeros((len(prompts), longest), dtype=torch.int64)
        padding_BS = torch.zeros((len(prompts), longest), dtype=torch.bool)
        for row, ids in enumerate(prompts):
            ids_BT[row, longest - len(ids) :] = torch.tensor(list(ids))
            padding_BS[row, : longest - len(ids)] = True
        self._padding_BS = padding_BS.to(self._device)
        self._padded = bool(padding_BS.any())
        self._seen_BV: Tensor | None = None
        if decoding.repetition_penalty != 1:
            self._seen_BV = torch.zeros((len(prompts), student.config.vocab_size), dtype=torch.bool)
            for row, ids in enumerate(prompts):
                self._seen_BV[row, list(ids)] = True
            self._seen_BV = self._seen_BV.to(self._device)
        self._cache = KVCache(
            student.config,
            len(prompts),
            min(student.config.max_position_embeddings, longest + decoding.max_tokens - 1),
            device=self._device,
            dtype=student.output_weight.dtype,
        )
        self._chosen_B = ids_BT[:, -1].to(self._device)
        self.logits_BV = self._read(ids_BT.to(self._device))
        self._recorded = self._recording()

    def choose(self) -> list[int]:
        """Draw the next id of each row."""
        seen = self._seen_BV if self._seen_BV is not None else [None] * len(self.rows)
        drawn = [
            next_token(logits_V, self.decoding, generator, seen_V)
            for logits_V, generator, seen_V in zip(self.logits_BV, self._generators, seen, strict=True)
        ]
        self._chosen_B = torch.stack(drawn)
        if self._seen_BV is not None:
            self._seen_BV.scatter_(1, self._chosen_B[:, None], True)
        ids: list[int] = self._chosen_B.tolist()
        return ids

    def advance(self, going: list[int]) -> None:
        """Read the ids that were drawn for the rows at these places; the other rows end."""
        if len(going) < len(self.rows):
            self._keep(going)
            self._recorded = self._recording()
        if self._recorded is not None:
            self.logits_BV = self._recorded(self._chosen_B)
            return
        new_B1 = torch.zeros((len(going), 1), dtype=torch.bool, device=self._device)
        self._padding_BS = torch.cat((self._padding_BS, new_B1), dim=1)
        self.logits_BV = self._read(self._chosen_B[:, None])

    def _recording(self) -> RecordedStep | None:
        if not replays(self._device):
            return None
        return RecordedStep(self.student, self._cache, self._padding_BS.sum(dim=1))

    def _keep(self, going: list[int]) -> None:
        """Drop the other rows, and the padding that no row needs any more: it counts against the context."""
        self.rows = [self.rows[place] for place in going]
        self._generators = [self._generators[place] for place in going]
        self._chosen_B = self._chosen_B[going]
        if self._seen_BV is not None:
            self._seen_BV = self._seen_BV[going]
        padding_BS = self._padding_BS[going]
        start = int(padding_BS.sum(dim=1).min())
        self._padding_BS = padding_BS[:, start:]
        self._padded = bool(self._padding_BS.any())
        self._cache.keep(going, start)

    def _read(self, ids_BT: Tensor) -> Tensor:
        padding_BS = self._padding_BS if self._padded else None
        hidden_B1D = self.student(ids_BT, key_padding_BS=padding_BS, cache=self._cache)[:, -1:]
        return self.student.logits(hidden_B1D)[:, 0]
