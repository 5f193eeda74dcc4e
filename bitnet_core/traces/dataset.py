"""Read a student-space trace set; the only reader that training and evaluation use.

The Parquet shards are checked row by row once and laid out as one uncompressed Arrow file in the cache, named by
their content. That file is mapped into memory: a set larger than memory costs what is being looked at, and a
sequence is a few slices of it. It must not know torch: batching belongs to training.
Shapes: S sequences, P prompt tokens, C completion tokens, K candidates (padded to the set's top-k).
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.files import cache_folder
from bitnet_core.tokenizer.mass import give_to_other, rebalance_lists
from bitnet_core.traces.shards import Shard, Window, require_one_configuration, shards_in, whole

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

_HELDOUT_ONE_IN = 10
_LAYOUT = 2  # of the cached file; another number makes it anew
_BATCH_TOKENS = 1 << 16
_KEPT_DAYS = 30
_CACHED = pa.schema(
    [
        ("prompt_idx", pa.int64()),
        ("prompt_text", pa.large_string()),
        ("completion_text", pa.large_string()),
        ("finish_reason", pa.large_string()),
        ("sequence_hash", pa.large_string()),
        ("heldout", pa.uint8()),
        ("prompt_ids", pa.large_list(pa.int32())),
        ("completion_ids", pa.large_list(pa.int32())),
        ("is_struct", pa.large_list(pa.uint8())),
        ("kd_valid", pa.large_list(pa.uint8())),
        ("other_logprob", pa.large_list(pa.float32())),
        ("topk_ids", pa.large_list(pa.int32())),
        ("topk_logprobs", pa.large_list(pa.float32())),
    ]
)
"""One row a sequence. Lists are as long as the completion, those of candidates K times as long; flags are bytes,
because Arrow's bits can't be looked at without a copy."""


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
    other_logprob_C: Float32
    kd_valid_C: Bool
    is_struct_C: Bool
    heldout: bool
    finish_reason: str
    sequence_hash: str


@dataclass(frozen=True)
class _Index:
    """Which sequences of all batches are meant, and what is known of each without reading it."""

    places_S: Int64
    heldout_S: Bool
    prompt_lengths_S: Int64
    completion_lengths_S: Int64

    @classmethod
    def of(cls, batches: Sequence["_MappedBatch"]) -> "_Index":
        return cls(
            np.arange(sum(batch.count for batch in batches)),
            _with_both_sides(batches),
            _joined(np.diff(batch.prompt_ids.starts) for batch in batches),
            _joined(np.diff(batch.completion_ids.starts) for batch in batches),
        )

    def only(self, chosen: Int64) -> "_Index":
        return _Index(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def _joined(parts: Iterable[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _with_both_sides(batches: Sequence["_MappedBatch"]) -> Bool:
    """Which are held out. The prompt with the lowest hash changes over when a side would be empty."""
    heldout_S = _joined(batch.heldout_S for batch in batches).astype(bool)
    if not len(heldout_S) or (heldout_S.any() and not heldout_S.all()):
        return heldout_S
    hashes = pa.chunked_array([batch.hashes for batch in batches])
    lowest, highest = pc.min_max(hashes).as_py().values()
    if lowest == highest:
        return np.zeros_like(heldout_S)
    changed: Bool = heldout_S ^ pc.equal(hashes, lowest).to_numpy()
    return changed


class MappedSequences(Sequence[TraceSequence]):
    """Sequences of a mapped file, each made of views when it is asked for. `content_hash` is of all in them."""

    def __init__(
        self, batches: Sequence["_MappedBatch"], top_k: int, content_hash: str, index: _Index | None = None
    ) -> None:
        self._batches, self._top_k, self.content_hash = batches, top_k, content_hash
        self._starts = np.cumsum([0, *(batch.count for batch in batches)])
        self._index = _Index.of(batches) if index is None else index
        self.prompt_lengths_S = self._index.prompt_lengths_S
        self.completion_lengths_S = self._index.completion_lengths_S

    def side(self, *, heldout: bool) -> "MappedSequences":
        """The sequences that are, or are not, held out; in their order."""
        index = self._index.only(np.flatnonzero(self._index.heldout_S == heldout))
        content_hash = hashlib.sha256(f"{self.content_hash} {heldout}".encode()).hexdigest()
        return MappedSequences(self._batches, self._top_k, content_hash, index)

    def __len__(self) -> int:
        return len(self._index.places_S)

    @overload
    def __getitem__(self, place: int) -> TraceSequence: ...
    @overload
    def __getitem__(self, place: slice) -> list[TraceSequence]: ...
    def __getitem__(self, place: int | slice) -> TraceSequence | list[TraceSequence]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        at = int(self._index.places_S[place])
        number = int(np.searchsorted(self._starts, at, side="right")) - 1
        row = at - int(self._starts[number])
        return self._batches[number].sequence(row, self._top_k, heldout=bool(self._index.heldout_S[place]))


@dataclass(frozen=True)
class TraceSet:
    sequences: Sequence[TraceSequence]
    vocab_size: int
    top_k: int
    tokenizer_hash: str
    template_hash: str
    teacher: str

    def split(self) -> tuple[Sequence[TraceSequence], Sequence[TraceSequence]]:
        """(train, held-out); the same prompts are held out whatever the teacher or the settings."""
        if isinstance(self.sequences, MappedSequences):
            return self.sequences.side(heldout=False), self.sequences.side(heldout=True)
        train = [sequence for sequence in self.sequences if not sequence.heldout]
        return train, [sequence for sequence in self.sequences if sequence.heldout]


def is_heldout(sequence_hash: str) -> bool:
    """Whether a prompt is kept from training: fixed by its hash, about 1 in 10."""
    digest = hashlib.sha256(f"heldout:{sequence_hash}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % _HELDOUT_ONE_IN == 0


def top1_counts(sequences: Sequence[TraceSequence], vocab_size: int) -> Int64:
    """How often each token is the teacher's most likely one."""
    counts_V = np.zeros(vocab_size, np.int64)
    for sequence in sequences:
        np.add.at(counts_V, sequence.topk_ids_CK[sequence.kd_valid_C, 0], 1)
    return counts_V


