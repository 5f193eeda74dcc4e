"""Read a student-space trace set into arrays, checking every row; the only reader that training and evaluation use.

Shapes: P prompt tokens, C completion tokens, K candidates (padded to the set's top-k). It must not know
torch: batching belongs to training.
"""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bitnet_core.errors import BitnetError
from bitnet_core.traces import schema

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

_HELDOUT_ONE_IN = 10
_MASS_TOLERANCE = 1e-3
"""Stored float32 logprobs of at most a few hundred candidates sum to 1 within this."""
_AGAIN = "move it away and run `bitnet collect` again (what the teacher already said is kept)"


@dataclass(frozen=True)
class TraceSequence:
    """One prompt and its completion; row j of the `_C` arrays supervises `completion_ids_C[j]`."""

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
class TraceSet:
    sequences: list[TraceSequence]
    vocab_size: int
    top_k: int
    tokenizer_hash: str
    template_hash: str
    teacher: str

    def split(self) -> tuple[list[TraceSequence], list[TraceSequence]]:
        """(train, held-out); the same prompts are held out whatever the teacher or the settings."""
        train = [sequence for sequence in self.sequences if not sequence.heldout]
        return train, [sequence for sequence in self.sequences if sequence.heldout]


def is_heldout(sequence_hash: str) -> bool:
    """Whether a prompt is kept from training: fixed by its hash, about 1 in 10."""
    digest = hashlib.sha256(f"heldout:{sequence_hash}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % _HELDOUT_ONE_IN == 0


def load_traces(data_dir: Path, max_topk: int) -> TraceSet:
    """All sequences of a trace set, in the order of their prompts.

    At most `max_topk` candidates are kept of each row; the mass of the others goes to Other. With two or
    more different prompts at least one is held out and at least one is not. BitnetError names the file,
    the row and the reason for anything absent, unreadable or inconsistent.
    """
    shards = sorted(data_dir.glob("kd_shard_*.parquet"))
    if not shards:
        raise BitnetError(f"There are no traces in {data_dir}; run `bitnet collect` first.")
    sequences: list[TraceSequence] = []
    first: schema.TraceMetadata | None = None
    for path in shards:
        metadata, loaded = _load_shard(path, max_topk)
        if first is None:
            first = metadata
        elif (metadata.config_hash, metadata.tokenizer_hash) != (first.config_hash, first.tokenizer_hash):
            raise BitnetError(f"{path} was made with other settings than {shards[0].name}; {_AGAIN}.")
        sequences += loaded
    if first is None or not sequences:
        raise BitnetError(f"The traces in {data_dir} hold no sequence; run `bitnet collect` again.")
    return TraceSet(
        sequences=_with_both_sides(sequences),
        vocab_size=first.vocab_size,
        top_k=min(first.top_k, max_topk),
        tokenizer_hash=first.tokenizer_hash,
        template_hash=first.template_hash,
        teacher=first.teacher,
    )


def _with_both_sides(sequences: list[TraceSequence]) -> list[TraceSequence]:
    """Guarantee a train and a held-out side: the prompt with the lowest hash changes over when one is empty."""
    hashes = sorted({sequence.sequence_hash for sequence in sequences})
    sides = {sequence_hash: is_heldout(sequence_hash) for sequence_hash in hashes}
    if len(hashes) >= 2 and len(set(sides.values())) == 1:
        sides[hashes[0]] = not sides[hashes[0]]
    elif len(hashes) == 1:
        sides[hashes[0]] = False
    return [replace(sequence, heldout=sides[sequence.sequence_hash]) for sequence in sequences]


def _load_shard(path: Path, max_topk: int) -> tuple[schema.TraceMetadata, list[TraceSequence]]:
    key_values, rows = _read(path, schema.KD)
    _, streams = _read(schema.stream_of(path), schema.STREAM)
    metadata = schema.read_metadata(key_values)
    if metadata is None:
        raise BitnetError(f"{path} was not written by this program (its metadata is missing); {_AGAIN}.")
    if metadata.schema_version != schema.SCHEMA_VERSION:
        raise BitnetError(
            f"{path} has trace format {metadata.schema_version} and this program reads "
            f"{schema.SCHEMA_VERSION}; {_AGAIN}."
        )
    columns = _Rows.of(path, rows, metadata)
    found: list[TraceSequence] = []
    for number, stream in enumerate(_dicts(streams)):
        found.append(_sequence(schema.stream_of(path), number, stream, columns, metadata, max_topk))
    columns.check_all_used()
    return metadata, found


def _read(path: Path, wanted: pa.Schema) -> tuple[dict[bytes, bytes] | None, pa.Table]:
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in wanted.names if name not in file.schema_arrow.names]
            if missing:
                raise BitnetError(f"{path} has no column {missing[0]}; {_AGAIN}.")
            key_values, table = file.metadata.metadata, file.read(columns=wanted.names)
    except FileNotFoundError as error:
        raise BitnetError(f"{path} is missing; run `bitnet collect` again to write it.") from error
    except (pa.ArrowException, OSError) as error:
        raise BitnetError(f"{path} is truncated or not Parquet; {_AGAIN}.") from error
    for field in wanted:
        place = table.schema.get_field_index(field.name)
        if table.schema.field(place).type != field.type:
            got = table.schema.field(place).type
            raise BitnetError(f"Column {field.name} of {path} is {got} instead of {field.type}; {_AGAIN}.")
        if table.column(place).null_count:
            row = table.column(place).is_null().to_numpy().argmax()
            raise BitnetError(f"{path}, row {row}: {field.name} is null; {_AGAIN}.")
    return key_values, table


