"""Read student-space Parquet shards a window of sequences at a time, and name every row that breaks a rule.

A window holds at most a few megabytes whatever the size of the file, and no Python object per row of it.
Shapes: S sequences of a window, N rows of the KD file that belong to them, M candidates of these rows, a
trailing 1 counts one more (offsets).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bitnet_core.errors import BitnetError
from bitnet_core.tokenizer.mass import SUM_TOLERANCE, total_mass
from bitnet_core.traces import schema

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

AGAIN = "move it away and run `bitnet collect` again (what the teacher already said is kept)"
_RISE = 1e-6
_UNKNOWN, _EARLIER = -1, -2
_WINDOW_SEQUENCES = 1024
_WINDOW_TOKENS = 1 << 16
_READ_ROWS = 1 << 14


@dataclass(frozen=True)
class Fault:
    """Rows of a file that break one rule; at least one."""

    path: Path
    rows: Int64
    reason: str

    def error(self) -> BitnetError:
        return BitnetError(f"{self.path}, row {self.rows[0]}: {self.reason}; {AGAIN}.")


@dataclass(frozen=True)
class Ragged:
    """A list column: row i is `values[starts[i]:starts[i + 1]]`."""

    values: npt.NDArray[Any]
    starts: Int64

    @property
    def lengths(self) -> Int64:
        return np.diff(self.starts)

    @property
    def owners(self) -> Int64:
        """The row of each value."""
        return np.repeat(np.arange(len(self.starts) - 1), self.lengths)


@dataclass(frozen=True)
class Window:
    """Some sequences of a shard with the KD rows that belong to them."""

    streams: pa.Table
    first_sequence: int
    prompts: Ragged
    completions: Ragged
    struct: Ragged
    rows: pa.Table
    first_row: int
    sequence_N: Int64
    """Which of the window's sequences a row belongs to; _UNKNOWN: none of the file, _EARLIER: of a past window."""
    topk_ids: Ragged
    topk_logprobs: Ragged

    def column(self, name: str) -> npt.NDArray[Any]:
        """A scalar column of the KD rows."""
        values: npt.NDArray[Any] = _filled(self.rows.column(name)).to_numpy()
        return values


class Shard:
    """A KD shard and its stream file, opened; BitnetError where a file is absent, unreadable or not ours."""

    def __init__(self, path: Path) -> None:
        self.path, self.stream_path = path, schema.stream_of(path)
        self.metadata = _checked_metadata(path, _key_values(path, schema.KD))
        _key_values(self.stream_path, schema.STREAM)

    def windows(self) -> Iterator[Window]:
        """All sequences and all rows of the shard, in order."""
        order = _Order.of(self.stream_path)
        rows = _Rows(self.path, order)
        first = 0
        for streams in _tables(self.stream_path, schema.STREAM, _WINDOW_SEQUENCES):
            ends = _ragged(streams.column("completion_ids"))[0].starts[1:]
            begin = 0
            while begin < len(streams):
                room = (ends[begin - 1] if begin else 0) + _WINDOW_TOKENS
                end = max(begin + 1, int(np.searchsorted(ends, room, side="right")))
                yield _window(streams.slice(begin, end - begin), first + begin, *rows.take(first, begin, end))
                begin = end
            first += len(streams)
        table, first_row, sequence_N = rows.rest(first)
        if len(table):
            empty = schema.STREAM.empty_table()
            yield _window(empty, first, table, first_row, sequence_N)

    def faults(self, window: Window) -> Iterator[Fault]:
        """Every rule that the window breaks. Only a window without any may be assembled."""
        yield from _null_faults(self.path, window.rows, window.first_row)
        yield from _null_faults(self.stream_path, window.streams, window.first_sequence)
        for bad_N, reason in _row_rules(window, self.metadata, self.stream_path.name):
            if bad_N.any():
                yield Fault(self.path, np.flatnonzero(bad_N) + window.first_row, reason)
        for bad_S, reason in _sequence_rules(window, self.metadata, self.path.name):
            if bad_S.any():
                yield Fault(self.stream_path, np.flatnonzero(bad_S) + window.first_sequence, reason)