def load_traces(
    data_dir: Path, max_topk: int = 20, between: Callable[[int, int], None] = lambda *_: None
) -> TraceSet:
    """All sequences of a trace set, in the order of their prompts.

    At most `max_topk` candidates are kept of each row; the mass of the others goes to Other. With two or
    more different prompts at least one is held out and at least one is not. BitnetError names the file,
    the row and the reason for anything absent, unreadable or inconsistent. While the shards are laid out,
    `between` is told how many of how many are done, and may raise.
    """
    shards = [Shard(path) for path in shards_in(data_dir)]
    for shard in shards[1:]:
        require_one_configuration(shard, shards[0])
    first = shards[0].metadata
    top_k = min(first.top_k, max_topk)
    name = _name(shards, top_k)
    batches = _mapped(cache_folder() / "traces" / f"{name}.arrow", shards, top_k, between)
    sequences = MappedSequences(batches, top_k, name)
    if not len(sequences):
        raise BitnetError(f"The traces in {data_dir} hold no sequence; run `bitnet collect` again.")
    return TraceSet(
        sequences=sequences,
        vocab_size=first.vocab_size,
        top_k=top_k,
        tokenizer_hash=first.tokenizer_hash,
        template_hash=first.template_hash,
        teacher=first.teacher,
    )


# -- the cached file -----------------------------------------------------------------------------------


def _name(shards: Sequence[Shard], top_k: int) -> str:
    digest = hashlib.sha256(f"{_LAYOUT} {top_k}".encode())
    for shard in shards:
        for path in (shard.path, shard.stream_path):
            digest.update(files.sha256_file(path).encode())
    return digest.hexdigest()


def _mapped(
    path: Path, shards: Sequence[Shard], top_k: int, between: Callable[[int, int], None]
) -> list["_MappedBatch"]:
    """Map the cached file, made first if it isn't there or can't be read."""
    try:
        found = _map(path)
        with contextlib.suppress(OSError):  # a cache that may only be read
            path.touch()
        return found
    except (OSError, pa.ArrowException):
        pass
    try:
        _forget_old(path.parent)
        with files.atomic_path(path) as temp, pa.ipc.new_file(str(temp), _CACHED) as out:
            for batch in _laid_out(shards, top_k, between):
                out.write_batch(batch)
        pa.default_memory_pool().release_unused()
        return _map(path)
    except OSError as error:
        raise BitnetError(
            f"{path.parent} can't take the traces ({error.strerror or error}); free some space, or name another "
            "folder in BITNET_CACHE."
        ) from error


def _map(path: Path) -> list["_MappedBatch"]:
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return [_MappedBatch(reader.get_batch(number)) for number in range(reader.num_record_batches)]


def _forget_old(folder: Path) -> None:
    """Remove what nobody has read for a month, and what a killed writer left."""
    if not folder.is_dir():
        return
    files.remove_leftovers(folder)
    for path in folder.glob("*.arrow"):
        if path.stat().st_mtime < time.time() - _KEPT_DAYS * 86_400:
            path.unlink(missing_ok=True)


def _laid_out(shards: Sequence[Shard], top_k: int, between: Callable[[int, int], None]) -> Iterator[pa.RecordBatch]:
    """The sequences of all shards in batches of some 100 kB a candidate."""
    waiting: list[pa.RecordBatch] = []
    tokens = 0
    for number, shard in enumerate(shards):
        between(number, len(shards))
        for window in shard.windows():
            for fault in shard.faults(window):
                raise fault.error()
            waiting.append(_assemble(window, top_k))
            tokens += len(window.completions.values)
            if tokens >= _BATCH_TOKENS:
                yield _one_batch(waiting)
                waiting, tokens = [], 0
    if waiting:
        yield _one_batch(waiting)


