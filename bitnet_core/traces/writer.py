"""Write both layers of a trace set as Parquet shards, each whole or not at all, with a few sequences in memory.

A shard depends on its answers alone: written again, it is the same. It takes one finished sequence after another, and
must not know providers or the journal.
"""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bitnet_core import files
from bitnet_core.errors import NEWER, BitnetError, explained, raise_if_not_the_file
from bitnet_core.prompts.parquet import open_parquet
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import columns, places, schema
from bitnet_core.traces.columns import FinishedSequence
from bitnet_core.traces.schema import TraceMetadata

_GROUP_STEPS = 1 << 15
_ZSTD_LEVEL = 6
_FEW_VALUES = {"logprob_temperature"}
_COUNTED = (
    *("sequences", "rows", "tokens", "steps", "candidates", "clamped", "recut", "merged", "unmapped", "unreported"),
    *("bytes", "stream_bytes"),
)


def shard_is_current(data_dir: Path, index: int, metadata: TraceMetadata) -> bool:
    """Whether all files of a shard are readable, and were made from the same answers with the same settings."""
    return all(is_current(data_dir / name, metadata) for name in _files_of(index))


def is_current(path: Path, metadata: TraceMetadata) -> bool:
    """Whether a file is readable and has this metadata; counts and the probe don't matter."""
    found = metadata_of(path)
    return found is not None and replace(found, counts={}, probe={}) == replace(metadata, counts={}, probe={})


def first_hash(data_dir: Path) -> str | None:
    """The `sequence_hash` of the set's first sequence; None if no file has one that can be read."""
    for path in sorted(data_dir.glob("kd_stream_*.parquet")):
        found = _read(path, ["sequence_hash"])
        if found is not None and len(known := found.column(0).drop_null()):
            return str(known[0].as_py())
    return None


def hashes(data_dir: Path, index: int) -> dict[int, str]:
    """The `sequence_hash` of each `prompt_idx` in a shard; empty if the shard is missing or can't be read."""
    found = _read(data_dir / schema.kd_stream(index), ["prompt_idx", "sequence_hash"])
    if found is None:
        return {}
    pairs = zip(found.column(0).to_pylist(), found.column(1).to_pylist(), strict=True)
    return {prompt_idx: value for prompt_idx, value in pairs if prompt_idx is not None and value is not None}


def _read(path: Path, names: list[str]) -> pa.Table | None:
    """These columns, each once; None for a file that can't be read."""
    try:
        with open_parquet(path, names) as file:
            found = file.read(names).select(names)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise_if_not_the_file(error, path)
        return None
    return found


def _files_of(index: int) -> list[str]:
    return [
        schema.sequences_part(index),
        schema.teacher_shard(index),
        schema.kd_stream(index),
        schema.kd_shard(index),
    ]


def write_shard(
    data_dir: Path,
    index: int,
    metadata: TraceMetadata,
    origin: Mapping[str, Any],
    sequences: Iterable[FinishedSequence],
    *,
    student_only: bool = False,
) -> None:
    """Write one shard of both layers. The KD file appears last, when the others are complete.

    `origin` is what all rows of SEQUENCES_FILE share. Rejected sequences are in that file, with their reason.
    `student_only`: don't write teacher space. BitnetError if a file can't be written.
    """
    layers: list[tuple[str, pa.Schema, Callable[[list[FinishedSequence]], pa.Table]]] = [
        (schema.kd_shard(index), schema.KD, partial(columns.kd_table, metadata=metadata)),
        (schema.kd_stream(index), schema.STREAM, columns.stream_table),
    ]
    if not student_only:
        steps = schema.teacher_steps(metadata.top_k)
        layers += [
            (schema.teacher_shard(index), steps, partial(columns.step_table, top_k=metadata.top_k)),
            (schema.sequences_part(index), schema.SEQUENCES, partial(columns.sequence_table, origin=origin)),
        ]
    counts: defaultdict[str, float] = defaultdict(int, dict.fromkeys(_COUNTED, 0) | {"other_mass": 0.0})
    with ExitStack() as stack:
        # An ExitStack closes in reverse order: the KD file is opened first, and so renamed last.
        opened = [(stack.enter_context(_writing(data_dir / name, kind)), make) for name, kind, make in layers]
        for group in _groups(sequences):
            for one in group:
                _count(one, counts)
            for file, make in opened:
                _add(file, make(group))
        for file, _ in opened:
            _finish(file, metadata, counts)


