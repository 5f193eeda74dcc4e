"""A trace set for people: every row that is wrong (`validate`), and one sequence in words (`show_text`)."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.tables import render_table
from bitnet_core.text import significant
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import places, schema
from bitnet_core.traces.browse import Browser, own_tokenizer
from bitnet_core.traces.rules import faults
from bitnet_core.traces.shards import Fault, Shard, Window, kd_shards, require_whole
from bitnet_core.traces.trace_set import copies, lacking, require_one_configuration

_SHOWN_CANDIDATES = 5
_COLUMNS = ("at", "token", "json", "other")
_OF_STUDENT = ("KL", "student", "its first")
OTHER_TEXT = "completion_text is not what completion_ids spell"


# -- validate ----------------------------------------------------------------------------------------


def validate(data_dir: Path) -> list[dict[str, Any]]:
    """Every rule that is broken, by file: reason, number of rows, the first of them. Empty for a sound set.

    An unreadable file is one entry, without rows; the others are still checked. Of the answers as they were told
    (`teacher_shard_*`) and of SEQUENCES_FILE it is asked whether they can be read.
    """
    tokenizer = own_tokenizer(data_dir) if places.tokenizer(data_dir).is_dir() else None
    count_and_first: dict[tuple[Path, str], list[int]] = {}
    problems: list[dict[str, Any]] = []
    opened: list[Shard] = []
    for path in kd_shards(data_dir):
        try:
            shard = Shard(path)
            opened.append(shard)
            require_one_configuration(shard, opened[0])
            for window in shard.windows():
                broken = list(faults(shard, window))
                if tokenizer and not broken and (rows := _rows_with_other_text(window, tokenizer)):
                    broken = [Fault(shard.stream_path, np.array(rows), OTHER_TEXT)]
                for fault in broken:
                    entry = count_and_first.setdefault((fault.path, fault.reason), [0, int(fault.rows[0])])
                    entry[0] += len(fault.rows)
        except BitnetError as error:
            problems.append(_unreadable(path, error))
    problems += [_unreadable(shard.path, why) for shard, why in copies(opened)]
    if not problems and (incomplete := lacking(data_dir, opened)):
        problems.append(_unreadable(data_dir / schema.SEQUENCES_FILE, incomplete))
    beside = (files.matching(data_dir, name) for name in (schema.SEQUENCES_FILE, "teacher_shard_*.parquet"))
    for path in itertools.chain.from_iterable(beside):
        try:
            require_whole(path)
        except BitnetError as error:
            problems.append(_unreadable(path, error))
    problems += [
        {"file": str(path), "reason": reason, "rows": count, "first_row": row}
        for (path, reason), (count, row) in count_and_first.items()
    ]
    return problems


def _unreadable(path: Path, error: BitnetError) -> dict[str, Any]:
    return {"file": str(path), "reason": str(error), "rows": None, "first_row": None}


def validate_text(data_dir: Path, problems: Sequence[dict[str, Any]]) -> str:
    if not problems:
        return f"{data_dir}: nothing is wrong"
    rows = [[Path(one["file"]).name, one["rows"], one["first_row"], one["reason"]] for one in problems]
    return render_table("what is wrong", ["file", "rows", "first row", "reason"], rows)


def _rows_with_other_text(window: Window, tokenizer: StudentTokenizer) -> list[int]:
    """Rows of the stream file whose tokens don't spell the completion stored with them."""
    return [
        window.first_sequence + place
        for place, text in enumerate(window.streams.column("completion_text").to_pylist())
        if tokenizer.decode(window.lists["completion_ids"][place].tolist()) != text
    ]


# -- show --------------------------------------------------------------------------------------------


def show(data_dir: Path, prompt_idx: int | None, most_rows: int) -> dict[str, Any]:
    """One sequence (the first if `prompt_idx` is None): its texts, and the candidates of its first positions."""
    return Browser(data_dir).trace(prompt_idx, most_rows)


def show_text(found: dict[str, Any]) -> str:
    side = "held out" if found["heldout"] else "trained on"
    head = (
        f"sequence {found['prompt_idx']}: {found['prompt_tokens']} + {found['completion_tokens']} tokens, "
        f"{side}, ended by {found['finish_reason']}"
    )
    stored = found["completion_text"]
    same = "as stored" if found["rebuilt_is_same"] else f"NOT as stored, which is {stored!r}"
    scored = any(one["kl"] is not None for one in found["positions"])
    rows = [
        [
            one["position"],
            quoted(one["token"]),
            "{}" if one["structure"] else "",
            None if one["other"] is None else round(one["other"], 4),
            *([significant(one["kl"]), *_shares(one["student"], one["student_top"])] if scored else ()),
            _list(one["candidates"]),
        ]
        for one in found["positions"]
    ]
    parts = [
        head,
        f"── prompt ──\n{found['prompt_text']}",
        f"── completion, rebuilt from its tokens: {same} ──\n{found['rebuilt_text']}",
        render_table("teacher", [*_COLUMNS, *(_OF_STUDENT if scored else ()), "most likely"], rows),
    ]
    left = found["completion_tokens"] - len(rows)
    if left:
        parts.append(f"{left} more positions; --rows {found['completion_tokens']} shows them all.")
    return "\n\n".join(parts)


def _list(candidates: list[dict[str, Any]] | None) -> str:
    if candidates is None:
        return "no row: trained by cross-entropy alone"
    return "  ".join(f"{quoted(one['token'])} {one['probability']:.3f}" for one in candidates[:_SHOWN_CANDIDATES])


def _shares(own: float | None, top: list[dict[str, Any]] | None) -> list[str]:
    """The student's probability of the token, and what it finds most likely."""
    if not top:
        return ["", ""]
    return [significant(own), f"{quoted(top[0]['token'])} {significant(top[0]['probability'])}"]


def quoted(text: str) -> str:
    return repr(text)[1:-1].replace(" ", "␣")
