"""Write both layers of a trace set as Parquet shards, each whole or not at all, a few sequences in memory.

What is in a shard depends on its answers alone: written again it is the same. Knows no providers and no
journal; it is given one finished sequence after another.
"""

import math
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.traces import schema
from bitnet_core.traces.project import Projection
from bitnet_core.traces.schema import TraceMetadata
from bitnet_core.traces.steps import TeacherStep, settle_mass

SUPERSEDED_FOLDER = "superseded"
_GROUP_SEQUENCES = 16


@dataclass(frozen=True)
class FinishedSequence:
    """One answered prompt in both layers; `projection` is None when it was rejected, for the reason given."""

    prompt_idx: int
    sequence_hash: str
    request_key: str
    messages_json: str
    rendered_prompt: str
    prompt_ids: list[int]
    completion_text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    text_matches_bytes: bool
    steps: tuple[TeacherStep, ...]
    projection: Projection | None
    rejected: str = ""
    repairs: Mapping[str, int] = field(default_factory=dict)

    @property
    def stream_text(self) -> str:
        """The completion as the student reads it."""
        return b"".join(step.data for step in self.steps).decode("utf-8", errors="replace")


def shard_is_current(data_dir: Path, index: int, metadata: TraceMetadata) -> bool:
    """Whether all files of a shard are there, readable, and made from the same answers with the same settings."""
    for name in _files_of(index):
        found = _metadata_of(data_dir / name)
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
) -> dict[str, float]:
    """Write one shard of both layers and return its counts. The KD file appears last, when the rest is there.

    `origin` is what all rows of SEQUENCES_FILE share. Rejected sequences are in there, with their reason.
    """
    names = _files_of(index)
    schemas = (schema.SEQUENCES, schema.teacher_steps(metadata.top_k), schema.STREAM, schema.KD)
    with ExitStack() as stack:
        # Left in reverse order: the KD shard is opened first and so renamed last.
        rows, steps, stream, kd = reversed(
            [
                stack.enter_context(_growing(data_dir / name, wanted, metadata))
                for name, wanted in reversed(list(zip(names, schemas, strict=True)))
            ]
        )
        counts: Counter[str] = Counter(
            dict.fromkeys(("sequences", "rows", "tokens", "steps", "clamped", "recut", "unreported"), 0)
        )
        other = 0.0
        for sequence in sequences:
            rows.add([{**_sequence_row(sequence), **origin}])
            projection = sequence.projection
            if projection is None:
                counts[f"rejected:{sequence.rejected}"] += 1
                continue
            kd.add(_kd_rows(sequence, projection, metadata))
            stream.add([_stream_row(sequence, projection)])
            steps.add(_step_rows(sequence, metadata.top_k))
            counts["sequences"] += 1
            counts["rows"] += len(projection.rows)
            counts["tokens"] += len(projection.completion_ids)
            counts["steps"] += len(sequence.steps)
            counts["clamped"] += projection.clamped
            counts["recut"] += projection.recut
            counts["unreported"] += projection.unreported
            other += sum(math.exp(row.other_logprob) for row in projection.rows)
            for kind, number in sequence.repairs.items():
                counts[f"repaired:{kind}"] += number
        told = dict(counts) | {"other_mass": other}
        for part in (rows, steps, stream, kd):
            part.finish(told)
    return told


def write_sequences(data_dir: Path, shards: int, metadata: TraceMetadata) -> list[Mapping[str, float]]:
    """Write SEQUENCES_FILE from the parts of these many shards; the counts of each."""
    told: list[Mapping[str, float]] = []
    with _growing(data_dir / schema.SEQUENCES_FILE, schema.SEQUENCES, metadata) as table:
        for index in range(shards):
            path = data_dir / schema.sequences_part(index)
            found = _metadata_of(path)
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
            found = _metadata_of(path)
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
    names = {one.config_hash[:8] for one in map(_metadata_of, present) if one is not None}
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


def _metadata_of(path: Path) -> TraceMetadata | None:
    try:
        return schema.read_metadata(pq.read_metadata(path).metadata)
    except (pa.ArrowException, OSError):
        return None


class _Growing:
    """A Parquet file being written; rows are turned into Arrow a row group at a time."""

    def __init__(self, path: Path, wanted: pa.Schema, metadata: TraceMetadata) -> None:
        self._metadata = metadata
        self._writer = pq.ParquetWriter(path, wanted, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._sequences = 0

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Add the rows of one sequence."""
        self._rows += rows
        self._sequences += 1
        if self._sequences % _GROUP_SEQUENCES == 0:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._writer.schema))
        self._rows = []

    def add_file(self, path: Path) -> None:
        """Add the rows of another file of the same schema."""
        self._flush()
        source = pq.ParquetFile(path)
        for group in range(source.num_row_groups):
            self._writer.write_table(source.read_row_group(group).cast(self._writer.schema))

    def finish(self, counts: Mapping[str, float]) -> None:
        self._flush()
        self._writer.add_key_value_metadata(replace(self._metadata, counts=dict(counts)).as_key_values())

    def close(self) -> None:
        self._writer.close()


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


def _kd_rows(sequence: FinishedSequence, projection: Projection, metadata: TraceMetadata) -> list[dict[str, Any]]:
    return [
        {
            "prompt_idx": sequence.prompt_idx,
            "step_idx": row.step_idx,
            "teacher_sample_id": projection.completion_ids[row.stream_pos],
            "teacher_sample_text": row.sample_text,
            "topk_ids": row.topk_ids,
            "topk_logprobs": row.topk_logprobs,
            "other_logprob": row.other_logprob,
            "is_struct_token": projection.is_struct[row.stream_pos],
            "template_hash": metadata.template_hash,
            "tokenizer_hash": metadata.tokenizer_hash,
            "stream_pos": row.stream_pos,
        }
        for row in projection.rows
    ]


def _stream_row(sequence: FinishedSequence, projection: Projection) -> dict[str, Any]:
    return {
        "prompt_idx": sequence.prompt_idx,
        "prompt_text": sequence.rendered_prompt,
        "completion_text": sequence.stream_text,
        "prompt_ids": sequence.prompt_ids,
        "completion_ids": projection.completion_ids,
        "is_struct": projection.is_struct,
        "finish_reason": sequence.finish_reason,
        "sequence_hash": sequence.sequence_hash,
    }


def _step_rows(sequence: FinishedSequence, top_k: int) -> list[dict[str, Any]]:
    rows = []
    for index, step in enumerate(sequence.steps):
        order = sorted(range(len(step.top_logprobs)), key=lambda place: -step.top_logprobs[place])[:top_k]
        padding = top_k - len(order)
        mass = settle_mass(step.top_logprobs)
        sampled = (step.token_id, step.data) if step.token_id < 0 else step.token_id
        tops: Iterable[object] = zip(step.top_ids, step.top_bytes, strict=True) if step.token_id < 0 else step.top_ids
        rows.append(
            {
                "prompt_idx": sequence.prompt_idx,
                "step_idx": index,
                "token_id": step.token_id,
                "token_bytes": step.data,
                "logprob": step.logprob,
                "top_count": len(order),
                "top_ids": [step.top_ids[place] for place in order] + [-1] * padding,
                "top_bytes": [step.top_bytes[place] for place in order] + [b""] * padding,
                "top_logprobs": [step.top_logprobs[place] for place in order] + [float("-inf")] * padding,
                "other_logprob": mass.other,
                "mass_clamped": mass.clamped,
                "sampled_in_top": sampled in tops,
            }
        )
    return rows