def _one_batch(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    table = pa.Table.from_batches(batches, _CACHED)
    return pa.RecordBatch.from_arrays([whole(column) for column in table.columns], schema=_CACHED)


def _assemble(window: Window, top_k: int) -> pa.RecordBatch:
    """Scatter the KD rows of a faultless window over the completions of its sequences.

    What was rounded apart on the way to the disk makes 1 again.
    """
    completions, ids = window.completions, window.topk_ids
    tokens = len(completions.values)
    at_N = completions.starts[window.sequence_N] + window.column("stream_pos")
    kd_valid_C = np.zeros(tokens, np.uint8)
    kd_valid_C[at_N] = 1
    owner_M = ids.owners
    rank_M = np.arange(len(owner_M)) - ids.starts[owner_M]
    kept_M = rank_M < top_k
    places = at_N[owner_M[kept_M]], rank_M[kept_M]
    topk_ids_CK = np.zeros((tokens, top_k), np.int32)
    topk_ids_CK[places] = ids.values[kept_M]
    topk_logprobs_CK = np.full((tokens, top_k), -np.inf, np.float32)
    logprobs_M = window.topk_logprobs.values.astype(np.float64)
    other_N = window.column("other_logprob").astype(np.float64)
    logprobs_M, other_N = rebalance_lists(logprobs_M, owner_M, other_N)
    topk_logprobs_CK[places] = logprobs_M[kept_M]
    give_to_other(other_N, owner_M[~kept_M], logprobs_M[~kept_M])
    other_C = np.zeros(tokens, np.float32)
    other_C[at_N] = np.minimum(other_N, 0.0)

    def lists(starts: Int64, values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
        return pa.LargeListArray.from_arrays(pa.array(starts), pa.array(values, kind))

    starts, wide = completions.starts, completions.starts * top_k
    text = {name: whole(window.streams.column(name)).cast(pa.large_string()) for name in _TEXTS}
    heldout = np.array([is_heldout(value) for value in text["sequence_hash"].to_pylist()], np.uint8)
    return pa.RecordBatch.from_arrays(
        [
            whole(window.streams.column("prompt_idx")),
            *text.values(),
            pa.array(heldout, pa.uint8()),
            lists(window.prompts.starts, window.prompts.values, pa.int32()),
            lists(starts, completions.values, pa.int32()),
            lists(starts, window.struct.values.astype(np.uint8), pa.uint8()),
            lists(starts, kd_valid_C, pa.uint8()),
            lists(starts, other_C, pa.float32()),
            lists(wide, topk_ids_CK.ravel(), pa.int32()),
            lists(wide, topk_logprobs_CK.ravel(), pa.float32()),
        ],
        schema=_CACHED,
    )


_TEXTS = ("prompt_text", "completion_text", "finish_reason", "sequence_hash")


@dataclass(frozen=True)
class _List:
    values: npt.NDArray[Any]
    starts: Int64

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        return self.values[self.starts[row] : self.starts[row + 1]]


class _MappedBatch:
    """Views of one record batch of the cached file."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        if batch.schema != _CACHED:
            raise pa.ArrowInvalid("another layout")
        self.count: int = batch.num_rows
        self._texts = [batch.column(name) for name in _TEXTS]
        self.hashes = batch.column("sequence_hash")
        self._prompt_idx_S = batch.column("prompt_idx").to_numpy()
        self.heldout_S = batch.column("heldout").to_numpy()
        lists = {name: _list(batch.column(name)) for name in _CACHED.names[6:]}
        self.prompt_ids, self.completion_ids = lists["prompt_ids"], lists["completion_ids"]
        self._struct, self._kd_valid = lists["is_struct"], lists["kd_valid"]
        self._other, self._ids, self._logprobs = (
            lists["other_logprob"],
            lists["topk_ids"],
            lists["topk_logprobs"],
        )

    def sequence(self, row: int, top_k: int, *, heldout: bool) -> TraceSequence:
        prompt_text, completion_text, finish_reason, sequence_hash = (text[row].as_py() for text in self._texts)
        completion_ids_C = self.completion_ids[row]
        shape = len(completion_ids_C), top_k
        return TraceSequence(
            prompt_idx=int(self._prompt_idx_S[row]),
            prompt_text=prompt_text,
            completion_text=completion_text,
            prompt_ids_P=self.prompt_ids[row],
            completion_ids_C=completion_ids_C,
            topk_ids_CK=self._ids[row].reshape(shape),
            topk_logprobs_CK=self._logprobs[row].reshape(shape),
            other_logprob_C=self._other[row],
            kd_valid_C=self._kd_valid[row].view(bool),
            is_struct_C=self._struct[row].view(bool),
            heldout=heldout,
            finish_reason=finish_reason,
            sequence_hash=sequence_hash,
        )


def _list(array: pa.LargeListArray) -> _List:
    return _List(array.values.to_numpy(), array.offsets.to_numpy())
