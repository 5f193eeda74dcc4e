"""Project a trace set onto another tokenizer, from its teacher space on disk: `bitnet traces project`.

No request is sent. The result is a trace set of its own in `data.projected/<hash>/` beside the folder `data/` that it
is made from; it is made again only if something it depends on has changed.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bitnet_core import files
from bitnet_core.errors import BitnetError, raise_if_not_the_file
from bitnet_core.prompts.parquet import open_parquet
from bitnet_core.prompts.prompt import canonical_json
from bitnet_core.text import number, share
from bitnet_core.tokenizer.arrays import Float64, Int32
from bitnet_core.tokenizer.chat_template import TemplateRefused
from bitnet_core.tokenizer.folder import TEMPLATE_FILE, read_text
from bitnet_core.tokenizer.load import NoTemplate, load_tokenizer
from bitnet_core.tokenizer.refused import Refused
from bitnet_core.tokenizer.steps import Completion, TokenTable
from bitnet_core.tokenizer.student import RenderedPrompt, StudentTokenizer
from bitnet_core.traces import places, projected_folder, schema, writer
from bitnet_core.traces.answer import Rejected, check_stored
from bitnet_core.traces.columns import STORED_FIELDS, FinishedSequence
from bitnet_core.traces.project import project
from bitnet_core.traces.schema import TraceMetadata
from bitnet_core.traces.shards import require_columns, torn
from bitnet_core.traces.vocabulary import Vocabulary

_FIX = "give another one in --tokenizer"
_AGAIN = "run `bitnet collect` again (the answers that were paid for are kept)"
_MESSAGES = msgspec.json.Decoder(list[dict[str, str]])
_SHARD = re.compile(r"teacher_shard_(\d+)\.parquet")


def reproject(
    data_dir: Path,
    source: str,
    template: str = "",
    out: Path | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
    *,
    merge_system: bool = False,
) -> dict[str, Any]:
    """Project `data_dir` onto the tokenizer `source`, unless that is done already; returns the figures.

    The chat template is `template`, else the tokenizer's own, else the one that the traces were made with; with
    `merge_system` it gets a system message as a part of the user's.
    `progress(done, total)` is called before each shard and at the end. BitnetError for missing or damaged teacher
    space, and for a tokenizer that can't read any of the answers.
    """
    shards = _teacher_shards(data_dir)
    tokenizer = _tokenizer(data_dir, source, template, merge_system)
    digest = hashlib.sha256((tokenizer.hash + tokenizer.template_hash).encode()).hexdigest()
    folder = (out or places.projection(data_dir, digest[:8])).resolve()
    writer.require_none_newer(data_dir)
    if out is not None:
        projected_folder.require_replaceable(out)
    writer.require_none_newer(folder)
    wanted = {index: _metadata(path, tokenizer) for index, path in shards.items()}
    made = 0
    if not projected_folder.is_complete(folder, wanted):
        with projected_folder.replacing(folder) as place:
            vocabulary = Vocabulary(tokenizer, TokenTable())
            refusals: list[_Refusal] = []
            for done, (index, path) in enumerate(shards.items()):
                progress(done, len(shards))
                kept = projected_folder.is_current(place, index, wanted[index])
                if not kept and not projected_folder.reuse_shard(folder, place, index, wanted[index]):
                    sequences = _sequences(path, data_dir / schema.sequences_part(index), vocabulary, refusals)
                    writer.write_shard(place, index, wanted[index], {}, sequences, student_only=True)
                    made += 1
            projected_folder.remove_others(place, wanted)
            _require_some(place, wanted, source, refusals)
            tokenizer.save(place / schema.TOKENIZER_FOLDER)
            record = {"tokenizer": tokenizer.name, "shards": sorted(wanted)}
            files.write_json(place / projected_folder.PROJECTION_FILE, record)
    progress(len(shards), len(shards))
    return _figures(folder, tokenizer, projected_folder.shard_counts(folder, wanted), made)


def _teacher_shards(data_dir: Path) -> dict[int, Path]:
    """The shards of teacher space, by index."""
    found = ((_SHARD.fullmatch(path.name), path) for path in files.matching(data_dir, "teacher_shard_*.parquet"))
    shards = dict(sorted((int(match[1]), path) for match, path in found if match))
    if not shards:
        raise BitnetError(f"There is no teacher space in {data_dir}; run `bitnet collect` first.")
    return shards


def _tokenizer(data_dir: Path, source: str, template: str, merge_system: bool) -> StudentTokenizer:
    try:
        return load_tokenizer(source, template, merge_system=merge_system, fix=_FIX)
    except NoTemplate:
        own = places.tokenizer(data_dir) / TEMPLATE_FILE
        if not own.is_file():
            raise
        return load_tokenizer(source, read_text(own, encoding="utf-8"), merge_system=merge_system, fix=_FIX)


def _metadata(path: Path, tokenizer: StudentTokenizer) -> TraceMetadata:
    """The metadata of the KD shard that is made from the teacher shard `path`."""
    found = writer.metadata_of(path)
    if found is None:
        raise BitnetError(f"{path} is truncated or not a shard of traces; move it away and {_AGAIN}.")
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


@dataclass(frozen=True)
class _Refusal:
    """The first prompt or answer that is refused; `merging_helps` if TEMPLATE_SYSTEM=merge makes it readable."""

    prompt_idx: int
    reason: str
    merging_helps: bool


def _require_some(
    place: Path, wanted: Mapping[int, TraceMetadata], source: str, refusals: Sequence[_Refusal]
) -> None:
    counts = projected_folder.shard_counts(place, wanted)
    if sum(one.get("sequences", 0) for one in counts):
        return
    rejected = _rejected(counts)
    reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in rejected.items())
    for first in refusals:
        reasons += f"; prompt {first.prompt_idx}: {first.reason}"
    merging = "set TEMPLATE_SYSTEM=merge or " if any(one.merging_helps for one in refusals) else ""
    template = f", or {merging or 'set '}--template" if TemplateRefused.status in rejected else ""
    raise BitnetError(
        f"The tokenizer {source} can read none of these answers ({reasons or 'there are none'}); {_FIX}{template}."
    )


# -- teacher space ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _StoredAnswer:
    """One sequence of teacher space; its N steps with the masses as they were rounded for storage.

    Tokens are identified by their bytes, because another student's tokenizer has other ids.
    """

    prompt_idx: int
    completion: Completion
    other_N: Float64
    bytes_before: Mapping[int, bytes]
    """Bytes of unreported tokens, by the step they precede."""


def _stored_answers(path: Path, table: TokenTable) -> Iterator[_StoredAnswer]:
    """Every sequence of a shard, with a row group of steps in memory."""
    source = _opened(path)
    waiting: pa.Table | None = None
    for group in range(source.num_row_groups):
        try:
            rows = source.read_row_group(group)
        except (pa.ArrowException, OSError) as error:
            raise_if_not_the_file(error, path)
            raise torn(path) from error
        _require_sound(path, rows)
        rows = pa.concat_tables([waiting, rows]) if waiting is not None else rows
        if not len(rows):
            continue
        owners_N = rows["prompt_idx"].to_numpy()
        starts = [0, *(np.flatnonzero(np.diff(owners_N)) + 1).tolist()]
        spans = list(zip(starts, [*starts[1:], len(owners_N)], strict=True))
        if group < source.num_row_groups - 1:  # the last sequence may continue in the next group
            waiting = rows.slice(spans.pop()[0])
        yield from _split(path, rows.combine_chunks(), spans, table)


def _opened(path: Path) -> pq.ParquetFile:
    """A shard of teacher space, with the columns and the widths that it must have."""
    try:
        source = open_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise_if_not_the_file(error, path)
        raise torn(path) from error
    place = source.schema_arrow.get_field_index("top_bytes")  # -1 also if there are two
    tops = source.schema_arrow.field(place).type if place >= 0 else None
    width = max(1, tops.list_size) if tops is not None and pa.types.is_fixed_size_list(tops) else 1
    optional = ("bytes_before",)  # shards of an earlier version have no such column
    require_columns(path, pa.schema([one for one in schema.teacher_steps(width) if one.name not in optional]))
    return source


def _require_sound(path: Path, rows: pa.Table) -> None:
    width = rows["top_bytes"].type.list_size
    top_count = rows["top_count"].to_numpy(zero_copy_only=False)
    inside = [rows[name].combine_chunks().flatten().null_count for name in ("top_bytes", "top_logprobs")]
    if any(column.null_count for column in rows.columns) or any(inside):
        raise BitnetError(f"{path} holds null; move it away and {_AGAIN}.")
    if ((top_count < 0) | (top_count > width)).any():
        raise BitnetError(f"{path} has a step with more than its {width} candidates; move it away and {_AGAIN}.")


def _split(path: Path, rows: pa.Table, spans: list[tuple[int, int]], table: TokenTable) -> Iterator[_StoredAnswer]:
    tops = rows["top_bytes"].combine_chunks()
    width = tops.type.list_size
    sampled_N = _numbers(rows["token_bytes"].combine_chunks(), table)
    tops_NK = _numbers(tops.flatten(), table).reshape(-1, width)
    top_NK = rows["top_logprobs"].combine_chunks().flatten().to_numpy().reshape(-1, width).astype(np.float64)
    listed_NK = np.arange(width)[None, :] < rows["top_count"].to_numpy()[:, None]
    tops_NK, top_NK = np.where(listed_NK, tops_NK, -1).astype(np.int32), np.where(listed_NK, top_NK, -np.inf)
    own_N = rows["logprob"].to_numpy().astype(np.float64)
    other_N = rows["other_logprob"].to_numpy().astype(np.float64)
    owners_N, places_N = rows["prompt_idx"].to_numpy(), rows["step_idx"].to_numpy()
    # Shards of an earlier version have no such column.
    before = rows["bytes_before"].to_pylist() if "bytes_before" in rows.column_names else [b""] * len(own_N)
    for begin, end in spans:
        span = slice(begin, end)
        if not np.array_equal(places_N[span], np.arange(end - begin)):
            raise _changed(path, f"not all steps of sequence {owners_N[begin]} are there, in order")
        yield _StoredAnswer(
            int(owners_N[begin]),
            Completion(table, sampled_N[span], own_N[span], tops_NK[span], top_NK[span]),
            other_N[span],
            {row - begin: before[row] for row in range(begin, end) if before[row]},
        )


def _numbers(spellings: pa.Array, table: TokenTable) -> Int32:
    encoded = spellings.dictionary_encode()
    known = np.array([table.number(-1, data) for data in encoded.dictionary.to_pylist()], np.int32)
    return known[encoded.indices.to_numpy(zero_copy_only=False)] if len(known) else np.zeros(0, np.int32)


# -- the sequences ---------------------------------------------------------------------------------------


def _sequences(
    path: Path, part: Path, vocabulary: Vocabulary, refusals: list[_Refusal]
) -> Iterator[FinishedSequence]:
    """All sequences of a shard of teacher space, including those that an earlier student could not read."""
    try:
        require_columns(part, schema.SEQUENCES)
        with open_parquet(part) as file:
            rows = {row["prompt_idx"]: row for row in file.read().to_pylist()}
        messages = {index: _MESSAGES.decode(row["messages_json"]) for index, row in rows.items()}
    except (pa.ArrowException, OSError, BitnetError, ValueError, TypeError, RecursionError) as error:
        raise_if_not_the_file(error, part)
        raise BitnetError(f"{part} is missing or damaged; move {path} away and {_AGAIN}.") from error
    steps = 0
    for stored in _stored_answers(path, vocabulary.table):
        row = rows.get(stored.prompt_idx)
        if row is None:
            raise BitnetError(
                f"{path} holds sequence {stored.prompt_idx} and {part} does not; move both away and {_AGAIN}."
            )
        steps += 0 if row["rejected"] else len(stored.completion)
        yield _project_stored(row, messages[stored.prompt_idx], stored, vocabulary, refusals)
    written = writer.metadata_of(path)
    counted = written.counts.get("steps") if written else None
    if counted is not None and steps != counted:
        raise _changed(path, f"it has {steps:,} of {counted:,.0f} steps")


def _changed(path: Path, how: str) -> BitnetError:
    return BitnetError(f"{path} was changed after it was written: {how}; move it away and {_AGAIN}.")


def _project_stored(
    row: Mapping[str, Any],
    messages: list[dict[str, str]],
    stored: _StoredAnswer,
    vocabulary: Vocabulary,
    refusals: list[_Refusal],
) -> FinishedSequence:
    """`row` is the sequence's row of SEQUENCES_FILE. The first refusal is added to `refusals`."""
    tokenizer = vocabulary.tokenizer
    prompt, rejected, answer, projection = RenderedPrompt("", []), "", None, None
    try:
        answer = check_stored(stored.completion, stored.bytes_before, stored.other_N, vocabulary)
        projection = project(answer, row["finish_reason"], vocabulary)
        prompt = tokenizer.encode_prompt(messages)
    except Rejected as error:
        rejected = error.reason
    except Refused as error:
        rejected, projection = error.status, None
        if not refusals:
            helps = error.by == TemplateRefused.by and tokenizer.takes_merged(messages)
            refusals.append(_Refusal(stored.prompt_idx, error.reason, helps))
    fields = {name: row[name] for name in STORED_FIELDS} | {"rendered_prompt": prompt.text, "rejected": rejected}
    return FinishedSequence(**fields, prompt_ids=prompt.ids, answer=answer, projection=projection)