def _dicts(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=64):
        yield from batch.to_pylist()


@dataclass
class _Rows:
    """A KD shard's columns as arrays, grouped by prompt_idx; rows of one sequence stand together."""

    path: Path
    prompt_idx_N: npt.NDArray[np.int64]
    stream_pos_N: Int32
    sample_id_N: Int32
    other_N: Float32
    starts_N1: npt.NDArray[np.int64]
    ids_M: Int32
    logprobs_M: Float32
    spans: dict[int, tuple[int, int]]

    @classmethod
    def of(cls, path: Path, table: pa.Table, metadata: schema.TraceMetadata) -> "_Rows":
        table = table.combine_chunks()
        prompt_idx_N = table.column("prompt_idx").to_numpy()
        starts_N1, ids_M = _ragged(path, "topk_ids", table)
        logprob_starts_N1, logprobs_M = _ragged(path, "topk_logprobs", table)
        rows = cls(
            path=path,
            prompt_idx_N=prompt_idx_N,
            stream_pos_N=table.column("stream_pos").to_numpy(),
            sample_id_N=table.column("teacher_sample_id").to_numpy(),
            other_N=table.column("other_logprob").to_numpy(),
            starts_N1=starts_N1,
            ids_M=ids_M,
            logprobs_M=logprobs_M,
            spans={},
        )
        rows._group()
        rows._check(logprob_starts_N1, metadata)
        for name, wanted in (("tokenizer_hash", metadata.tokenizer_hash), ("template_hash", metadata.template_hash)):
            values = table.column(name).to_pylist()
            rows.refuse_where(np.array([value != wanted for value in values], bool), f"has another {name}")
        return rows

    def _group(self) -> None:
        edges = np.flatnonzero(np.diff(self.prompt_idx_N)) + 1
        bounds = [0, *edges.tolist(), len(self.prompt_idx_N)]
        for first, last in itertools.pairwise(bounds):
            if first == last:
                continue
            prompt_idx = int(self.prompt_idx_N[first])
            if prompt_idx in self.spans:
                raise BitnetError(
                    f"{self.path}, row {first}: prompt_idx {prompt_idx} appears in two places; {_AGAIN}."
                )
            self.spans[prompt_idx] = (first, last)

    def _check(self, logprob_starts_N1: npt.NDArray[np.int64], metadata: schema.TraceMetadata) -> None:
        counts_N = np.diff(self.starts_N1)
        if not np.array_equal(self.starts_N1, logprob_starts_N1):
            self.refuse_where(counts_N != np.diff(logprob_starts_N1), "topk_ids and topk_logprobs differ in length")
        self.refuse_where(counts_N > metadata.top_k + 1, f"more than {metadata.top_k} candidates")
        row_M = np.repeat(np.arange(len(counts_N)), counts_N)
        bad_M = (self.ids_M < 0) | (self.ids_M >= metadata.vocab_size)
        self.refuse_where(_rows_with(bad_M, row_M, len(counts_N)), "a candidate is outside the vocabulary")
        bad_M = ~np.isfinite(self.logprobs_M) | (self.logprobs_M > 0)
        self.refuse_where(_rows_with(bad_M, row_M, len(counts_N)), "a logprob is not a finite number of at most 0")
        self.refuse_where(~np.isfinite(self.other_N) | (self.other_N > 0), "other_logprob is not a finite number")
        order_M = np.lexsort((self.ids_M, row_M))
        twice_M = np.zeros(len(row_M), bool)
        same = (np.diff(self.ids_M[order_M]) == 0) & (np.diff(row_M[order_M]) == 0)
        twice_M[order_M[1:]] = same
        self.refuse_where(_rows_with(twice_M, row_M, len(counts_N)), "a candidate appears twice")
        mass_N = np.bincount(row_M, np.exp(self.logprobs_M.astype(np.float64)), minlength=len(counts_N))
        mass_N = mass_N + np.exp(self.other_N.astype(np.float64))
        self.refuse_where(np.abs(mass_N - 1) > _MASS_TOLERANCE, "the probabilities don't sum to 1")

    def refuse_where(self, bad_N: npt.NDArray[np.bool_], reason: str) -> None:
        if bad_N.any():
            raise BitnetError(f"{self.path}, row {int(bad_N.argmax())}: {reason}; {_AGAIN}.")

    def take(self, prompt_idx: int) -> tuple[int, int]:
        return self.spans.pop(prompt_idx, (0, 0))

    def check_all_used(self) -> None:
        if self.spans:
            prompt_idx, (first, _last) = next(iter(self.spans.items()))
            stream = schema.stream_of(self.path)
            raise BitnetError(f"{self.path}, row {first}: prompt_idx {prompt_idx} is not in {stream.name}; {_AGAIN}.")