def shards_in(data_dir: Path) -> list[Path]:
    """The KD shards of a trace set, in order; BitnetError if there is none."""
    found = sorted(data_dir.glob("kd_shard_*.parquet"))
    if not found:
        if (data_dir / schema.JOURNAL_FILE).is_file():
            raise BitnetError(
                f"No traces are written in {data_dir} yet; what was answered is kept in {schema.JOURNAL_FILE}, and "
                "`bitnet collect` goes on with it."
            )
        raise BitnetError(f"There are no traces in {data_dir}; run `bitnet collect` first.")
    return found


def require_one_configuration(shard: Shard, first: Shard) -> None:
    ours, its = shard.metadata, first.metadata
    if (ours.config_hash, ours.tokenizer_hash) != (its.config_hash, its.tokenizer_hash):
        raise BitnetError(f"{shard.path} was made with other settings than {first.path.name}; {AGAIN}.")


# -- rules -------------------------------------------------------------------------------------------


def _null_faults(path: Path, table: pa.Table, first: int) -> Iterator[Fault]:
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count:
            rows = np.flatnonzero(column.is_null().to_numpy()) + first
            yield Fault(path, rows, f"{name} is null")
        if pa.types.is_list(column.type):
            ragged, holes = _ragged(column)
            if len(holes):
                yield Fault(path, np.unique(ragged.owners[holes]) + first, f"a list in {name} holds null")


def _row_rules(window: Window, metadata: schema.TraceMetadata, stream: str) -> Iterator[tuple[Bool, str]]:
    ids, logprobs = window.topk_ids, window.topk_logprobs
    unknown_N = window.sequence_N == _UNKNOWN
    if unknown_N.any():
        yield unknown_N, f"prompt_idx {window.column('prompt_idx')[unknown_N.argmax()]} is not in {stream}"
    back_N = window.sequence_N == _EARLIER
    known = np.flatnonzero(window.sequence_N >= 0)
    back_N[known[1:]] |= np.diff(window.sequence_N[known]) < 0
    yield back_N, f"prompt_idx goes back in the order of {stream}"
    uneven_N = ids.lengths != logprobs.lengths
    yield uneven_N, "topk_ids and topk_logprobs differ in length"
    yield ids.lengths > metadata.top_k + 1, f"more than {metadata.top_k} candidates"
    outside_M = (ids.values < 0) | (ids.values >= metadata.vocab_size)
    yield _rows_with(outside_M, ids), "a candidate is outside the vocabulary"
    strange_M = ~np.isfinite(logprobs.values) | (logprobs.values > 0)
    strange_N = _rows_with(strange_M, logprobs)
    yield strange_N, "a logprob is not a finite number of at most 0"
    rises_M = np.zeros(len(logprobs.values), bool)
    with np.errstate(invalid="ignore"):  # infinities are named above
        rises_M[1:] = (np.diff(logprobs.values) > _RISE) & (np.diff(logprobs.owners) == 0)
    yield _rows_with(rises_M, logprobs), "the candidates are not most likely first"
    other_N = window.column("other_logprob")
    bad_other_N = ~np.isfinite(other_N) | (other_N > 0)
    yield bad_other_N, "other_logprob is not a finite number of at most 0"
    yield _repeats(ids), "a candidate appears twice"
    sound_M = np.where(strange_M, 0.0, logprobs.values.astype(np.float64))
    mass_N = total_mass(sound_M, logprobs.owners, np.where(bad_other_N, 0.0, other_N.astype(np.float64)))
    yield ~(strange_N | bad_other_N) & (np.abs(mass_N - 1) > SUM_TOLERANCE), "the probabilities don't sum to 1"
    for name in ("tokenizer_hash", "template_hash"):
        same = pc.equal(window.rows.column(name), getattr(metadata, name))
        yield ~np.asarray(same.fill_null(False)), f"has another {name}"