def _groups(sequences: Iterable[FinishedSequence]) -> Iterator[list[FinishedSequence]]:
    """Sequences for one row group of each file; the last group may be empty."""
    group: list[FinishedSequence] = []
    steps = 0
    for sequence in sequences:
        group.append(sequence)
        steps += len(sequence.answer.steps) if sequence.answer else 0
        if steps >= _GROUP_STEPS:
            yield group
            group, steps = [], 0
    yield group


def _count(sequence: FinishedSequence, counts: defaultdict[str, float]) -> None:
    """Add what a sequence holds to its shard's counts."""
    answer, projection = sequence.answer, sequence.projection
    if answer is None or projection is None:
        counts[f"rejected:{sequence.rejected}"] += 1
        return
    found = {
        "sequences": 1,
        "rows": len(projection),
        "tokens": len(projection.completion_ids_C),
        "steps": len(answer.steps),
        "candidates": int(projection.counts_R.sum()),
        "clamped": int(answer.mass.clamped_N.sum()),
        "recut": projection.recut,
        "merged": projection.merged,
        "unmapped": projection.unmapped,
        "unreported": sum(map(len, answer.bytes_before.values())),
        "bytes": len(answer.text),
        "stream_bytes": projection.stream_bytes,
        "other_mass": float(np.exp(projection.other_R).sum()),
        **{f"repaired:{kind}": number for kind, number in sequence.repairs.items()},
    }
    for name, number in found.items():
        counts[name] += number


def write_sequences(data_dir: Path, shards: int, metadata: TraceMetadata) -> list[Mapping[str, float]]:
    """Write SEQUENCES_FILE from the parts of the first `shards` shards; returns the counts of each."""
    counts: list[Mapping[str, float]] = []
    with _writing(data_dir / schema.SEQUENCES_FILE, schema.SEQUENCES) as file:
        for index in range(shards):
            path = data_dir / schema.sequences_part(index)
            found = metadata_of(path)
            if found is None:
                continue
            with open_parquet(path) as part:
                for group in range(part.num_row_groups):
                    _add(file, part.read_row_group(group).cast(schema.SEQUENCES))
            counts.append(found.counts)
        _finish(file, metadata, {"sequences": sum(one["sequences"] for one in counts)})
    return counts


def belongs_to_collection(data_dir: Path, index: int, config_hash: str, keys: Iterable[str]) -> bool:
    """Whether a shard's existing files were made with these settings, from these requests only."""
    wanted = set(keys)
    for name in _files_of(index):
        path = data_dir / name
        if path.is_file():
            found = metadata_of(path)
            if found is None or found.config_hash != config_hash or not wanted.issuperset(found.keys):
                return False
    return True


def next_shard_index(data_dir: Path) -> int:
    """One more than the highest index of any shard file; 0 if there are none."""
    numbers = [path.stem.rpartition("_")[2] for path in data_dir.glob("*_*.parquet") if _is_trace_file(path)]
    return max((int(number) + 1 for number in numbers if number.isdigit()), default=0)


def has_answers(data_dir: Path, config_hash: str) -> bool:
    """Whether a shard in the folder has answers of this collection."""
    shards = (metadata_of(path) for path in sorted(data_dir.glob(schema.kd_shard(0).replace("000", "*"))))
    return any(one is not None and one.config_hash == config_hash and one.keys for one in shards)


