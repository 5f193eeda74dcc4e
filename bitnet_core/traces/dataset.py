"""Read a student-space trace set; the only reader that training and evaluation use.

It must not know torch: `examples` makes tensors.
Shapes: S sequences, P prompt tokens, C completion tokens, K candidates (padded to the set's top-k), V vocabulary.
"""

import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa

from bitnet_core.errors import BitnetError
from bitnet_core.tokenizer.arrays import Array, Bool, Float32, Float64, Int32, Int64
from bitnet_core.traces.layout import MappedBatch, OnShard, mapped_batches
from bitnet_core.traces.split import with_both_sides
from bitnet_core.traces.trace_set import open_shards


@dataclass(frozen=True)
class TraceSequence:
    """One prompt and its completion; row j of the read-only `_C` arrays supervises `completion_ids_C[j]`."""

    prompt_idx: int
    prompt_text: str
    completion_text: str
    prompt_ids_P: Int32
    completion_ids_C: Int32
    topk_ids_CK: Int32
    topk_logprobs_CK: Float32
    """Natural logs at temperature 1; -inf is padding."""
    other_logprob_C: Float32
    """Log of the mass outside the candidates; 0 where there are none."""
    kd_valid_C: Bool
    """Whether the position has candidates."""
    is_struct_C: Bool
    """Whether the token is JSON structure or a code fence."""
    heldout: bool
    finish_reason: str
    sequence_hash: str


def _joined(parts: Iterable[Array]) -> Array:
    return np.concatenate([np.zeros(0, np.int64), *parts])


class MappedSequences(Sequence[TraceSequence]):
    """Sequences of a mapped file; each is made of views when it is asked for.

    `content_hash` identifies their content and order.
    """

    def __init__(self, batches: Sequence[MappedBatch], top_k: int, content_hash: str) -> None:
        self._batches, self._top_k, self.content_hash = batches, top_k, content_hash
        self._starts = np.cumsum([0, *(batch.count for batch in batches)])
        hashes = pa.chunked_array([batch.hashes for batch in batches], pa.large_string())
        self._heldout_S = with_both_sides(_joined(batch.heldout_S for batch in batches).astype(bool), hashes)
        self._places_S = np.arange(len(self._heldout_S))
        self.prompt_lengths_S = _joined(batch.lists["prompt_ids"].lengths for batch in batches)
        self.completion_lengths_S = _joined(batch.lists["completion_ids"].lengths for batch in batches)

    def side(self, *, heldout: bool) -> "MappedSequences":
        """The sequences that are held out, or the others; in their order."""
        chosen = self._heldout_S == heldout
        side = copy.copy(self)
        side.content_hash = hashlib.sha256(f"{self.content_hash} {heldout}".encode()).hexdigest()
        for name in ("_heldout_S", "_places_S", "prompt_lengths_S", "completion_lengths_S"):
            setattr(side, name, getattr(self, name)[chosen])
        return side

    @property
    def prompt_idx_S(self) -> Int64:
        return self._of_each(lambda batch: batch.prompt_idx_S).astype(np.int64)

    @property
    def heldout_S(self) -> Bool:
        return self._heldout_S

    def matching_S(self, text: str) -> Bool:
        """Which prompts or completions have this text in them, whatever the case of its letters."""
        return self._of_each(lambda batch: batch.matching_S(text)).astype(bool)

    def finish_reasons_S(self) -> Array:
        """How each completion ended."""
        return self._of_each(MappedBatch.finish_reasons_S)

    def other_mass_S(self) -> Float64:
        """The mean probability outside the candidates, over tokens that have any; NaN where none has."""
        return self._of_each(MappedBatch.other_mass_S).astype(np.float64)

    def most_other(self, limit: int) -> list[tuple[float, int, int]]:
        """The tokens of the whole set with the most mass outside their candidates: it, the sequence, the token."""
        found = [
            (mass, first + row, position)
            for first, batch in zip(self._starts.tolist(), self._batches, strict=False)
            for mass, row, position in batch.most_other(limit)
        ]
        return sorted(found, key=lambda one: -one[0])[:limit]

    def _of_each(self, of_batch: Callable[[MappedBatch], Array]) -> Array:
        return _joined(map(of_batch, self._batches))[self._places_S]

    def __len__(self) -> int:
        return len(self._places_S)

    @overload
    def __getitem__(self, place: int) -> TraceSequence: ...
    @overload
    def __getitem__(self, place: slice) -> list[TraceSequence]: ...
    def __getitem__(self, place: int | slice) -> TraceSequence | list[TraceSequence]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        at = int(self._places_S[place])
        number = int(np.searchsorted(self._starts, at, side="right")) - 1
        row, batch = at - int(self._starts[number]), self._batches[number]
        lists = batch.lists
        prompt_text, completion_text, finish_reason, sequence_hash = batch.texts(row)
        completion_ids_C = lists["completion_ids"][row]
        shape = len(completion_ids_C), self._top_k
        return TraceSequence(
            prompt_idx=int(batch.prompt_idx_S[row]),
            prompt_text=prompt_text,
            completion_text=completion_text,
            prompt_ids_P=lists["prompt_ids"][row],
            completion_ids_C=completion_ids_C,
            topk_ids_CK=lists["topk_ids"][row].reshape(shape),
            topk_logprobs_CK=lists["topk_logprobs"][row].reshape(shape),
            other_logprob_C=lists["other_logprob"][row],
            kd_valid_C=lists["kd_valid"][row].view(bool),
            is_struct_C=lists["is_struct"][row].view(bool),
            heldout=bool(self._heldout_S[place]),
            finish_reason=finish_reason,
            sequence_hash=sequence_hash,
        )