def _sequence_rules(window: Window, metadata: schema.TraceMetadata, shard: str) -> Iterator[tuple[Bool, str]]:
    prompts, completions = window.prompts, window.completions
    sequences = len(window.streams)
    yield (prompts.lengths == 0) | (completions.lengths == 0), "the prompt or the completion is empty"
    yield completions.lengths != window.struct.lengths, "is_struct and completion_ids differ in length"
    outside_S = np.zeros(sequences, bool)
    for ids in (prompts, completions):
        outside_S |= _rows_with((ids.values < 0) | (ids.values >= metadata.vocab_size), ids)
    yield outside_S, f"a token is outside the vocabulary of {metadata.vocab_size}"

    known = np.flatnonzero(window.sequence_N >= 0)
    owner_N = window.sequence_N[known]
    position_N = window.column("stream_pos")[known].astype(np.int64)
    beyond_N = (position_N < 0) | (position_N >= completions.lengths[owner_N])
    yield _owners_with(beyond_N, owner_N, sequences), f"stream_pos of {shard} points outside the completion"
    still_N = np.zeros(len(known), bool)
    still_N[1:] = (np.diff(position_N) <= 0) & (np.diff(owner_N) == 0)
    yield _owners_with(still_N, owner_N, sequences), f"stream_pos of {shard} does not grow"
    inside_N = np.flatnonzero(~beyond_N)
    said_N = completions.values[completions.starts[owner_N[inside_N]] + position_N[inside_N]]
    other_N = said_N != window.column("teacher_sample_id")[known][inside_N]
    yield (
        _owners_with(other_N, owner_N[inside_N], sequences),
        f"teacher_sample_id of {shard} is not the stream's token",
    )


def _rows_with(bad_M: Bool, ragged: Ragged) -> Bool:
    return _owners_with(bad_M, ragged.owners, len(ragged.starts) - 1)


def _owners_with(bad_M: Bool, owners_M: Int64, count: int) -> Bool:
    return np.bincount(owners_M[bad_M], minlength=count) > 0


def _repeats(ids: Ragged) -> Bool:
    """Rows in which a value appears twice."""
    # Row and value in one integer: sorting those is several times as fast as sorting by two keys.
    keys_M = np.sort((ids.owners << 32) + ids.values)
    twice = keys_M[1:][np.diff(keys_M) == 0]
    found_N = np.zeros(len(ids.starts) - 1, bool)
    found_N[(twice + (1 << 31)) >> 32] = True
    return found_N


# -- files -------------------------------------------------------------------------------------------


def _key_values(path: Path, wanted: pa.Schema) -> dict[bytes, bytes] | None:
    """A Parquet file's own key-values, once its columns are found to be those wanted."""
    try:
        with pq.ParquetFile(path) as file:
            found, key_values = file.schema_arrow, file.metadata.metadata
    except FileNotFoundError as error:
        raise BitnetError(f"{path} is missing; run `bitnet collect` again to write it.") from error
    except (pa.ArrowException, OSError) as error:
        raise _torn(path) from error
    for field in wanted:
        if field.name not in found.names:
            raise BitnetError(f"{path} has no column {field.name}; {AGAIN}.")
        got = found.field(field.name).type
        if got != field.type:
            raise BitnetError(f"Column {field.name} of {path} is {got} instead of {field.type}; {AGAIN}.")
    return dict(key_values) if key_values else None


def _torn(path: Path) -> BitnetError:
    return BitnetError(f"{path} is truncated or not Parquet; {AGAIN}.")


def _checked_metadata(path: Path, key_values: dict[bytes, bytes] | None) -> schema.TraceMetadata:
    metadata = schema.read_metadata(key_values)
    if metadata is None:
        raise BitnetError(f"{path} was not written by this program (its metadata is missing); {AGAIN}.")
    if metadata.schema_version != schema.SCHEMA_VERSION:
        raise BitnetError(
            f"{path} has trace format {metadata.schema_version} and this program reads {schema.SCHEMA_VERSION}; "
            f"{AGAIN}."
        )
    return metadata


