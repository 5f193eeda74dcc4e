"""Trace sequences to padded batches, in an order that a seed and a cursor decide. It knows no model and no optimizer.

The stream is prompt + completion; the hidden state at stream position t predicts token t + 1. So the state at
P − 1 + j is supervised by completion token j, the last token is never read, and the prompt carries no loss.
Shapes: B sequences, T positions read, N supervised positions of a batch, C completion tokens, K candidates.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.traces.dataset import TraceSequence
from bitnet_core.training.losses import Counts, Targets

_BUCKET_BATCHES = 16  # batches that are sorted by length together: little padding, and still a shuffle
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
    """Padding stands on the right, where no real token can see it; `positions_N` index the flattened [B·T]."""

    ids_BT: Tensor
    positions_N: Tensor
    targets: Targets
    counts: Counts

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self

        def move(tensor: Tensor) -> Tensor:
            pinned = tensor.pin_memory() if device.type == "cuda" else tensor
            return pinned.to(device, non_blocking=True)

        targets = Targets(*(move(getattr(self.targets, field.name)) for field in fields(Targets)))
        return Batch(move(self.ids_BT), move(self.positions_N), targets, self.counts)


def prepare(sequences: Sequence[TraceSequence], max_len: int) -> tuple[list[Example], Cuts]:
    """Cut every sequence to `max_len` read positions: the completion's end first.

    A prompt that would leave less than a quarter of the room to the completion loses its *beginning*, so that
    every sequence keeps supervision; what was cut is counted.
    """
    cuts = Cuts()
    return [_example(sequence, max_len, cuts) for sequence in sequences], cuts


def _example(sequence: TraceSequence, max_len: int, cuts: Cuts) -> Example:
    prompt, completion = len(sequence.prompt_ids_P), len(sequence.completion_ids_C)
    if not prompt or not completion:
        raise BitnetError(f"Sequence {sequence.prompt_idx} has no prompt or no completion; collect the traces again.")
    room = max_len + 1  # the last token is predicted, never read
    kept_prompt = min(prompt, room - min(completion, max(1, max_len // _LEAST_COMPLETION)))
    kept = min(completion, room - kept_prompt)
    cuts.completions += kept < completion
    cuts.completion_tokens += completion - kept
    cuts.prompts += kept_prompt < prompt
    cuts.prompt_tokens += prompt - kept_prompt
    stream = np.concatenate([sequence.prompt_ids_P[prompt - kept_prompt :], sequence.completion_ids_C[:kept]])
    return Example(
        ids_T=torch.from_numpy(stream[:-1].astype(np.int64)),
        first=kept_prompt - 1,
        targets=Targets(
            observed_N=torch.from_numpy(sequence.completion_ids_C[:kept].astype(np.int64)),
            topk_ids_NK=torch.from_numpy(sequence.topk_ids_CK[:kept].astype(np.int64)),
            topk_logprobs_NK=torch.from_numpy(sequence.topk_logprobs_CK[:kept].astype(np.float32)),
            other_logprob_N=torch.from_numpy(sequence.other_logprob_C[:kept].astype(np.float32)),
            kd_valid_N=torch.from_numpy(sequence.kd_valid_C[:kept].astype(np.bool_)),
            is_struct_N=torch.from_numpy(sequence.is_struct_C[:kept].astype(np.bool_)),
        ),
    )


def collate(examples: Sequence[Example]) -> Batch:
    """One batch of at least one example."""
    width = max(len(example.ids_T) for example in examples)
    ids_BT = torch.zeros(len(examples), width, dtype=torch.int64)
    positions: list[Tensor] = []
    for row, example in enumerate(examples):
        ids_BT[row, : len(example.ids_T)] = example.ids_T
        start = row * width + example.first
        positions.append(torch.arange(start, start + len(example.targets)))
    targets = Targets(
        *(torch.cat([getattr(example.targets, field.name) for example in examples]) for field in fields(Targets))
    )
    counts = Counts(int(targets.kd_valid_N.sum()), len(targets), int(targets.is_struct_N.sum()))
    return Batch(ids_BT, torch.cat(positions), targets, counts)


def batches_in_order(examples: Sequence[Example], batch_size: int) -> Iterator[Batch]:
    """Every example once, similar lengths together, always in the same order: for evaluation."""
    order = sorted(range(len(examples)), key=lambda index: (len(examples[index].ids_T), index))
    for start in range(0, len(order), batch_size):
        yield collate([examples[index] for index in order[start : start + batch_size]])


def epoch_plan(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one epoch: each index once, shuffled, similar lengths together within a window."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths)).tolist()
    window = batch_size * _BUCKET_BATCHES
    plan: list[list[int]] = []
    for start in range(0, len(order), window):
        bucket = sorted(order[start : start + window], key=lambda index: lengths[index])
        plan += [bucket[begin : begin + batch_size] for begin in range(0, len(bucket), batch_size)]
    return [plan[place] for place in rng.permutation(len(plan))]


class Sampler:
    """Endless batches over epochs. Its whole state is the epoch and the place in it."""

    def __init__(self, examples: Sequence[Example], batch_size: int, seed: int) -> None:
        if not examples:
            raise BitnetError("There is no sequence to train on; collect more traces.")
        self._examples, self._batch_size, self._seed = examples, batch_size, seed
        self._lengths = [len(example.ids_T) for example in examples]
        self.epoch, self.place = 0, 0
        self._plan = self._epoch_plan()
        self.fingerprint = self._fingerprint()

    def next(self) -> Batch:
        if self.place == len(self._plan):
            self.epoch, self.place = self.epoch + 1, 0
            self._plan = self._epoch_plan()
        batch = collate([self._examples[index] for index in self._plan[self.place]])
        self.place += 1
        return batch

    @property
    def mean_supervised(self) -> float:
        """Supervised tokens of an average batch."""
        return sum(len(example.targets) for example in self._examples) / len(self._plan)

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "place": self.place}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to that place; it means the same only for the same `fingerprint`."""
        self.epoch, self.place = state["epoch"], state["place"]
        self._plan = self._epoch_plan()

    def _epoch_plan(self) -> list[list[int]]:
        return epoch_plan(self._lengths, self._batch_size, self._seed, self.epoch)

    def _fingerprint(self) -> str:
        """Of everything that a batch is made from: tokens and the teacher's numbers, batch size and seed."""
        digest = hashlib.sha256(f"{self._batch_size} {self._seed}".encode())
        for example in self._examples:
            digest.update(example.ids_T.numpy().tobytes())
            digest.update(example.targets.topk_logprobs_NK.numpy().tobytes())
        return digest.hexdigest()
