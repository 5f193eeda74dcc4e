"""Trace shards laid out as one uncompressed Arrow file in the cache, which is mapped into memory.

A trace set larger than memory then costs only what is being read. The file is named after the shards' content, and
each row of the shards is checked once, when it is made.
Shapes: C completion tokens, K candidates (padded to the set's top-k), M candidates of a window's N rows.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bitnet_core import files
from bitnet_core.errors import BitnetError, explained
from bitnet_core.files import half_written
from bitnet_core.files.scratch import scratch_folder
from bitnet_core.files.user_folders import NoHome, cache_folder
from bitnet_core.text import is_utf8
from bitnet_core.tokenizer.arrays import Array, Bool, Float64, Int64
from bitnet_core.tokenizer.mass import give_to_other, rebalance_lists
from bitnet_core.traces.rules import require_faultless
from bitnet_core.traces.shards import Ragged, Shard, Window, filtered_S, one_array
from bitnet_core.traces.split import is_heldout

OnShard = Callable[[int, int], None]

_LAYOUT = 2  # a change of the format changes the files' names
_BATCH_TOKENS = 1 << 16
_KEPT_DAYS = 30
_TEXTS = ("prompt_text", "completion_text", "finish_reason", "sequence_hash")
_LISTS = {
    "prompt_ids": pa.int32(),
    "completion_ids": pa.int32(),
    "is_struct": pa.uint8(),
    "kd_valid": pa.uint8(),
    "other_logprob": pa.float32(),
    "topk_ids": pa.int32(),
    "topk_logprobs": pa.float32(),
}
_CACHED = pa.schema(
    [
        ("prompt_idx", pa.int64()),
        *((name, pa.large_string()) for name in _TEXTS),
        ("heldout", pa.uint8()),
        *((name, pa.large_list(kind)) for name, kind in _LISTS.items()),
    ]
)
"""One row per sequence. Lists are as long as the completion, those of candidates K times as long. Flags are bytes,
because Arrow's bits can't be viewed without a copy."""


class MappedBatch:
    """Read-only views of one record batch of the cached file."""

    def __init__(self, batch: pa.RecordBatch, top_k: int, vocab_size: int) -> None:
        """ArrowInvalid for a batch that was made otherwise or damaged since: its sizes and ids can't be used."""
        if batch.schema != _CACHED:
            raise pa.ArrowInvalid("another layout")
        batch.validate(full=True)
        self.count: int = batch.num_rows
        self._texts = [batch.column(name) for name in _TEXTS]
        self.hashes = batch.column("sequence_hash")
        self.prompt_idx_S = batch.column("prompt_idx").to_numpy()
        self.heldout_S = batch.column("heldout").to_numpy()
        self.lists = {
            name: Ragged((column := batch.column(name)).values.to_numpy(), column.offsets.to_numpy())
            for name in _LISTS
        }
        self._require_sound(top_k, vocab_size)

    def _require_sound(self, top_k: int, vocab_size: int) -> None:
        lengths_S = self.lists["completion_ids"].lengths
        for name, one in self.lists.items():
            wide = top_k if name.startswith("topk") else 1
            if name != "prompt_ids" and not np.array_equal(one.lengths, lengths_S * wide):
                raise pa.ArrowInvalid(f"{name} has another length than its completion")
            ids = one.values if name.endswith("ids") else np.zeros(0)
            if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
                raise pa.ArrowInvalid(f"{name} has an id outside the vocabulary")

    def texts(self, row: int) -> list[str]:
        """Prompt, completion, finish reason and sequence hash."""
        return [column[row].as_py() for column in self._texts]

    def finish_reasons_S(self) -> Array:
        """How each completion ended."""
        found: Array = self._texts[2].to_numpy(zero_copy_only=False)
        return found

    def matching_S(self, text: str) -> Bool:
        """Which prompts or completions have this text in them, whatever the case of its letters."""
        if not is_utf8(text):  # no trace has it, and Arrow can't be asked
            return np.zeros(self.count, bool)
        found = (pc.match_substring(column, text, ignore_case=True) for column in self._texts[:2])
        matching_S: Bool = pc.or_(*found).to_numpy(zero_copy_only=False).astype(bool)
        return matching_S

    def _other_N(self) -> Float64:
        """The probability outside the candidates; 0 where there are none."""
        known_N = self.lists["kd_valid"].values.astype(bool)
        return np.where(known_N, np.exp(self.lists["other_logprob"].values, dtype=np.float64), 0.0)

    def most_other(self, limit: int) -> list[tuple[float, int, int]]:
        """The tokens with the most mass outside their candidates: it, the row, the token's place."""
        mass_N, starts = self._other_N(), self.lists["other_logprob"].starts
        best = np.argsort(-mass_N, kind="stable")[:limit]
        rows = np.searchsorted(starts, best, side="right") - 1
        return list(zip(mass_N[best].tolist(), rows.tolist(), (best - starts[rows]).tolist(), strict=True))

    def other_mass_S(self) -> Float64:
        """The mean probability outside the candidates, over tokens that have any; NaN where none has."""
        known_N, mass_N = self.lists["kd_valid"].values.astype(bool), self._other_N()
        other = self.lists["other_logprob"]
        sums_S, counts_S = (_sums(values, other.starts) for values in (mass_N, known_N))
        means_S = np.full(self.count, np.nan)
        np.divide(sums_S, counts_S, out=means_S, where=counts_S > 0)
        return means_S


