"""Teacher space -> student space for another tokenizer, from what is on disk: `bitnet traces project`. Asks nobody.

The result is a trace set of its own in `projected/<hash>/` beside the shards it is made from, whole or not at all,
and made again only when something it depends on has changed. Prints nothing.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.prompts.prompt import canonical_json
from bitnet_core.tokenizer.load import NoTemplate, load_tokenizer
from bitnet_core.tokenizer.steps import Completion, TokenTable
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import schema, writer
from bitnet_core.traces.answer import Rejected, check_stored
from bitnet_core.traces.columns import FinishedSequence
from bitnet_core.traces.project import project
from bitnet_core.traces.schema import TraceMetadata
from bitnet_core.traces.vocabulary import Vocabulary

FOLDER = "projected"
PROJECTION_FILE = "projection.json"
"""Written last; says that a folder is a projection, and whole."""
_PARTS = (schema.kd_stream, schema.kd_shard)
_FIX = "give another one in --tokenizer"
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
    digest = hashlib.sha256((tokenizer.hash + tokenizer.template_hash).encode()).hexdigest()
    folder = (out or data_dir / FOLDER / digest[:8]).resolve()
    if out is not None:
        _require_room(out)
    wanted = {index: _metadata(path, tokenizer) for index, path in shards}
    made = 0
    if not _is_complete(folder, wanted):
        with _replaced(folder) as place:
            vocabulary = Vocabulary(tokenizer, TokenTable())
            for done, (index, path) in enumerate(shards):
                progress(done, len(shards))
                if not _is_current(place, index, wanted[index]) and not _taken_over(
                    folder, place, index, wanted[index]
                ):
                    sequences = _sequences(path, data_dir / schema.sequences_part(index), vocabulary)
                    writer.write_shard(place, index, wanted[index], {}, sequences, student_only=True)
                    made += 1
            _drop_others(place, wanted)
            _require_some(place, wanted, tokenizer)
            tokenizer.save(place / schema.TOKENIZER_FOLDER)
            files.write_json(place / PROJECTION_FILE, {"tokenizer": tokenizer.name, "shards": sorted(wanted)})
    progress(len(shards), len(shards))
    return _figures(folder, tokenizer, _counts(folder, wanted), made)


def _tokenizer(data_dir: Path, source: str, template: str) -> StudentTokenizer:
    try:
        return load_tokenizer(source, template, fix=_FIX)
    except NoTemplate:
        own = data_dir / schema.TOKENIZER_FOLDER / schema.TEMPLATE_FILE
        if not own.is_file():
            raise
        return load_tokenizer(source, own.read_text(encoding="utf-8"), fix=_FIX)


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
        projection=schema.PROJECTION_VERSION,
        made_from=files.sha256_file(path),
    )


# -- the folder ------------------------------------------------------------------------------------------


def _require_room(out: Path) -> None:
    """Nothing that is there is replaced, but an earlier projection."""
    if out.exists() and not out.is_dir():
        raise BitnetError(f"{out} is a file; give --out a new folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / PROJECTION_FILE).is_file():
        raise BitnetError(f"{out} holds something else; give --out a new or an empty folder.")


@contextlib.contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """A folder to work in, which takes the place of `folder` when all is in it; a killed one is gone on with."""
    place, aside = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
    try:
        place.mkdir(parents=True, exist_ok=True)
        files.remove_leftovers(place)
        yield place
        shutil.rmtree(aside, ignore_errors=True)
        if folder.exists():
            folder.rename(aside)
        place.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise BitnetError(
            f"{folder.parent} can't take the projection ({error.strerror or error}); free some space or check its "
            "permissions, or name another place in --out."
        ) from error


def _is_complete(folder: Path, wanted: Mapping[int, TraceMetadata]) -> bool:
    names = {path.name for path in folder.glob("kd_*.parquet")}
    return (
        (folder / PROJECTION_FILE).is_file()
        and names == {name(index) for index in wanted for name in _PARTS}
        and all(_is_current(folder, index, metadata) for index, metadata in wanted.items())
    )


def _is_current(folder: Path, index: int, metadata: TraceMetadata) -> bool:
    found = [writer.metadata_of(folder / name(index)) for name in _PARTS]
    return all(one is not None and replace(one, counts={}) == metadata for one in found)


def _taken_over(folder: Path, place: Path, index: int, metadata: TraceMetadata) -> bool:
    """Whether the shard is in the folder that will be replaced; it is then in the new one too."""
    if not _is_current(folder, index, metadata):
        return False
    for name in _PARTS:
        (place / name(index)).unlink(missing_ok=True)
        try:
            os.link(folder / name(index), place / name(index))
        except OSError:  # a file system without links
            shutil.copy2(folder / name(index), place / name(index))
    return True


def _drop_others(place: Path, wanted: Mapping[int, TraceMetadata]) -> None:
    names = {name(index) for index in wanted for name in _PARTS}
    for path in place.glob("kd_*.parquet"):
        if path.name not in names:
            path.unlink()


def _require_some(place: Path, wanted: Mapping[int, TraceMetadata], tokenizer: StudentTokenizer) -> None:
    told = _counts(place, wanted)
    if sum(counts.get("sequences", 0) for counts in told):
        return
    reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in _rejected(told).items())
    raise BitnetError(
        f"The tokenizer {tokenizer.name} can read none of these answers ({reasons or 'there is none'}); {_FIX}."
    )


def _counts(folder: Path, wanted: Mapping[int, TraceMetadata]) -> list[Mapping[str, float]]:
    found = [writer.metadata_of(folder / schema.kd_shard(index)) for index in wanted]
    return [one.counts for one in found if one is not None]


# -- the sequences ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stored:
    """One sequence of teacher space."""

    prompt_idx: int
    completion: Completion
    other_N: npt.NDArray[np.float64]
    bytes_before: Mapping[int, bytes]


def _sequences(path: Path, part: Path, vocabulary: Vocabulary) -> Iterator[FinishedSequence]:
    """All that teacher space holds, a row group of steps in memory; what an earlier student could not read, too."""
    try:
        rows = {row["prompt_idx"]: row for row in pq.read_table(part).to_pylist()}
    except (pa.ArrowException, OSError) as error:
        raise BitnetError(f"{part} is missing or damaged; move {path} away and {_AGAIN}.") from error
    for stored in _stored(path, vocabulary.table):
        row = rows.get(stored.prompt_idx)
        if row is None:
            raise BitnetError(
                f"{path} holds sequence {stored.prompt_idx} and {part} does not; move both away and {_AGAIN}."
            )
        yield _finished(row, stored, vocabulary)


def _finished(row: Mapping[str, Any], stored: _Stored, vocabulary: Vocabulary) -> FinishedSequence:
    tokenizer = vocabulary.tokenizer
    rendered = tokenizer.render_prompt(decode_messages(row["messages_json"]))
    rejected, answer, projection = "", None, None
    try:
        answer = check_stored(stored.completion, stored.bytes_before, stored.other_N, vocabulary)
        projection = project(answer, row["finish_reason"], vocabulary)
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
        answer=answer,
        projection=projection,
        rejected=rejected,
    )


def decode_messages(text: str) -> list[dict[str, str]]:
    """The messages of a stored prompt."""
    found: list[dict[str, str]] = orjson.loads(text)
    return found


def _stored(path: Path, table: TokenTable) -> Iterator[_Stored]:
    """Each sequence of a shard. Tokens are known by their bytes here: another vocabulary has other ids."""
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


def _cut(rows: pa.Table, spans: list[tuple[int, int]], table: TokenTable) -> Iterator[_Stored]:
    tops = rows["top_bytes"].combine_chunks()
    width = tops.type.list_size
    sampled_N = _numbers(rows["token_bytes"].combine_chunks(), table)
    tops_NK = _numbers(tops.flatten(), table).reshape(-1, width)
    top_NK = rows["top_logprobs"].combine_chunks().flatten().to_numpy().reshape(-1, width).astype(np.float64)
    given_NK = np.arange(width)[None, :] < rows["top_count"].to_numpy()[:, None]
    tops_NK, top_NK = np.where(given_NK, tops_NK, -1).astype(np.int32), np.where(given_NK, top_NK, -np.inf)
    own_N = rows["logprob"].to_numpy().astype(np.float64)
    other_N = rows["other_logprob"].to_numpy().astype(np.float64)
    owners_N = rows["prompt_idx"].to_numpy()
    held = rows["bytes_before"].to_pylist() if "bytes_before" in rows.column_names else [b""] * len(own_N)
    for begin, end in spans:
        span = slice(begin, end)
        yield _Stored(
            int(owners_N[begin]),
            Completion(table, sampled_N[span], own_N[span], tops_NK[span], top_NK[span]),
            other_N[span],
            {row - begin: held[row] for row in range(begin, end) if held[row]},
        )


def _numbers(spellings: pa.Array, table: TokenTable) -> Any:
    encoded = spellings.dictionary_encode()
    known = np.array([table.number(-1, data) for data in encoded.dictionary.to_pylist()], np.int32)
    return known[encoded.indices.to_numpy(zero_copy_only=False)] if len(known) else np.zeros(0, np.int32)


def _figures(folder: Path, tokenizer: StudentTokenizer, told: list[Mapping[str, float]], made: int) -> dict[str, Any]:
    def total(name: str) -> float:
        return sum(counts.get(name, 0) for counts in told)

    rows, tokens = total("rows"), total("tokens")
    return {
        "folder": str(folder),
        "tokenizer": tokenizer.name,
        "vocab_size": tokenizer.vocab_size,
        "shards": len(told),
        "shards_made": made,
        "cached": made == 0,
        "sequences": int(total("sequences")),
        "rejected": _rejected(told),
        "teacher_tokens": int(total("steps")),
        "student_tokens": int(tokens),
        "text_bytes": int(total("bytes")),
        "recovered_bytes": int(total("stream_bytes")),
        "coverage": rows / tokens if tokens else None,
        "candidates_mean": total("candidates") / rows if rows else None,
        "candidates_merged": int(total("merged")),
        "candidates_unmapped": int(total("unmapped")),
        "rows_recut": int(total("recut")),
        "other_mass_mean": total("other_mass") / rows if rows else None,
    }


def _rejected(told: list[Mapping[str, float]]) -> dict[str, int]:
    reasons: Counter[str] = Counter()
    for counts in told:
        reasons.update({name[9:]: int(value) for name, value in counts.items() if name.startswith("rejected:")})
    return dict(reasons)


def text(figures: Mapping[str, Any]) -> str:
    """The figures for people."""
    made = (
        "was there already" if figures["cached"] else f"{figures['shards_made']} of {figures['shards']} shards made"
    )
    recovered = figures["recovered_bytes"]
    lines = [
        f"{figures['tokenizer']} ({figures['vocab_size']:,} tokens): {figures['folder']}  ({made})",
        f"  {figures['sequences']:,} sequences, {figures['student_tokens']:,} student tokens for "
        f"{figures['teacher_tokens']:,} of the teacher's, {figures['text_bytes']:,} bytes of text, "
        f"{'all' if recovered == figures['text_bytes'] else f'{recovered:,}'} recovered",
    ]
    coverage, candidates = figures["coverage"], figures["candidates_mean"]
    if coverage is not None:
        lines.append(
            f"  {coverage:.1%} of positions carry candidates, {candidates:.2f} on the mean "
            f"({figures['candidates_merged']:,} became one with another, {figures['candidates_unmapped']:,} have no "
            f"token), mean Other {figures['other_mass_mean']:.4f}"
        )
    lines += [f"  left out: {count} {reason.replace('_', ' ')}" for reason, count in figures["rejected"].items()]
    return "\n".join([*lines, f"  train on it with KD_DATA_PATH={figures['folder']}"])
