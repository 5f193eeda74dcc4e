"""Read student-space Parquet shards, a window of sequences at a time.

A window takes a few megabytes at most, whatever the size of the file. `rules` checks it.
Shapes: S sequences of a window, N of its KD rows.
"""

import contextlib
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bitnet_core import files
from bitnet_core.errors import NEWER, BitnetError, raise_if_not_the_file
from bitnet_core.prompts.parquet import NotRead, open_parquet
from bitnet_core.tokenizer.arrays import Array, Bool, Int64
from bitnet_core.tokenizer.finish import cut_by_filter
from bitnet_core.traces import places, schema

AGAIN = "move it away and run `bitnet collect` again (the answers that were paid for are kept)"
_OTHER_FOLDER = "name another folder in KD_DATA_PATH, or move it away and run `bitnet collect`"
_OWN_NAME = re.compile(r"kd_shard_\d{3,}\.parquet", re.ASCII)
UNKNOWN, EARLIER = -1, -2
_WINDOW_SEQUENCES = 1024
_WINDOW_TOKENS = 1 << 16
_READ_ROWS = 1 << 14


@dataclass(frozen=True)
class Ragged:
    """A list column of N rows: row n is `values[starts[n]:starts[n + 1]]`."""

    values: Array
    starts: Int64

    @property
    def lengths(self) -> Int64:
        return np.diff(self.starts)

    @property
    def owners(self) -> Int64:
        """The row of each value."""
        return np.repeat(np.arange(len(self.starts) - 1), self.lengths)

    def __getitem__(self, row: int) -> Array:
        return self.values[self.starts[row] : self.starts[row + 1]]


@dataclass(frozen=True)
class Fault:
    """Rows of a file that break one rule; at least one."""

    path: Path
    rows: Int64
    reason: str

    def error(self) -> BitnetError:
        return BitnetError(f"{self.path}, row {self.rows[0]}: {self.reason}; {AGAIN}.")


@dataclass(frozen=True)
class Window:
    """Some sequences of a shard with the KD rows that belong to them."""

    streams: pa.Table
    first_sequence: int
    rows: pa.Table
    first_row: int
    sequence_N: Int64
    """Each row's sequence, by its place in the window; UNKNOWN: not in this file; EARLIER: in a window before."""

    @cached_property
    def lists(self) -> dict[str, Ragged]:
        """The list columns of both tables."""
        return {
            name: ragged(table.column(name))[0]
            for table in (self.streams, self.rows)
            for name in table.column_names
            if pa.types.is_list(table.schema.field(name).type)
        }

    def column(self, name: str) -> Array:
        """A scalar column of the KD rows."""
        values: Array = without_nulls(self.rows.column(name)).to_numpy()
        return values


class Shard:
    """A KD shard and its stream file; BitnetError if one is missing, unreadable or not of this program."""

    def __init__(self, path: Path) -> None:
        self.path, self.stream_path = path, schema.stream_of(path)
        written = require_columns(path, schema.KD)
        self.metadata = _require_metadata(path, written.metadata)
        _require_all_rows(path, written, self.metadata.counts.get("rows"))
        if is_renamed(path) and not self.stream_path.exists():
            raise BitnetError(
                f"{path} may be a copy of another shard: it has no {self.stream_path.name}; move it away."
            )
        only = pa.schema([schema.STREAM.field("finish_reason")])
        with _opened(self.stream_path, only.names) as streams:
            written = _with_columns(self.stream_path, streams, schema.STREAM)
            _require_all_rows(self.stream_path, written, self.metadata.counts.get("sequences"))
            filtered = (filtered_S(table).sum() for table in _batches(streams, only, 1 << 20))
            self.cut_by_filter = int(sum(filtered))
            """How many of its answers a content filter cut; they are left out when it is read."""

    def windows(self) -> Iterator[Window]:
        """All sequences and all rows of the shard, in order."""
        order = _Order.of(self.stream_path)
        rows = _Rows(self.path, order)
        first = 0
        for streams in _tables(self.stream_path, schema.STREAM, _WINDOW_SEQUENCES):
            ends = ragged(streams.column("completion_ids"))[0].starts[1:]
            begin = 0
            while begin < len(streams):
                room = (ends[begin - 1] if begin else 0) + _WINDOW_TOKENS
                end = max(begin + 1, int(np.searchsorted(ends, room, side="right")))
                yield Window(streams.slice(begin, end - begin), first + begin, *rows.take(first, begin, end))
                begin = end
            first += len(streams)
        table, first_row, sequence_N = rows.rest(first)
        if len(table):
            yield Window(schema.STREAM.empty_table(), first, table, first_row, sequence_N)