def _sums(values_N: Array, starts: Int64) -> Float64:
    """The sum of each row's values."""
    total = np.concatenate([[0.0], np.cumsum(values_N, dtype=np.float64)])
    return np.diff(total[starts])


def mapped_batches(
    shards: Sequence[Shard], top_k: int, on_shard: OnShard, *, once: bool = False
) -> tuple[list[MappedBatch], str]:
    """The cached file of these shards, made first if it is missing or unreadable; and the hash of their content.

    `on_shard(done, total)` is called before each shard is laid out, and may raise to stop. BitnetError for a shard
    that breaks a rule, and for a cache that can't be written: who reads the traces only `once` does without one.
    """
    content_hash = _content_hash(shards, top_k)
    name, vocab_size = f"{content_hash}.arrow", shards[0].metadata.vocab_size
    try:
        folder = cache_folder() / "traces"
        with contextlib.suppress(OSError, pa.ArrowException):
            found = _map(folder / name, top_k, vocab_size)
            with contextlib.suppress(OSError):  # a read-only cache
                (folder / name).touch()
            return found, content_hash
        with _writing(folder):
            _remove_old(folder)
            return _laid_out(folder / name, shards, top_k, on_shard), content_hash
    except (NoHome, _NoCache):
        if not once:
            raise
    with contextlib.ExitStack() as stack:
        try:
            scratch = stack.enter_context(scratch_folder("traces"))
        except OSError as error:
            why = explained(error, "name a folder that can be written in BITNET_CACHE or TMPDIR")
            raise BitnetError(f"The traces can't be written to a temporary folder {why}.") from error
        with _writing(scratch):
            # Mapped, the file outlives its name.
            return _laid_out(scratch / name, shards, top_k, on_shard), content_hash


class _NoCache(BitnetError):
    """The laid-out file can't be written."""


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _NoCache(
            f"The traces can't be written to {folder} {explained(error, 'check its permissions')}, or name another "
            "folder in BITNET_CACHE."
        ) from error


def _laid_out(path: Path, shards: Sequence[Shard], top_k: int, on_shard: OnShard) -> list[MappedBatch]:
    with files.atomic_path(path) as temp, pa.ipc.new_file(str(temp), _CACHED) as out:
        for batch in _lay_out(shards, top_k, on_shard):
            out.write_batch(batch)
    pa.default_memory_pool().release_unused()
    return _map(path, top_k, shards[0].metadata.vocab_size)


