"""Write both layers of a trace set as Parquet shards, each whole or not at all, a few sequences in memory.

What is in a shard depends on its answers alone: written again it is the same. Knows no providers and no
journal; it is given one finished sequence after another.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.traces import columns, schema
from bitnet_core.traces.columns import FinishedSequence
from bitnet_core.traces.schema import TraceMetadata

SUPERSEDED_FOLDER = "superseded"
_GROUP_STEPS = 1 << 15
_ZSTD_LEVEL = 6
_FEW_VALUES = {"logprob_temperature"}
_COUNTED = (
    *("sequences", "rows", "tokens", "steps", "candidates", "clamped", "recut", "merged", "unmapped", "unreported"),
    *("bytes", "stream_bytes"),
)


def shard_is_current(data_dir: Path, index: int, metadata: TraceMetadata) -> bool:
    """Whether all files of a shard are there, readable, and made from the same answers with the same settings."""
    for name in _files_of(index):
        found = metadata_of(data_dir / name)
        if found is None or _made_with(found) != _made_with(metadata):
            return False
    return True


def _made_with(metadata: TraceMetadata) -> TraceMetadata:
    return replace(metadata, counts={}, probe={})


def _files_of(index: int) -> tuple[str, ...]:
    """The last one is written last."""
    return (
        schema.sequences_part(index),
        schema.teacher_shard(index),
        schema.kd_stream(index),
        schema.kd_shard(index),
    )


def write_shard(
    data_dir: Path,
    index: int,
    metadata: TraceMetadata,
    origin: Mapping[str, Any],
    sequences: Iterable[FinishedSequence],
    *,
    student_only: bool = False,
) -> dict[str, float]:
    """Write one shard of both layers and return its counts. The KD file appears last, when the rest is there.

    `origin` is what all rows of SEQUENCES_FILE share. Rejected sequences are in there, with their reason.
    `student_only`: leave teacher space where it is.
    """
    names = _files_of(index)
    schemas = (schema.SEQUENCES, schema.teacher_steps(metadata.top_k), schema.STREAM, schema.KD)
    wanted = list(zip(names, schemas, strict=True))[2 if student_only else 0 :]

    def groups(pending: list[FinishedSequence]) -> None:
        good = columns.projected(pending)
        stream.add(columns.stream_table(good))
        kd.add(columns.kd_table(good, metadata))
        for one in teacher:
            one.add(_rows_of(one.schema, pending))

    def _rows_of(wanted: pa.Schema, pending: list[FinishedSequence]) -> pa.Table:
        if wanted == schema.SEQUENCES:
            return pa.Table.from_pylist([{**_sequence_row(one), **origin} for one in pending], schema=wanted)
        return columns.step_table(columns.answered(pending), metadata.top_k)

    told = _Counts()
    with ExitStack() as stack:
        # Left in reverse order: the KD shard is opened first and so renamed last.
        kd, stream, *teacher = [
            stack.enter_context(_growing(data_dir / name, kind, metadata)) for name, kind in reversed(wanted)
        ]
        pending: list[FinishedSequence] = []
        held = 0
        for sequence in sequences:
            told.add(sequence)
            pending.append(sequence)
            held += len(sequence.answer.steps) if sequence.answer else 0
            if held >= _GROUP_STEPS:
                groups(pending)
                pending, held = [], 0
        groups(pending)
        for part in (*teacher, stream, kd):
            part.finish(told.record())
    return told.record()


class _Counts:
    """What a shard holds, for its metadata."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._other = 0.0

    def add(self, sequence: FinishedSequence) -> None:
        answer, projection = sequence.answer, sequence.projection
        if answer is None or projection is None:
            self._counts[f"rejected:{sequence.rejected}"] += 1
            return
        self._counts.update(
            sequences=1,
            rows=len(projection),
            tokens=len(projection.completion_ids_C),
            steps=len(answer.steps),
            candidates=int(projection.counts_R.sum()),
            clamped=int(answer.mass.clamped_N.sum()),
            recut=projection.recut,
            merged=projection.merged,
            unmapped=projection.unmapped,
            unreported=sum(map(len, answer.bytes_before.values())),
            bytes=len(answer.text),
            stream_bytes=projection.stream_bytes,
        )
        self._counts.update({f"repaired:{kind}": number for kind, number in sequence.repairs.items()})
        self._other += float(np.exp(projection.other_R).sum())

    def record(self) -> dict[str, float]:
        return dict.fromkeys(_COUNTED, 0) | dict(self._counts) | {"other_mass": self._other}


def write_sequences(data_dir: Path, shards: int, metadata: TraceMetadata) -> list[Mapping[str, float]]:
    """Write SEQUENCES_FILE from the parts of these many shards; the counts of each."""
    told: list[Mapping[str, float]] = []
    with _growing(data_dir / schema.SEQUENCES_FILE, schema.SEQUENCES, metadata) as table:
        for index in range(shards):
            path = data_dir / schema.sequences_part(index)
            found = metadata_of(path)
            if found is None:
                continue
            table.add_file(path)
            told.append(found.counts)
        table.finish({"sequences": sum(counts["sequences"] for counts in told)})
    return told