def _rows_with(bad_M: npt.NDArray[np.bool_], row_M: npt.NDArray[np.int64], rows: int) -> npt.NDArray[np.bool_]:
    return np.bincount(row_M[bad_M], minlength=rows) > 0


def _ragged(path: Path, name: str, table: pa.Table) -> tuple[npt.NDArray[np.int64], Any]:
    """Offsets [N+1] from 0, and flat values [M] of a list column."""
    chunk = table.column(name).combine_chunks()
    array = chunk if isinstance(chunk, pa.Array) else chunk.chunk(0)
    flat = array.flatten()
    if flat.null_count:
        raise BitnetError(f"{path}: a list in {name} holds null; {_AGAIN}.")
    lengths = np.diff(array.offsets.to_numpy().astype(np.int64))
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), flat.to_numpy()


def _sequence(
    path: Path, number: int, stream: dict[str, Any], rows: _Rows, metadata: schema.TraceMetadata, max_topk: int
) -> TraceSequence:
    def refuse(reason: str) -> BitnetError:
        return BitnetError(f"{path}, row {number}: {reason}; {_AGAIN}.")

    prompt_ids_P = _ids(stream["prompt_ids"])
    completion_ids_C = _ids(stream["completion_ids"])
    is_struct_C = np.array(stream["is_struct"], bool)
    if not len(prompt_ids_P) or not len(completion_ids_C):
        raise refuse("the prompt or the completion is empty")
    if len(is_struct_C) != len(completion_ids_C):
        raise refuse("is_struct and completion_ids differ in length")
    for ids in (prompt_ids_P, completion_ids_C):
        if ids.min() < 0 or ids.max() >= metadata.vocab_size:
            raise refuse(f"a token is outside the vocabulary of {metadata.vocab_size}")
    first, last = rows.take(stream["prompt_idx"])
    positions_R = rows.stream_pos_N[first:last]
    if len(positions_R) and (positions_R.min() < 0 or positions_R.max() >= len(completion_ids_C)):
        raise refuse(f"stream_pos of {rows.path.name} points outside the completion")
    if (np.diff(positions_R) <= 0).any():
        raise refuse(f"stream_pos of {rows.path.name} does not grow")
    if not np.array_equal(completion_ids_C[positions_R], rows.sample_id_N[first:last]):
        raise refuse(f"teacher_sample_id of {rows.path.name} is not the stream's token")
    topk_ids_CK, topk_logprobs_CK, other_C = _candidates(
        rows, first, last, len(completion_ids_C), min(metadata.top_k, max_topk)
    )
    kd_valid_C = np.zeros(len(completion_ids_C), bool)
    kd_valid_C[positions_R] = True
    return TraceSequence(
        prompt_idx=stream["prompt_idx"],
        prompt_text=stream["prompt_text"],
        completion_text=stream["completion_text"],
        prompt_ids_P=prompt_ids_P,
        completion_ids_C=completion_ids_C,
        topk_ids_CK=topk_ids_CK,
        topk_logprobs_CK=topk_logprobs_CK,
        other_logprob_C=other_C,
        kd_valid_C=kd_valid_C,
        is_struct_C=is_struct_C,
        heldout=False,
        finish_reason=stream["finish_reason"],
        sequence_hash=stream["sequence_hash"],
    )


def _ids(values: list[int | None]) -> Int32:
    """A null inside a list becomes -1, which no vocabulary holds."""
    return np.array([-1 if value is None else value for value in values], np.int32)


def _candidates(rows: _Rows, first: int, last: int, length: int, width: int) -> tuple[Int32, Float32, Float32]:
    """Scatter the rows of one sequence over its completion: (ids [C, K], logprobs [C, K], other [C])."""
    topk_ids_CK = np.zeros((length, width), np.int32)
    topk_logprobs_CK = np.full((length, width), -np.inf, np.float32)
    other_C = np.zeros(length, np.float32)
    for row in range(first, last):
        begin, end = int(rows.starts_N1[row]), int(rows.starts_N1[row + 1])
        kept = min(end - begin, width)
        position = int(rows.stream_pos_N[row])
        topk_ids_CK[position, :kept] = rows.ids_M[begin : begin + kept]
        topk_logprobs_CK[position, :kept] = rows.logprobs_M[begin : begin + kept]
        other = float(rows.other_N[row])
        if kept < end - begin:
            cut = rows.logprobs_M[begin + kept : end].astype(np.float64)
            other = min(0.0, float(np.logaddexp.reduce([other, *cut])))
        other_C[position] = other
    return topk_ids_CK, topk_logprobs_CK, other_C