def _content_hash(shards: Sequence[Shard], top_k: int) -> str:
    digest = hashlib.sha256(f"{_LAYOUT} {top_k}".encode())
    for shard in shards:
        for path in (shard.path, shard.stream_path):
            digest.update(files.sha256_file(path).encode())
        if shard.cut_by_filter:
            digest.update(b"without what a filter cut")
    return digest.hexdigest()


def _map(path: Path, top_k: int, vocab_size: int) -> list[MappedBatch]:
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return [MappedBatch(reader.get_batch(number), top_k, vocab_size) for number in range(reader.num_record_batches)]


def _remove_old(folder: Path) -> None:
    """Remove files that were not read for a month, and what a killed writer left."""
    if not folder.is_dir():
        return
    half_written.remove_leftovers(folder)
    for path in folder.glob("*.arrow"):
        if path.stat().st_mtime < time.time() - _KEPT_DAYS * 86_400:
            path.unlink(missing_ok=True)


def _lay_out(shards: Sequence[Shard], top_k: int, on_shard: OnShard) -> Iterator[pa.RecordBatch]:
    """The sequences of all shards but those that a content filter cut, in batches of about 100 kB per candidate."""
    waiting: list[pa.RecordBatch] = []
    tokens = 0
    for number, shard in enumerate(shards):
        on_shard(number, len(shards))
        for window in shard.windows():
            require_faultless(shard, window)
            cut_S = filtered_S(window.streams)
            laid_out = _assemble(window, top_k)
            waiting.append(laid_out.filter(pa.array(~cut_S)) if cut_S.any() else laid_out)
            tokens += len(window.lists["completion_ids"].values)
            if tokens >= _BATCH_TOKENS:
                yield _one_batch(waiting)
                waiting, tokens = [], 0
    if waiting:
        yield _one_batch(waiting)


def _one_batch(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    table = pa.Table.from_batches(batches, _CACHED)
    return pa.RecordBatch.from_arrays([one_array(column) for column in table.columns], schema=_CACHED)


def _assemble(window: Window, top_k: int) -> pa.RecordBatch:
    """Scatter the KD rows of a faultless window over the completions of its sequences."""
    completions, ids = window.lists["completion_ids"], window.lists["topk_ids"]
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
    logprobs_M, other_N = rebalance_lists(
        window.lists["topk_logprobs"].values.astype(np.float64),
        owner_M,
        window.column("other_logprob").astype(np.float64),
    )
    give_to_other(other_N, owner_M[~kept_M], logprobs_M[~kept_M])
    topk_logprobs_CK = np.full((tokens, top_k), -np.inf, np.float32)
    topk_logprobs_CK[places] = logprobs_M[kept_M]
    other_C = np.zeros(tokens, np.float32)
    other_C[at_N] = np.minimum(other_N, 0.0)

    starts, wide = completions.starts, completions.starts * top_k
    lists: dict[str, tuple[Int64, Array]] = {
        "prompt_ids": (window.lists["prompt_ids"].starts, window.lists["prompt_ids"].values),
        "completion_ids": (starts, completions.values),
        "is_struct": (starts, window.lists["is_struct"].values.astype(np.uint8)),
        "kd_valid": (starts, kd_valid_C),
        "other_logprob": (starts, other_C),
        "topk_ids": (wide, topk_ids_CK.ravel()),
        "topk_logprobs": (wide, topk_logprobs_CK.ravel()),
    }
    texts = {name: one_array(window.streams.column(name)).cast(pa.large_string()) for name in _TEXTS}
    heldout = np.array([is_heldout(value) for value in texts["sequence_hash"].to_pylist()], np.uint8)
    return pa.RecordBatch.from_arrays(
        [
            one_array(window.streams.column("prompt_idx")),
            *texts.values(),
            pa.array(heldout, pa.uint8()),
            *(
                pa.LargeListArray.from_arrays(pa.array(begins), pa.array(values, _LISTS[name]))
                for name, (begins, values) in lists.items()
            ),
        ],
        schema=_CACHED,
    )
