"""Teacher space -> student space for another tokenizer, from what is on disk: `bitnet traces project`. Asks nobody.

The result is a trace set of its own in `projected/<hash>/` beside the shards it is made from, whole or not at all,
and made again only when something it depends on has changed. Prints nothing.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bitnet_core.errors import BitnetError
from bitnet_core.traces import schema, writer
from bitnet_core.traces.columns import FinishedSequence
from bitnet_core.traces.project import Rejected, project
from bitnet_core.traces.prompts import canonical_json
from bitnet_core.traces.schema import TraceMetadata
from bitnet_core.traces.steps import Completion, TokenTable
from bitnet_core.traces.tokenizer import StudentTokenizer, load_tokenizer
from bitnet_core.traces.vocabulary import Vocabulary

FOLDER = "projected"
_SHARD = re.compile(r"teacher_shard_(\d+)\.parquet")
_AGAIN = "run `bitnet collect` again (what the teacher already said is kept)"

Progress = Callable[[int, int], None]


def reproject(
    data_dir: Path, source: str, template: str = "", out: Path | None = None, progress: Progress = lambda _d, _t: None
) -> dict[str, Any]:
    """Make, or find made, the student space of the tokenizer `source`; its figures.

    Without a template of its own or in `template`, it keeps the one that the traces were made with.
    """
    shards = sorted(
        (int(match[1]), path)
        for path in data_dir.glob("teacher_shard_*.parquet")
        if (match := _SHARD.fullmatch(path.name))
    )
    if not shards:
        raise BitnetError(f"There is no teacher space in {data_dir}; run `bitnet collect` first.")
    tokenizer = _tokenizer(data_dir, source, template)
    folder = (
        out or data_dir / FOLDER / hashlib.sha256((tokenizer.hash + tokenizer.template_hash).encode()).hexdigest()[:8]
    )
    vocabulary = Vocabulary(tokenizer, TokenTable())
    told: list[Mapping[str, float]] = []
    made = 0
    for place, (index, path) in enumerate(shards):
        progress(place, len(shards))
        metadata = _metadata(path, tokenizer)
        if not _is_current(folder, index, metadata):
            made += 1
            sequences = _sequences(path, data_dir / schema.sequences_part(index), vocabulary)
            writer.write_shard(folder, index, metadata, {}, sequences, student_only=True)
        found = writer.metadata_of(folder / schema.kd_shard(index))
        told.append(found.counts if found else {})
    for stale in folder.glob("kd_*.parquet"):
        if int(stale.stem.rpartition("_")[2]) not in {index for index, _ in shards}:
            stale.unlink()
    tokenizer.save(folder / schema.TOKENIZER_FOLDER)
    progress(len(shards), len(shards))
    return _figures(folder, tokenizer, told, made)


def _tokenizer(data_dir: Path, source: str, template: str) -> StudentTokenizer:
    try:
        return load_tokenizer(source, template)
    except BitnetError as error:
        own = data_dir / schema.TOKENIZER_FOLDER / schema.TEMPLATE_FILE
        if template or "no chat template" not in str(error) or not own.is_file():
            raise
        return load_tokenizer(source, own.read_text(encoding="utf-8"))


def _metadata(path: Path, tokenizer: StudentTokenizer) -> TraceMetadata:
    found = writer.metadata_of(path)
    if found is None:
        raise BitnetError(f"{path} is truncated or no shard of traces; move it away and {_AGAIN}.")
    made_from = [found.config_hash, tokenizer.hash, tokenizer.template_hash]
    return replace(
        found,
        tokenizer=tokenizer.name,
        tokenizer_hash=tokenizer.hash,
        template_hash=tokenizer.template_hash,
        vocab_size=tokenizer.vocab_size,
        config_hash=hashlib.sha256(canonical_json(made_from).encode()).hexdigest(),
        counts={},
    )


def _is_current(folder: Path, index: int, metadata: TraceMetadata) -> bool:
    found = [writer.metadata_of(folder / name(index)) for name in (schema.kd_stream, schema.kd_shard)]
    return all(one is not None and replace(one, counts={}) == metadata for one in found)


def _sequences(path: Path, part: Path, vocabulary: Vocabulary) -> Iterator[FinishedSequence]:
    """The shard's kept sequences, a row group of steps in memory."""
    try:
        rows = {row["prompt_idx"]: row for row in pq.read_table(part).to_pylist() if not row["rejected"]}
    except (pa.ArrowException, OSError) as error:
        raise BitnetError(f"{part} is missing or damaged; move {path} away and {_AGAIN}.") from error
    for prompt_idx, completion, before in _completions(path, vocabulary.table):
        row = rows.get(prompt_idx)
        if row is None:
            raise BitnetError(f"{path} holds sequence {prompt_idx} and {part} does not; move both away and {_AGAIN}.")
        yield _finished(row, completion, before, vocabulary)


