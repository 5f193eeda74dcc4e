"""Which examples make up each row and batch, and in what order: decided by a seed and a cursor alone."""

import bisect
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from bitnet_core.errors import BitnetError
from bitnet_core.traces.examples import Batch, Example, Examples, collate_rows

Rewrite = Callable[[Sequence[Sequence[Example]]], Sequence[Sequence[Example]]]
"""From the rows of a batch to the same ones with answers that the student wrote, none longer than before."""
_BUCKET_BATCHES = 16  # batches sorted or packed together: little padding, but still shuffled


def fill_rows(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of `lengths` in rows of at most `capacity`: longest first, each into the fullest row with room."""
    rows: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (room left, row), ascending
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        at = bisect.bisect_left(rooms, (lengths[place], -1))
        if at == len(rooms):
            rows.append([place])
            room, row = capacity - lengths[place], len(rows) - 1
        else:
            room, row = rooms.pop(at)
            rows[row].append(place)
            room -= lengths[place]
        bisect.insort(rooms, (room, row))
    return rows


def epoch_plan(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int, capacity: int | None = None
) -> list[list[list[int]]]:
    """The batches of one epoch as rows of indices: each index once, shuffled.

    Without a `capacity` each row is one index, and a window of batches is sorted by length. With a `capacity`, rows
    are filled up to it within each window.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths)).tolist()
    window = batch_size * _BUCKET_BATCHES
    if capacity is not None:
        window *= max(1, capacity * len(lengths) // max(1, sum(lengths)))
    rows: list[list[int]] = []
    plan: list[list[list[int]]] = []
    for start in range(0, len(order), window):
        bucket = order[start : start + window]
        if capacity is None:
            rows = [[index] for index in sorted(bucket, key=lambda index: lengths[index])]
        else:
            filled = fill_rows([lengths[index] for index in bucket], capacity)
            rows = [[bucket[place] for place in filled[row]] for row in rng.permutation(len(filled))]
        plan += [rows[begin : begin + batch_size] for begin in range(0, len(rows), batch_size)]
    return [plan[place] for place in rng.permutation(len(plan))]


class Sampler:
    """Endless batches over epochs. Its whole state is the epoch and the place in it.

    With a `capacity`, rows are packed up to that many positions. With `workers`, that many threads prepare the next
    batches; the batches and the state are the same. With a `shape`, every batch is padded to it. BitnetError without
    examples.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        seed: int,
        capacity: int | None = None,
        workers: int = 0,
        shape: tuple[int, int] | None = None,
    ) -> None:
        if not examples:
            raise BitnetError("There is no sequence to train on; collect more traces.")
        self._examples, self._batch_size, self._seed, self._capacity = examples, batch_size, seed, capacity
        self._lengths, self._supervised = examples.lengths_S.tolist(), int(examples.supervised_S.sum())
        self.epoch, self.place = 0, 0
        self._plan = self._epoch_plan(0)
        self._pool = ThreadPoolExecutor(workers, "batches") if workers else None
        self.shape = shape
        self._ahead: deque[tuple[int, int, Future[Batch]]] = deque()
        self._most_ahead = 2 * workers
        content = f"{batch_size} {seed} {capacity} {examples.fingerprint()}"
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()
        """A hash of everything that the batches are made from, and of their order."""

    def next(self, rewrite: Rewrite | None = None) -> Batch:
        """The batch at the cursor, which moves on; with the student's own answers if `rewrite` gives them."""
        if self.place == len(self._plan):
            self.epoch, self.place = self.epoch + 1, 0
            self._plan = self._epoch_plan(self.epoch)
        if rewrite is not None:
            batch = replace(collate_rows(rewrite(self._rows(self._plan[self.place])), self.shape), own_text=True)
        else:
            batch = self._make(self._plan[self.place]) if self._pool is None else self._take(self._pool)
        self.place += 1
        return batch

    def _take(self, pool: ThreadPoolExecutor) -> Batch:
        """The batch at the cursor, prepared ahead if possible; starts the next ones, up to the end of the epoch."""
        while self._ahead and self._ahead[0][:2] != (self.epoch, self.place):
            self._ahead.popleft()[2].cancel()
        first = self.place + len(self._ahead)
        for place in range(first, min(self.place + 1 + self._most_ahead, len(self._plan))):
            self._ahead.append((self.epoch, place, pool.submit(self._make, self._plan[place])))
        return self._ahead.popleft()[2].result()

    def _make(self, rows: list[list[int]]) -> Batch:
        return collate_rows(self._rows(rows), self.shape)

    def _rows(self, rows: list[list[int]]) -> list[list[Example]]:
        return [[self._examples[index] for index in row] for row in rows]

    @property
    def supervised(self) -> int:
        """Supervised tokens of an epoch."""
        return self._supervised

    @property
    def mean_supervised(self) -> float:
        """Supervised tokens of an average batch."""
        return self._supervised / len(self._plan)

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "place": self.place}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a saved place; it is only meaningful for the same `fingerprint`. ValueError for one that is none."""
        epoch, place = state["epoch"], state["place"]
        plan = self._epoch_plan(epoch) if type(epoch) is int and epoch >= 0 else []
        if type(place) is not int or not 0 <= place <= len(plan) or not plan:
            raise ValueError(f"there is no batch {place!r:.20} of epoch {epoch!r:.20}")
        self.epoch, self.place, self._plan = epoch, place, plan

    def _epoch_plan(self, epoch: int) -> list[list[list[int]]]:
        return epoch_plan(self._lengths, self._batch_size, self._seed, epoch, self._capacity)