def kd_shards(data_dir: Path) -> list[Path]:
    """The KD files of a trace set, in order, those with names of others last; BitnetError if there are none."""
    found = sorted(files.matching(data_dir, "kd_shard_*.parquet"), key=is_renamed)
    if not found:
        journals = (places.journal(data_dir), places.old_journal(data_dir))
        if journal := next(filter(Path.is_file, journals), None):
            raise BitnetError(
                f"No traces are written in {data_dir} yet; the answers so far are in {journal}, and "
                "`bitnet collect` continues from them."
            )
        raise BitnetError(f"There are no traces in {data_dir}; run `bitnet collect` first.")
    return found


def is_renamed(path: Path) -> bool:
    """Whether a shard has another name than this program gives."""
    return _OWN_NAME.fullmatch(path.name) is None


# -- files -------------------------------------------------------------------------------------------


def require_columns(path: Path, wanted: pa.Schema) -> pq.FileMetaData:
    """Check a Parquet file's columns, and return what it says about itself."""
    with _opened(path, ()) as file:
        return _with_columns(path, file, wanted)


@contextlib.contextmanager
def _opened(path: Path, read: Container[str] | None) -> Iterator[pq.ParquetFile]:
    """The file, opened to read these columns (None: all); BitnetError if it is missing or can't be read."""
    try:
        with open_parquet(path, read) as file:
            yield file
    except FileNotFoundError as error:
        raise BitnetError(f"{path} is missing; run `bitnet collect` again to write it.") from error
    except NotRead as error:
        raise BitnetError(f"{path}: {error}; {error.advice}.") from error
    except (pa.ArrowException, OSError) as error:
        raise_if_not_the_file(error, path)
        raise torn(path) from error


def _with_columns(path: Path, file: pq.ParquetFile, wanted: pa.Schema) -> pq.FileMetaData:
    found, written = file.schema_arrow, file.metadata
    if schema.METADATA_KEY not in (written.metadata or {}):
        raise BitnetError(f"{path} was not written by this program; {_OTHER_FOLDER}.")
    for field in wanted:
        if (times := found.names.count(field.name)) != 1:
            lacks = f"has {times} columns" if times else "has no column"
            raise BitnetError(f"{path} {lacks} {field.name}; {AGAIN}.")
        got = found.field(field.name).type
        if got != field.type:
            raise BitnetError(f"Column {field.name} of {path} is {got} instead of {field.type}; {AGAIN}.")
    return written


def _require_all_rows(path: Path, written: pq.FileMetaData, counted: float | None) -> None:
    """BitnetError unless the file has as many rows as were counted when the shard was written (None: unknown)."""
    if counted is not None and written.num_rows != counted:
        raise BitnetError(
            f"{path} was changed after it was written: it has {written.num_rows:,} of {counted:,.0f} rows; {AGAIN}."
        )


def require_whole(path: Path) -> None:
    """BitnetError for a Parquet file that can't be read to its end."""
    with _opened(path, None) as file:
        for batch in file.iter_batches(1 << 14):
            batch.validate(full=True)


def torn(path: Path) -> BitnetError:
    return BitnetError(f"{path} is damaged or not Parquet; {AGAIN}.")


def _require_metadata(path: Path, key_values: dict[bytes, bytes] | None) -> schema.TraceMetadata:
    if schema.is_of_newer_version(key_values):
        raise BitnetError(f"{path} was {NEWER}.")
    metadata = schema.read_metadata(key_values)
    if metadata is None:
        raise BitnetError(f"{path} was not written by this program (its metadata is missing or damaged); {AGAIN}.")
    if metadata.schema_version != schema.SCHEMA_VERSION:
        raise BitnetError(
            f"{path} has trace format {metadata.schema_version} and this program reads {schema.SCHEMA_VERSION}; "
            f"{AGAIN}."
        )
    return metadata