def _finished(
    row: Mapping[str, Any], completion: Completion, before: Mapping[int, bytes], vocabulary: Vocabulary
) -> FinishedSequence:
    tokenizer = vocabulary.tokenizer
    rendered = tokenizer.render_prompt(decode_messages(row["messages_json"]))
    rejected, projection = "", None
    try:
        projection = project(completion, row["finish_reason"], vocabulary, before)
    except Rejected as error:
        rejected = error.reason
    return FinishedSequence(
        prompt_idx=row["prompt_idx"],
        sequence_hash=row["sequence_hash"],
        request_key=row["request_key"],
        messages_json=row["messages_json"],
        rendered_prompt=rendered,
        prompt_ids=tokenizer.encode(rendered),
        completion_text=row["completion_text"],
        finish_reason=row["finish_reason"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        text_matches_bytes=row["text_matches_bytes"],
        projection=projection,
        rejected=rejected,
    )


def decode_messages(text: str) -> list[dict[str, str]]:
    """The messages of a stored prompt."""
    from bitnet_core.json_decoding import decode

    found: list[dict[str, str]] = decode(text)
    return found


def _completions(path: Path, table: TokenTable) -> Iterator[tuple[int, Completion, dict[int, bytes]]]:
    """Each sequence's steps. Tokens are known by their bytes here: another vocabulary has other ids."""
    source = pq.ParquetFile(path)
    waiting: pa.Table | None = None
    for group in range(source.num_row_groups):
        rows = source.read_row_group(group)
        rows = pa.concat_tables([waiting, rows]) if waiting is not None else rows
        owners_N = rows["prompt_idx"].to_numpy()
        starts = [0, *(np.flatnonzero(np.diff(owners_N)) + 1).tolist()]
        ends = [*starts[1:], len(owners_N)]
        last = group == source.num_row_groups - 1
        whole = list(zip(starts, ends, strict=True)) if last else list(zip(starts, ends, strict=True))[:-1]
        waiting = None if last else rows.slice(starts[-1])
        yield from _cut(rows.combine_chunks(), whole, table)


def _cut(
    rows: pa.Table, spans: list[tuple[int, int]], table: TokenTable
) -> Iterator[tuple[int, Completion, dict[int, bytes]]]:
    tops = rows["top_bytes"].combine_chunks()
    width = tops.type.list_size
    sampled_N = _numbers(rows["token_bytes"].combine_chunks(), table)
    tops_NK = _numbers(tops.flatten(), table).reshape(-1, width)
    top_NK = rows["top_logprobs"].combine_chunks().flatten().to_numpy().reshape(-1, width).astype(np.float64)
    given_NK = np.arange(width)[None, :] < rows["top_count"].to_numpy()[:, None]
    tops_NK, top_NK = np.where(given_NK, tops_NK, -1).astype(np.int32), np.where(given_NK, top_NK, -np.inf)
    own_N = rows["logprob"].to_numpy().astype(np.float64)
    owners_N = rows["prompt_idx"].to_numpy()
    held = rows["bytes_before"].to_pylist() if "bytes_before" in rows.column_names else [b""] * len(own_N)
    for begin, end in spans:
        span = slice(begin, end)
        before = {row - begin: held[row] for row in range(begin, end) if held[row]}
        yield (
            int(owners_N[begin]),
            Completion(table, sampled_N[span], own_N[span], tops_NK[span], top_NK[span]),
            before,
        )


def _numbers(spellings: pa.Array, table: TokenTable) -> Any:
    encoded = spellings.dictionary_encode()
    known = np.array([table.number(-1, data) for data in encoded.dictionary.to_pylist()], np.int32)
    return known[encoded.indices.to_numpy(zero_copy_only=False)] if len(known) else np.zeros(0, np.int32)


def _figures(folder: Path, tokenizer: StudentTokenizer, told: list[Mapping[str, float]], made: int) -> dict[str, Any]:
    def total(name: str) -> float:
        return sum(counts.get(name, 0) for counts in told)

    rejected: dict[str, int] = {}
    for counts in told:
        for name, value in counts.items():
            if name.startswith("rejected:"):
                rejected[name.partition(":")[2]] = rejected.get(name.partition(":")[2], 0) + int(value)
    rows, tokens = total("rows"), total("tokens")
    return {
        "folder": str(folder),
        "tokenizer": tokenizer.name,
        "vocab_size": tokenizer.vocab_size,
        "shards": len(told),
        "shards_made": made,
        "cached": made == 0,
        "sequences": int(total("sequences")),
        "rejected": rejected,
        "teacher_tokens": int(total("steps")),
        "student_tokens": int(tokens),
        "text_bytes": int(total("bytes")),
        "coverage": rows / tokens if tokens else None,
        "candidates_mean": total("candidates") / rows if rows else None,
        "candidates_merged": int(total("merged")),
        "rows_recut": int(total("recut")),
        "other_mass_mean": total("other_mass") / rows if rows else None,
    }


def text(figures: Mapping[str, Any]) -> str:
    """The figures for people."""
    made = (
        "was there already" if figures["cached"] else f"{figures['shards_made']} of {figures['shards']} shards made"
    )
    lines = [
        f"{figures['tokenizer']} ({figures['vocab_size']:,} tokens): {figures['folder']}  ({made})",
        f"  {figures['sequences']:,} sequences, {figures['student_tokens']:,} student tokens for "
        f"{figures['teacher_tokens']:,} of the teacher's, {figures['text_bytes']:,} bytes of text, all recovered",
    ]
    coverage, candidates = figures["coverage"], figures["candidates_mean"]
    if coverage is not None:
        lines.append(
            f"  {coverage:.1%} of positions carry candidates, {candidates:.2f} on the mean "
            f"({figures['candidates_merged']:,} became one with another), mean Other {figures['other_mass_mean']:.4f}"
        )
    lines += [f"  left out: {count} {reason.replace('_', ' ')}" for reason, count in figures["rejected"].items()]
    return "\n".join([*lines, f"  train on it with KD_DATA_PATH={figures['folder']}"])