def _tables(path: Path, wanted: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """The wanted columns, so many rows at a time."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(rows, columns=wanted.names):
                yield pa.Table.from_batches([batch]).select(wanted.names)
    except (pa.ArrowException, OSError) as error:
        raise _torn(path) from error


@dataclass(frozen=True)
class _Order:
    """Which sequence of the stream file each prompt_idx is."""

    prompt_idx_S: Int64
    """Ascending."""
    place_S: Int64

    @classmethod
    def of(cls, path: Path) -> "_Order":
        only = pa.schema([schema.STREAM.field("prompt_idx")])
        parts = [_filled(table.column(0)).to_numpy() for table in _tables(path, only, 1 << 20)]
        prompt_idx_S = np.concatenate([np.zeros(0, np.int64), *parts])
        place_S = np.argsort(prompt_idx_S, kind="stable")
        ordered_S = prompt_idx_S[place_S]
        twice = np.flatnonzero(np.diff(ordered_S) == 0)
        if len(twice):
            raise Fault(path, place_S[twice + 1], f"prompt_idx {ordered_S[twice[0]]} appears in two places").error()
        return cls(ordered_S, place_S)

    def places(self, prompt_idx_N: Int64) -> Int64:
        """-1 where the stream has no such sequence."""
        if not len(self.prompt_idx_S):
            return np.full(len(prompt_idx_N), -1, np.int64)
        at_N = np.searchsorted(self.prompt_idx_S, prompt_idx_N).clip(max=len(self.prompt_idx_S) - 1)
        return np.where(self.prompt_idx_S[at_N] == prompt_idx_N, self.place_S[at_N], -1)


class _Rows:
    """The rows of a KD file, handed out sequence by sequence."""

    def __init__(self, path: Path, order: _Order) -> None:
        self._tables, self._order = _tables(path, schema.KD, _READ_ROWS), order
        self._waiting: list[pa.Table] = []
        self._places_N = np.zeros(0, np.int64)
        self._reached_N = np.zeros(0, np.int64)
        """The furthest sequence up to each waiting row: a stray row goes with those before it."""
        self._first_row = 0

    def take(self, base: int, begin: int, end: int) -> tuple[pa.Table, int, Int64]:
        """Rows up to those of sequence `base + end`; with the number of the first, and places from `base + begin`."""
        while not len(self._reached_N) or self._reached_N[-1] < base + end:
            if not self._read():
                break
        return self._cut(int(np.searchsorted(self._reached_N, base + end)), base + begin)

    def rest(self, base: int) -> tuple[pa.Table, int, Int64]:
        while self._read():
            pass
        return self._cut(len(self._places_N), base)

    def _read(self) -> bool:
        table = next(self._tables, None)
        if table is None:
            return False
        places_N = self._order.places(_filled(table.column("prompt_idx")).to_numpy())
        furthest = self._reached_N[-1:].max(initial=-1)
        self._waiting.append(table)
        self._places_N = np.concatenate([self._places_N, places_N])
        self._reached_N = np.concatenate([self._reached_N, np.maximum(np.maximum.accumulate(places_N), furthest)])
        return True

    def _cut(self, count: int, base: int) -> tuple[pa.Table, int, Int64]:
        table = pa.concat_tables(self._waiting) if self._waiting else schema.KD.empty_table()
        first_row, places_N = self._first_row, self._places_N[:count]
        self._waiting = [table.slice(count)]
        self._places_N, self._reached_N = self._places_N[count:], self._reached_N[count:]
        self._first_row += count
        relative_N = np.where(places_N < base, _EARLIER, places_N - base)
        return table.slice(0, count), first_row, np.where(places_N < 0, _UNKNOWN, relative_N)


def _window(streams: pa.Table, first: int, rows: pa.Table, first_row: int, sequence_N: Int64) -> Window:
    return Window(
        streams=streams,
        first_sequence=first,
        prompts=_ragged(streams.column("prompt_ids"))[0],
        completions=_ragged(streams.column("completion_ids"))[0],
        struct=_ragged(streams.column("is_struct"))[0],
        rows=rows,
        first_row=first_row,
        sequence_N=sequence_N,
        topk_ids=_ragged(rows.column("topk_ids"))[0],
        topk_logprobs=_ragged(rows.column("topk_logprobs"))[0],
    )


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    array = column.combine_chunks()
    return array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)


def _filled(column: pa.ChunkedArray) -> pa.Array:
    """Nulls as 0: a row with one is named as faulty, and must not stop the other rules."""
    array = whole(column)
    return array.fill_null(0) if array.null_count else array


def _ragged(column: pa.ChunkedArray) -> tuple[Ragged, Int64]:
    """A list column, and the places of nulls among its values (which read as 0). A null list reads as empty."""
    array = whole(column)
    flat = array.flatten()
    lengths = _filled(pa.chunked_array([pc.list_value_length(array)])).to_numpy()
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    holes = np.flatnonzero(np.asarray(flat.is_null())) if flat.null_count else np.zeros(0, np.int64)
    if len(holes):
        flat = flat.fill_null(False if pa.types.is_boolean(flat.type) else 0)
    return Ragged(flat.to_numpy(zero_copy_only=False), starts), holes