def _tables(path: Path, wanted: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """The wanted columns, at most `rows` rows at a time."""
    with _opened(path, wanted.names) as file:
        yield from _batches(file, wanted, rows)


def _batches(file: pq.ParquetFile, wanted: pa.Schema, rows: int) -> Iterator[pa.Table]:
    for batch in file.iter_batches(rows, columns=wanted.names):
        batch.validate(full=True)  # Parquet does not say whether text is UTF-8
        yield pa.Table.from_batches([batch]).select(wanted.names)


@dataclass(frozen=True)
class _Order:
    """The place of each prompt_idx in the stream file."""

    prompt_idx_S: Int64
    """Ascending."""
    place_S: Int64

    @classmethod
    def of(cls, path: Path) -> "_Order":
        only = pa.schema([schema.STREAM.field("prompt_idx")])
        parts = [without_nulls(table.column(0)).to_numpy() for table in _tables(path, only, 1 << 20)]
        prompt_idx_S = np.concatenate([np.zeros(0, np.int64), *parts])
        place_S = np.argsort(prompt_idx_S, kind="stable")
        ordered_S = prompt_idx_S[place_S]
        twice = np.flatnonzero(np.diff(ordered_S) == 0)
        if len(twice):
            raise Fault(path, place_S[twice + 1], f"prompt_idx {ordered_S[twice[0]]} appears in two places").error()
        return cls(ordered_S, place_S)

    def places(self, prompt_idx_N: Int64) -> Int64:
        """-1 if the stream has no such sequence."""
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
        """The furthest sequence up to each waiting row: a row out of order stays with the rows before it."""
        self._first_row = 0

    def take(self, base: int, begin: int, end: int) -> tuple[pa.Table, int, Int64]:
        """The waiting rows before sequence `base + end`, the first one's number, and each one's sequence.

        Sequences count from `base + begin`.
        """
        while not len(self._reached_N) or self._reached_N[-1] < base + end:
            if not self._read():
                break
        return self._cut(int(np.searchsorted(self._reached_N, base + end)), base + begin)

    def rest(self, base: int) -> tuple[pa.Table, int, Int64]:
        """As `take`, all rows that are left."""
        while self._read():
            pass
        return self._cut(len(self._places_N), base)

    def _read(self) -> bool:
        table = next(self._tables, None)
        if table is None:
            return False
        places_N = self._order.places(without_nulls(table.column("prompt_idx")).to_numpy())
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
        relative_N = np.where(places_N < base, EARLIER, places_N - base)
        return table.slice(0, count), first_row, np.where(places_N < 0, UNKNOWN, relative_N)


def filtered_S(streams: pa.Table) -> Bool:
    """Which sequences are answers that a content filter cut."""
    coded = one_array(streams.column("finish_reason")).dictionary_encode()
    cut = np.array([*cut_by_filter(coded.dictionary.to_pylist()), False])
    cut_S: Bool = cut[coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    return cut_S


# -- columns -----------------------------------------------------------------------------------------


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column's chunks as a single array."""
    array = column.combine_chunks()
    return array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)


def without_nulls(column: pa.ChunkedArray) -> pa.Array:
    """Nulls become 0: `rules` reports their rows, and the other rules still need a number there."""
    array = one_array(column)
    return array.fill_null(0) if array.null_count else array


def ragged(column: pa.ChunkedArray) -> tuple[Ragged, Int64]:
    """A list column, and the places of nulls among its values (which become 0). A null list becomes an empty one."""
    array = one_array(column)
    flat = array.flatten()
    lengths = without_nulls(pa.chunked_array([pc.list_value_length(array)])).to_numpy()
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    nulls = np.flatnonzero(np.asarray(flat.is_null())) if flat.null_count else np.zeros(0, np.int64)
    if len(nulls):
        flat = flat.fill_null(False if pa.types.is_boolean(flat.type) else 0)
    return Ragged(flat.to_numpy(zero_copy_only=False), starts), nulls
