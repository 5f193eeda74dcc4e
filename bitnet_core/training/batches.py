"""Trace sequences to batches, in an order that a seed and a cursor decide. It knows no model and no optimizer.

The stream is prompt + completion; the hidden state at stream position t predicts token t + 1. So the state at
P − 1 + j is supervised by completion token j, the last token is never read, and the prompt carries no loss.
A row of a batch holds one sequence, or as many as fit when they are packed; a segment number keeps them apart.
Shapes: B rows, T positions read, N supervised positions of a batch, C completion tokens, K candidates.
"""

import bisect
import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.traces.dataset import TraceSequence
from bitnet_core.training.losses import Counts, Targets

_BUCKET_BATCHES = 16  # batches that are sorted or packed together: little padding, and still a shuffle
_PADDING = -1
_LEAST_COMPLETION = 4  # a prompt may take all but one part in so many of MAX_SEQ_LEN


@dataclass(frozen=True)
class Example:
    """One sequence cut to length. `targets` has a row for each supervised position; the first is `first`."""

    ids_T: Tensor
    first: int
    targets: Targets


@dataclass
class Cuts:
    """What MAX_SEQ_LEN cost."""

    completions: int = 0
    completion_tokens: int = 0
    prompts: int = 0
    prompt_tokens: int = 0


@dataclass(frozen=True)
class Batch:
    """Padding stands on the right, where no real token can see it; `positions_N` index the flattened [B·T].

    `segments_BT` numbers the sequences of each row, -1 for padding; None where every row holds one.
    """

    ids_BT: Tensor
    positions_N: Tensor
    targets: Targets
    counts: Counts
    segments_BT: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self

        def move(tensor: Tensor) -> Tensor:
            pinned = tensor.pin_memory() if device.type == "cuda" else tensor
            return pinned.to(device, non_blocking=True)

        targets = Targets(*(move(getattr(self.targets, field.name)) for field in fields(Targets)))
        segments_BT = None if self.segments_BT is None else move(self.segments_BT)
        return Batch(move(self.ids_BT), move(self.positions_N), targets, self.counts, segments_BT)


@runtime_checkable
class _Measured(Protocol):
    """A sequence of traces that knows its lengths and its content without being read."""

    content_hash: str

    @property
    def prompt_lengths_S(self) -> npt.NDArray[np.int64]: ...
    @property
    def completion_lengths_S(self) -> npt.NDArray[np.int64]: ...