def holds(data_dir: Path, index: int, config_hash: str, keys: Iterable[str]) -> bool:
    """Whether the files of a shard, as far as there are any, were made with these settings from these requests."""
    wanted = set(keys)
    for name in _files_of(index):
        path = data_dir / name
        if path.is_file():
            found = metadata_of(path)
            if found is None or found.config_hash != config_hash or not wanted.issuperset(found.keys):
                return False
    return True


def shards_in(data_dir: Path) -> int:
    """One more than the highest number of a shard's file that is there."""
    numbers = [path.stem.rpartition("_")[2] for path in data_dir.glob("*_*.parquet") if _ours(path)]
    return max((int(number) + 1 for number in numbers if number.isdigit()), default=0)


def set_aside(data_dir: Path) -> Path:
    """Move the trace set in `data_dir` away, unreadable files too, and return where to.

    Nothing paid for is ever overwritten.
    """
    present = [path for path in sorted(data_dir.glob("*.parquet")) if _ours(path)]
    names = {one.config_hash[:8] for one in map(metadata_of, present) if one is not None}
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = data_dir / SUPERSEDED_FOLDER / f"{stamp}-{'-'.join(sorted(names)) or 'unreadable'}"
    folder.mkdir(parents=True, exist_ok=True)
    for path in present:
        shutil.move(path, folder / path.name)
    parts = data_dir / Path(schema.sequences_part(0)).parent
    if parts.is_dir():
        shutil.move(parts, folder / parts.name)
    return folder


def _ours(path: Path) -> bool:
    return path.name == schema.SEQUENCES_FILE or path.name.startswith(("teacher_shard_", "kd_shard_", "kd_stream_"))


def metadata_of(path: Path) -> TraceMetadata | None:
    """What a file of traces says of itself; None for one that is missing, torn or something else."""
    try:
        return schema.read_metadata(pq.read_metadata(path).metadata)
    except (pa.ArrowException, OSError):
        return None


class _Growing:
    """A Parquet file being written, a row group at a time."""

    def __init__(self, path: Path, wanted: pa.Schema, metadata: TraceMetadata) -> None:
        self._metadata = metadata
        floats = [name for name in _leaves(wanted, pa.float32()) if name not in _FEW_VALUES]
        ids = [name for name in _leaves(wanted, pa.int32()) if name.endswith("element")]
        self._writer = pq.ParquetWriter(
            path,
            wanted,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            use_dictionary=[name for name in _leaves(wanted, None) if name not in {*floats, *ids}],
            # Bytes of the same weight together: what the rounding left zero then costs nothing.
            column_encoding=dict.fromkeys([*floats, *ids], "BYTE_STREAM_SPLIT"),
        )

    @property
    def schema(self) -> pa.Schema:
        return self._writer.schema

    def add(self, table: pa.Table) -> None:
        if table.num_rows:
            self._writer.write_table(table)

    def add_file(self, path: Path) -> None:
        """Add the rows of another file of the same schema."""
        source = pq.ParquetFile(path)
        for group in range(source.num_row_groups):
            self.add(source.read_row_group(group).cast(self._writer.schema))

    def finish(self, counts: Mapping[str, float]) -> None:
        self._writer.add_key_value_metadata(replace(self._metadata, counts=dict(counts)).as_key_values())

    def close(self) -> None:
        self._writer.close()


def _leaves(wanted: pa.Schema, kind: pa.DataType | None) -> list[str]:
    """Paths of the columns as Parquet names them, of one type or of all."""
    found = []
    for one in wanted:
        nested = pa.types.is_list(one.type) or pa.types.is_fixed_size_list(one.type)
        if kind is None or (one.type.value_type if nested else one.type) == kind:
            found.append(f"{one.name}.list.element" if nested else one.name)
    return found


@contextmanager
def _growing(path: Path, wanted: pa.Schema, metadata: TraceMetadata) -> Iterator[_Growing]:
    try:
        with files.atomic_path(path) as temp:
            table = _Growing(temp, wanted, metadata)
            try:
                yield table
            finally:
                table.close()
    except OSError as error:
        raise BitnetError(
            f"{path} can't be written ({error.strerror or error}); free some space or check its folder, then start "
            "again (the answers are kept)."
        ) from error


def _sequence_row(sequence: FinishedSequence) -> dict[str, Any]:
    return {
        "prompt_idx": sequence.prompt_idx,
        "sequence_hash": sequence.sequence_hash,
        "request_key": sequence.request_key,
        "messages_json": sequence.messages_json,
        "rendered_prompt": sequence.rendered_prompt,
        "completion_text": sequence.completion_text,
        "finish_reason": sequence.finish_reason,
        "prompt_tokens": sequence.prompt_tokens,
        "completion_tokens": sequence.completion_tokens,
        "text_matches_bytes": sequence.text_matches_bytes,
        "rejected": sequence.rejected,
    }