@dataclass(frozen=True)
class TraceSet:
    """All sequences of a trace set, and what they were made with."""

    sequences: Sequence[TraceSequence]
    vocab_size: int
    top_k: int
    tokenizer_hash: str
    template_hash: str
    teacher: str
    sampled: bool = False
    """Whether candidates are draws with their shares (KD_ROWS=sampled), not the likeliest tokens."""
    cut_by_filter: int = 0
    """Answers that were left out, because a content filter cut them: they end where no teacher would end."""

    def split(self) -> tuple[Sequence[TraceSequence], Sequence[TraceSequence]]:
        """(training, held out); the same prompts are held out whatever the teacher or the settings."""
        if isinstance(self.sequences, MappedSequences):
            return self.sequences.side(heldout=False), self.sequences.side(heldout=True)
        train = [sequence for sequence in self.sequences if not sequence.heldout]
        return train, [sequence for sequence in self.sequences if sequence.heldout]


def load_traces(
    data_dir: Path, max_topk: int = 20, on_shard: OnShard = lambda *_: None, *, once: bool = False
) -> TraceSet:
    """All sequences of a trace set, in the order of their prompts.

    Of each row at most `max_topk` candidates are kept; the mass of the others goes to Other. Draws are all kept, or
    they would not be unbiased any more. With two or more
    different prompts, at least one is held out and at least one is not. The first time, the shards are checked and
    laid out in the cache; `on_shard(done, total)` is called before each, and may raise to stop. BitnetError names the
    file, the row and the reason for anything missing, unreadable or inconsistent, and a cache that can't be written;
    who reads them only `once` does without one.
    """
    shards = open_shards(data_dir)
    first = shards[0].metadata
    sampled = first.sampling.get("rows") == "sampled"
    top_k = first.top_k if sampled else min(first.top_k, max_topk)
    batches, content_hash = mapped_batches(shards, top_k, on_shard, once=once)
    sequences = MappedSequences(batches, top_k, content_hash)
    filtered = sum(shard.cut_by_filter for shard in shards)
    if not len(sequences) and filtered:
        raise BitnetError(
            f"A content filter cut every answer in {data_dir}; relax that filter, or choose another teacher, and run "
            "`bitnet collect` again."
        )
    if not len(sequences):
        raise BitnetError(f"The traces in {data_dir} hold no sequence; run `bitnet collect` again.")
    return TraceSet(
        sequences=sequences,
        vocab_size=first.vocab_size,
        top_k=top_k,
        tokenizer_hash=first.tokenizer_hash,
        template_hash=first.template_hash,
        teacher=first.teacher,
        sampled=sampled,
        cut_by_filter=filtered,
    )


def top1_counts(sequences: Sequence[TraceSequence], vocab_size: int) -> Int64:
    """How often each token is the teacher's most likely one."""
    counts_V = np.zeros(vocab_size, np.int64)
    for sequence in sequences:
        np.add.at(counts_V, sequence.topk_ids_CK[sequence.kd_valid_C, 0], 1)
    return counts_V