class Examples(Sequence[Example]):
    """Trace sequences cut to `max_len` read positions, each made when it is asked for.

    The completion's end is cut first. A prompt that would leave less than a quarter of the room to the completion
    loses its *beginning*, so that every sequence keeps supervision; `cuts` counts what was lost.
    """

    def __init__(self, sequences: Sequence[TraceSequence], max_len: int) -> None:
        self._sequences, self._max_len = sequences, max_len
        if isinstance(sequences, _Measured):
            prompts_S, completions_S = sequences.prompt_lengths_S, sequences.completion_lengths_S
        else:
            prompts_S = np.array([len(sequence.prompt_ids_P) for sequence in sequences], np.int64)
            completions_S = np.array([len(sequence.completion_ids_C) for sequence in sequences], np.int64)
        empty_S = (prompts_S == 0) | (completions_S == 0)
        if empty_S.any():
            prompt_idx = sequences[int(empty_S.argmax())].prompt_idx
            raise BitnetError(f"Sequence {prompt_idx} has no prompt or no completion; collect the traces again.")
        room = max_len + 1  # the last token is predicted, never read
        self._prompts_S = np.minimum(
            prompts_S, room - np.minimum(completions_S, max(1, max_len // _LEAST_COMPLETION))
        )
        self.supervised_S = np.minimum(completions_S, room - self._prompts_S)
        self.lengths_S = self._prompts_S + self.supervised_S - 1
        lost_S, lost_prompt_S = completions_S - self.supervised_S, prompts_S - self._prompts_S
        self.cuts = Cuts(
            completions=int((lost_S > 0).sum()),
            completion_tokens=int(lost_S.sum()),
            prompts=int((lost_prompt_S > 0).sum()),
            prompt_tokens=int(lost_prompt_S.sum()),
        )

    def fingerprint(self) -> str:
        """Of all that the examples hold."""
        if isinstance(self._sequences, _Measured):
            return f"{self._sequences.content_hash} {self._max_len}"
        return fingerprint(self)

    def __len__(self) -> int:
        return len(self._sequences)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...
    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        sequence = self._sequences[place]
        prompt, kept = int(self._prompts_S[place]), int(self.supervised_S[place])
        stream = np.concatenate([sequence.prompt_ids_P[-prompt:], sequence.completion_ids_C[:kept]])
        return Example(
            ids_T=_tensor(stream[:-1], np.int64),
            first=prompt - 1,
            targets=Targets(
                observed_N=_tensor(sequence.completion_ids_C[:kept], np.int64),
                topk_ids_NK=_tensor(sequence.topk_ids_CK[:kept], np.int64),
                topk_logprobs_NK=_tensor(sequence.topk_logprobs_CK[:kept], np.float32),
                other_logprob_N=_tensor(sequence.other_logprob_C[:kept], np.float32),
                kd_valid_N=_tensor(sequence.kd_valid_C[:kept], np.bool_),
                is_struct_N=_tensor(sequence.is_struct_C[:kept], np.bool_),
            ),
        )


def fingerprint(examples: Iterable[Example]) -> str:
    """Of the tokens and of the teacher's numbers."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(example.ids_T.numpy().tobytes())
        digest.update(example.targets.topk_logprobs_NK.numpy().tobytes())
    return digest.hexdigest()


def _tensor(values: npt.NDArray[Any], dtype: type[np.generic]) -> Tensor:
    return torch.from_numpy(np.array(values, dtype))  # a copy: the trace's memory may be a file's, and read-only


def prepare(sequences: Sequence[TraceSequence], max_len: int) -> tuple[Examples, Cuts]:
    """Cut every sequence to `max_len` read positions; what that cost is the second of the two."""
    examples = Examples(sequences, max_len)
    return examples, examples.cuts


def collate(examples: Sequence[Example]) -> Batch:
    """One batch with a row for each example, of which there is at least one."""
    return collate_rows([[example] for example in examples])


def collate_rows(rows: Sequence[Sequence[Example]], shape: tuple[int, int] | None = None) -> Batch:
    """One batch of at least one row, each of at least one example, which stand behind one another in it.

    With a `shape` [B, T] the rest is padding, so that every batch looks alike to a compiler.
    """
    height, width = shape or (len(rows), max(sum(len(example.ids_T) for example in row) for row in rows))
    ids_BT = torch.zeros(height, width, dtype=torch.int64)
    segments_BT = torch.full((height, width), _PADDING, dtype=torch.int32)
    positions: list[Tensor] = []
    for number, row in enumerate(rows):
        begin = 0
        for segment, example in enumerate(row):
            end = begin + len(example.ids_T)
            ids_BT[number, begin:end] = example.ids_T
            segments_BT[number, begin:end] = segment
            start = number * width + begin + example.first
            positions.append(torch.arange(start, start + len(example.targets)))
            begin = end
    examples = [example for row in rows for example in row]
    targets = Targets(
        *(torch.cat([getattr(example.targets, field.name) for example in examples]) for field in fields(Targets))
    )
    counts = Counts(int(targets.kd_valid_N.sum()), len(targets), int(targets.is_struct_N.sum()))
    packed = len(examples) > len(rows) or shape is not None
    return Batch(ids_BT, torch.cat(positions), targets, counts, segments_BT if packed else None)


def batches_in_order(examples: Sequence[Example], batch_size: int) -> Iterator[Batch]:
    """Every example once, similar lengths together, always in the same order: for evaluation."""
    order = sorted(range(len(examples)), key=lambda index: (len(examples[index].ids_T), index))
    for start in range(0, len(order), batch_size):
        yield collate([examples[index] for index in order[start : start + batch_size]])


def fill_rows(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Places of `lengths` in rows of at most `capacity`: longest first, each into the fullest row that has room."""
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

    Without a `capacity` each row is one index, and similar lengths stand together within a window; with one,
    the rows of a window are filled up to it.
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

    With a `capacity` the rows of a batch are packed up to so many positions. With `workers` that many threads make
    the coming batches while the present one is used; what comes out, and the state, are the same. With a `shape`
    every batch is padded to it.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch_size: int,
        seed: int,
        capacity: int | None = None,
        workers: int = 0,
        shape: tuple[int, int] | None = None,
    ) -> None:
        if not examples:
            raise BitnetError("There is no sequence to train on; collect more traces.")
        self._examples, self._batch_size, self._seed, self._capacity = examples, batch_size, seed, capacity
        if isinstance(examples, Examples):
            self._lengths, self._supervised = examples.lengths_S.tolist(), int(examples.supervised_S.sum())
        else:
            self._lengths = [len(example.ids_T) for example in examples]
            self._supervised = sum(len(example.targets) for example in examples)
        self.epoch, self.place = 0, 0
        self._plan = self._epoch_plan(0)
        self._pool = ThreadPoolExecutor(workers, "batches") if workers else None
        self._shape = shape
        self._ahead: deque[tuple[int, int, Future[Batch]]] = deque()
        self._most_ahead = 2 * workers
        self.fingerprint = self._fingerprint()

    def next(self) -> Batch:
        if self.place == len(self._plan):
            self.epoch, self.place = self.epoch + 1, 0
            self._plan = self._epoch_plan(self.epoch)
        batch = self._make(self._plan[self.place]) if self._pool is None else self._take(self._pool)
        self.place += 1
        return batch

    def _take(self, pool: ThreadPoolExecutor) -> Batch:
        """The batch at the cursor, made ahead where it was; those after it, to the epoch's end, are put to work."""
        while self._ahead and self._ahead[0][:2] != (self.epoch, self.place):
            self._ahead.popleft()[2].cancel()
        first = self.place + len(self._ahead)
        for place in range(first, min(self.place + 1 + self._most_ahead, len(self._plan))):
            self._ahead.append((self.epoch, place, pool.submit(self._make, self._plan[place])))
        return self._ahead.popleft()[2].result()

    def _make(self, rows: list[list[int]]) -> Batch:
        return collate_rows([[self._examples[index] for index in row] for row in rows], self._shape)

    @property
    def mean_supervised(self) -> float:
        """Supervised tokens of an average batch."""
        return self._supervised / len(self._plan)

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "place": self.place}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to that place; it means the same only for the same `fingerprint`."""
        self.epoch, self.place = state["epoch"], state["place"]
        self._plan = self._epoch_plan(self.epoch)

    def _epoch_plan(self, epoch: int) -> list[list[list[int]]]:
        return epoch_plan(self._lengths, self._batch_size, self._seed, epoch, self._capacity)

    def _fingerprint(self) -> str:
        """Of everything that a batch is made from, and of the order."""
        examples = (
            self._examples.fingerprint() if isinstance(self._examples, Examples) else fingerprint(self._examples)
        )
        text = f"{self._batch_size} {self._seed} {self._capacity} {examples}"
        return hashlib.sha256(text.encode()).hexdigest()
