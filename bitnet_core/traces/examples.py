"""Trace sequences as training examples and padded batches. It must not know models or the order of training.

The stream is prompt + completion, and the hidden state at stream position t predicts token t + 1. So the state at
P − 1 + j is supervised by completion token j, the last token is never read, and the prompt carries no loss.
A row of a batch holds one sequence, or several if they are packed; a segment number tells them apart.
Shapes: B rows, T positions read, N supervised positions, S sequences, P prompt tokens, C completion tokens,
K candidates.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import overload

import numpy as np
import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.tokenizer.arrays import Int64
from bitnet_core.traces.dataset import MappedSequences, TraceSequence

_LEAST_COMPLETION = 4
"""A completion gets at least one part in this many of the positions, however long its prompt is."""


@dataclass(frozen=True)
class Targets:
    """What N supervised positions are trained on. A candidate with logprob -inf is padding, whatever its id."""

    observed_N: Tensor  # int64: the token that really follows
    topk_ids_NK: Tensor  # int64, distinct where valid, most likely first
    topk_logprobs_NK: Tensor  # float, natural log at temperature 1
    other_logprob_N: Tensor  # float
    kd_valid_N: Tensor  # bool: False = no candidates here, cross-entropy alone
    is_struct_N: Tensor  # bool: the observed token is JSON structure

    def __len__(self) -> int:
        return self.observed_N.shape[0]

    def at_least_one_candidate(self) -> "Targets":
        """The same targets, with a column of padding if K is 0."""
        if self.topk_ids_NK.shape[1]:
            return self
        shape = (len(self), 1)
        return replace(
            self,
            topk_ids_NK=self.topk_ids_NK.new_zeros(shape),
            topk_logprobs_NK=self.topk_logprobs_NK.new_full(shape, float("-inf")),
        )

    def rows(self, start: int, end: int) -> "Targets":
        return self.map(lambda tensor: tensor[start:end])

    def map(self, change: Callable[[Tensor], Tensor]) -> "Targets":
        return Targets(*(change(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True)
class Counts:
    """Positions that each mean is over, in the *whole* accumulated batch. Host integers: no device has to be read."""

    kd: int
    ce: int
    format: int

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.kd + other.kd, self.ce + other.ce, self.format + other.format)


@dataclass(frozen=True)
class Example:
    """One sequence cut to length, without a copy: the end of its prompt and the beginning of its completion."""

    sequence: TraceSequence
    prompt: int
    """Prompt tokens kept."""
    supervised: int
    """Completion tokens kept."""

    @property
    def length(self) -> int:
        """Positions read."""
        return self.prompt + self.supervised - 1


@dataclass
class Cuts:
    """What was lost to MAX_SEQ_LEN: how many completions and prompts were cut, and their tokens."""

    completions: int = 0
    completion_tokens: int = 0
    prompts: int = 0
    prompt_tokens: int = 0


@dataclass(frozen=True)
class Batch:
    """Padding is on the right, where no real token can see it; `positions_N` index the flattened [B·T].

    `segments_BT` numbers the sequences of each row, with -1 for padding; None if every row holds one sequence.
    """

    ids_BT: Tensor
    positions_N: Tensor
    targets: Targets
    counts: Counts
    segments_BT: Tensor | None = None
    own_text: bool = False
    """Whether the student wrote the supervised tokens itself."""

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self

        def move(tensor: Tensor) -> Tensor:
            pinned = tensor.pin_memory() if device.type == "cuda" else tensor
            return pinned.to(device, non_blocking=True)

        segments_BT = None if self.segments_BT is None else move(self.segments_BT)
        targets = self.targets.map(move)
        return Batch(move(self.ids_BT), move(self.positions_N), targets, self.counts, segments_BT, self.own_text)


class Examples(Sequence[Example]):
    """Trace sequences cut to `max_len` read positions; each example is made when it is asked for.

    The completion's end is cut first. A prompt that would leave less than a quarter of the positions to the
    completion loses its *beginning*, so that every sequence keeps supervised positions; `cuts` counts what was lost.
    BitnetError for a sequence without prompt or completion.
    """

    def __init__(self, sequences: Sequence[TraceSequence], max_len: int) -> None:
        self._sequences, self._max_len = sequences, max_len
        if isinstance(sequences, MappedSequences):  # their lengths are known without reading them
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
        """Identifies the examples' content and order."""
        if isinstance(self._sequences, MappedSequences):
            return f"{self._sequences.content_hash} {self._max_len}"
        digest = hashlib.sha256()
        for example in self:
            batch = collate([example])
            digest.update(batch.ids_BT.numpy().tobytes())
            digest.update(batch.targets.topk_logprobs_NK.numpy().tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._sequences)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...
    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        return Example(self._sequences[place], int(self._prompts_S[place]), int(self.supervised_S[place]))


def collate(examples: Sequence[Example]) -> Batch:
    """One batch with a row for each of at least one example."""
    return collate_rows([[example] for example in examples])


def collate_rows(rows: Sequence[Sequence[Example]], shape: tuple[int, int] | None = None) -> Batch:
    """One batch of at least one row; a row's examples (at least one) follow one another in it.

    `shape` [B, T] pads every batch to the same size, so that a compiled step is compiled once.
    """
    height, width = shape or (len(rows), max(sum(example.length for example in row) for row in rows))
    ids_BT = np.zeros((height, width), np.int64)
    segments_BT = np.full((height, width), -1, np.int32)
    positions: list[Int64] = []
    for number, row in enumerate(rows):
        begin = 0
        for segment, example in enumerate(row):
            middle, end = begin + example.prompt, begin + example.length
            ids_BT[number, begin:middle] = example.sequence.prompt_ids_P[-example.prompt :]
            ids_BT[number, middle:end] = example.sequence.completion_ids_C[: example.supervised - 1]
            segments_BT[number, begin:end] = segment
            first = number * width + middle - 1
            positions.append(np.arange(first, first + example.supervised))
            begin = end
    examples = [example for row in rows for example in row]

    def joined(column: str, kind: type[np.generic]) -> Tensor:
        parts = [getattr(example.sequence, column)[: example.supervised] for example in examples]
        return torch.from_numpy(np.concatenate(parts, dtype=kind))

    targets = Targets(
        observed_N=joined("completion_ids_C", np.int64),
        topk_ids_NK=joined("topk_ids_CK", np.int64),
        topk_logprobs_NK=joined("topk_logprobs_CK", np.float32),
        other_logprob_N=joined("other_logprob_C", np.float32),
        kd_valid_N=joined("kd_valid_C", np.bool_),
        is_struct_N=joined("is_struct_C", np.bool_),
    )
    counts = Counts(int(targets.kd_valid_N.sum()), len(targets), int(targets.is_struct_N.sum()))
    packed = len(examples) > len(rows) or shape is not None
    segments = torch.from_numpy(segments_BT) if packed else None
    return Batch(torch.from_numpy(ids_BT), torch.from_numpy(np.concatenate(positions)), targets, counts, segments)


def batches_in_order(examples: Sequence[Example], batch_size: int) -> Iterator[Batch]:
    """Every example once, similar lengths together, always in the same order: for evaluation."""
    order = sorted(range(len(examples)), key=lambda index: (examples[index].length, index))
    for start in range(0, len(order), batch_size):
        yield collate([examples[index] for index in order[start : start + batch_size]])