def set_aside(data_dir: Path) -> Path:
    """Move the trace set in `data_dir` to a folder of its own, unreadable files included; returns that folder.

    Answers that were paid for are never overwritten.
    """
    present = [path for path in sorted(data_dir.glob("*.parquet")) if _is_trace_file(path)]
    names = {one.config_hash[:8] for one in map(metadata_of, present) if one is not None}
    others = places.beside(data_dir, "superseded")
    folder = files.new_dated_folder(others, "-".join(sorted(names)) or "unreadable")
    for path in present:
        shutil.move(path, folder / path.name)
    parts = data_dir / Path(schema.sequences_part(0)).parent
    if parts.is_dir():
        shutil.move(parts, folder / parts.name)
    tokenizer = places.tokenizer(data_dir)
    if tokenizer.is_dir():
        shutil.move(tokenizer, folder / schema.TOKENIZER_FOLDER)
    return folder


def save_tokenizer(data_dir: Path, tokenizer: StudentTokenizer) -> None:
    """Write the tokenizer that the traces are made with, in place of one that an earlier version wrote."""
    old, folder = data_dir / schema.OLD_TOKENIZER_FOLDER, data_dir / schema.TOKENIZER_FOLDER
    if old.is_dir() and not folder.exists():
        old.rename(folder)
    tokenizer.save(folder)


def _is_trace_file(path: Path) -> bool:
    return path.name == schema.SEQUENCES_FILE or path.name.startswith(("teacher_shard_", "kd_shard_", "kd_stream_"))


def metadata_of(path: Path) -> TraceMetadata | None:
    """A trace file's metadata; None if the file is missing, torn or of another kind."""
    try:
        with open_parquet(path, read=()) as file:
            return schema.read_metadata(file.metadata.metadata)
    except (pa.ArrowException, OSError):
        return None


def require_none_newer(folder: Path) -> None:
    """BitnetError if a newer version wrote a file of the set: an older one would make it again in another way."""
    for path in files.matching(folder, "*.parquet"):
        with suppress(pa.ArrowException, OSError), open_parquet(path, read=()) as file:
            if schema.is_of_newer_version(file.metadata.metadata):
                raise BitnetError(f"{path} was {NEWER}.")


# -- one file --------------------------------------------------------------------------------------------


@contextmanager
def _writing(path: Path, wanted: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A Parquet file that is written a row group at a time, and appears when it is complete."""
    floats = [name for name in _leaves(wanted, pa.float32()) if name not in _FEW_VALUES]
    ids = [name for name in _leaves(wanted, pa.int32()) if name.endswith("element")]
    try:
        with files.atomic_path(path) as temp:
            file = pq.ParquetWriter(
                temp,
                wanted,
                compression="zstd",
                compression_level=_ZSTD_LEVEL,
                write_page_checksum=True,
                use_dictionary=[name for name in _leaves(wanted, None) if name not in {*floats, *ids}],
                # Bytes of equal weight are stored together, so that the zeros left by rounding compress well.
                column_encoding=dict.fromkeys([*floats, *ids], "BYTE_STREAM_SPLIT"),
            )
            with file:
                yield file
    except OSError as error:
        why = explained(error, "check its folder")
        raise BitnetError(f"{path} can't be written {why}, then start again (the answers are kept).") from error


def _leaves(wanted: pa.Schema, kind: pa.DataType | None) -> list[str]:
    """Parquet's names for the columns, of one type or of all."""
    found = []
    for one in wanted:
        nested = pa.types.is_list(one.type) or pa.types.is_fixed_size_list(one.type)
        if kind is None or (one.type.value_type if nested else one.type) == kind:
            found.append(f"{one.name}.list.element" if nested else one.name)
    return found


def _add(file: pq.ParquetWriter, table: pa.Table) -> None:
    if table.num_rows:
        file.write_table(table)


def _finish(file: pq.ParquetWriter, metadata: TraceMetadata, counts: Mapping[str, float]) -> None:
    file.add_key_value_metadata(replace(metadata, counts=dict(counts)).as_key_values())