# -- the figures -----------------------------------------------------------------------------------------


def _figures(
    folder: Path, tokenizer: StudentTokenizer, counts: list[Mapping[str, float]], made: int
) -> dict[str, Any]:
    def total(name: str) -> float:
        return sum(one.get(name, 0) for one in counts)

    rows, tokens = total("rows"), total("tokens")
    return {
        "folder": str(folder),
        "tokenizer": tokenizer.name,
        "vocab_size": tokenizer.vocab_size,
        "shards": len(counts),
        "shards_made": made,
        "cached": made == 0,
        "sequences": int(total("sequences")),
        "rejected": _rejected(counts),
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


def _rejected(counts: list[Mapping[str, float]]) -> dict[str, int]:
    """Rejected sequences by reason."""
    reasons: Counter[str] = Counter()
    for one in counts:
        for name, value in one.items():
            kind, _, reason = name.partition(":")
            if kind == "rejected":
                reasons[reason] += int(value)
    return dict(reasons)


def figures_text(figures: Mapping[str, Any]) -> str:
    """The figures for people."""
    made = "unchanged" if figures["cached"] else f"{figures['shards_made']} of {figures['shards']} shards made"
    recovered = figures["recovered_bytes"]
    lines = [
        f"{figures['tokenizer']} ({figures['vocab_size']:,} tokens): {figures['folder']}  ({made})",
        f"  {figures['sequences']:,} sequences, {figures['student_tokens']:,} student tokens for "
        f"{figures['teacher_tokens']:,} teacher tokens, {figures['text_bytes']:,} bytes of text, "
        f"{'all' if recovered == figures['text_bytes'] else f'{recovered:,}'} recovered",
    ]
    coverage, candidates = figures["coverage"], figures["candidates_mean"]
    if coverage is not None:
        lines.append(
            f"  {share(coverage)} of positions carry candidates, {number(candidates)} on average "
            f"({figures['candidates_merged']:,} merged into another, {figures['candidates_unmapped']:,} without a "
            f"token), mean Other {number(figures['other_mass_mean'])}"
        )
    lines += [f"  left out: {count} {reason.replace('_', ' ')}" for reason, count in figures["rejected"].items()]
    return "\n".join([*lines, f"  train on it with KD_DATA_PATH={figures['folder']}"])
