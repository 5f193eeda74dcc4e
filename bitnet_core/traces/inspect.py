"""A trace set for people: every row that is wrong (`validate`), and one sequence as the student sees it (`show`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.text import render_table
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import places, schema
from bitnet_core.traces.rules import faults, require_faultless
from bitnet_core.traces.shards import Fault, Shard, Window, kd_shards, require_one_configuration
from bitnet_core.traces.split import is_heldout

_SHOWN_CANDIDATES = 5
_TOKEN_LISTS = ("prompt_ids", "completion_ids", "is_struct")
OTHER_TEXT = "completion_text is not what completion_ids spell"


# -- validate ----------------------------------------------------------------------------------------


def validate(data_dir: Path) -> list[dict[str, Any]]:
    """Every rule that is broken, by file: reason, number of rows, the first of them. Empty for a sound set.

    An unreadable shard is one entry, without rows; the others are still checked.
    """
    tokenizer = _own_tokenizer(data_dir)
    count_and_first: dict[tuple[Path, str], list[int]] = {}
    problems: list[dict[str, Any]] = []
    first: Shard | None = None
    for path in kd_shards(data_dir):
        try:
            shard = Shard(path)
            first = first or shard
            require_one_configuration(shard, first)
            for window in shard.windows():
                broken = list(faults(shard, window))
                if tokenizer and not broken and (rows := _rows_with_other_text(window, tokenizer)):
                    broken = [Fault(shard.stream_path, np.array(rows), OTHER_TEXT)]
                for fault in broken:
                    entry = count_and_first.setdefault((fault.path, fault.reason), [0, int(fault.rows[0])])
                    entry[0] += len(fault.rows)
        except BitnetError as error:
            problems.append({"file": str(path), "reason": str(error), "rows": None, "first_row": None})
    problems += [
        {"file": str(path), "reason": reason, "rows": count, "first_row": row}
        for (path, reason), (count, row) in count_and_first.items()
    ]
    return problems


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


def _own_tokenizer(data_dir: Path) -> StudentTokenizer | None:
    """The tokenizer that the traces were made with, if it is stored with them."""
    folder = places.tokenizer(data_dir)
    return load_tokenizer(folder, fix=schema.TOKENIZER_FIX) if folder.is_dir() else None


# -- show --------------------------------------------------------------------------------------------


def show(data_dir: Path, prompt_idx: int | None, most_rows: int) -> dict[str, Any]:
    """One sequence (the first if `prompt_idx` is None): its texts, and the candidates of its first positions."""
    paths, tokenizer = kd_shards(data_dir), _own_tokenizer(data_dir)
    if tokenizer is None:
        raise BitnetError(
            f"{data_dir} has no {schema.TOKENIZER_FOLDER} folder; run `bitnet collect` again to write it."
        )
    for path in paths:
        shard = Shard(path)
        for window in shard.windows():
            at = window.streams.column("prompt_idx").to_pylist()
            wanted = at[0] if prompt_idx is None and at else prompt_idx
            if wanted in at:
                require_faultless(shard, window)
                return _sequence(window, at.index(wanted), tokenizer, most_rows)
    if prompt_idx is None:
        raise BitnetError(f"The traces in {data_dir} hold no sequence; run `bitnet collect` again.")
    raise UsageError(f"{data_dir} has no sequence {prompt_idx}; `bitnet traces stats` says how many there are.")


def _sequence(window: Window, place: int, tokenizer: StudentTokenizer, most_rows: int) -> dict[str, Any]:
    stream = window.streams.slice(place, 1).to_pylist()[0]
    prompt, completion, struct = (window.lists[name][place].tolist() for name in _TOKEN_LISTS)
    rows_at = {int(window.column("stream_pos")[row]): int(row) for row in np.flatnonzero(window.sequence_N == place)}
    rebuilt = tokenizer.decode(completion)
    return {
        "prompt_idx": stream["prompt_idx"],
        "heldout": is_heldout(stream["sequence_hash"]),
        "finish_reason": stream["finish_reason"],
        "prompt_tokens": len(prompt),
        "completion_tokens": len(completion),
        "prompt_text": stream["prompt_text"],
        "completion_text": stream["completion_text"],
        "rebuilt_text": rebuilt,
        "rebuilt_is_same": rebuilt == stream["completion_text"],
        "positions": [
            {
                "position": position,
                "token": _spelling(tokenizer, completion[position]),
                "structure": bool(struct[position]),
                **_candidates(window, rows_at.get(position), tokenizer),
            }
            for position in range(min(most_rows, len(completion)))
        ],
    }


def _candidates(window: Window, row: int | None, tokenizer: StudentTokenizer) -> dict[str, Any]:
    if row is None:
        return {"candidates": None, "other": None}
    shown = [
        {"token": _spelling(tokenizer, int(index)), "probability": float(np.exp(value))}
        for index, value in zip(window.lists["topk_ids"][row], window.lists["topk_logprobs"][row], strict=True)
    ]
    return {"candidates": shown, "other": float(np.exp(window.column("other_logprob")[row]))}


def _spelling(tokenizer: StudentTokenizer, index: int) -> str:
    return tokenizer.token_bytes(index).decode("utf-8", errors="replace")


def show_text(found: dict[str, Any]) -> str:
    side = "held out" if found["heldout"] else "trained on"
    head = (
        f"sequence {found['prompt_idx']}: {found['prompt_tokens']} + {found['completion_tokens']} tokens, "
        f"{side}, ended by {found['finish_reason']}"
    )
    stored = found["completion_text"]
    same = "as stored" if found["rebuilt_is_same"] else f"NOT as stored, which is {stored!r}"
    rows = [
        [
            one["position"],
            _quoted(one["token"]),
            "{}" if one["structure"] else "",
            None if one["other"] is None else round(one["other"], 4),
            _list(one["candidates"]),
        ]
        for one in found["positions"]
    ]
    parts = [
        head,
        f"── prompt ──\n{found['prompt_text']}",
        f"── completion, rebuilt from its tokens: {same} ──\n{found['rebuilt_text']}",
        render_table("teacher", ["at", "token", "json", "other", "most likely"], rows),
    ]
    left = found["completion_tokens"] - len(rows)
    if left:
        parts.append(f"{left} more positions; --rows {found['completion_tokens']} shows them all.")
    return "\n\n".join(parts)


def _list(candidates: list[dict[str, Any]] | None) -> str:
    if candidates is None:
        return "no row: trained by cross-entropy alone"
    return "  ".join(f"{_quoted(one['token'])} {one['probability']:.3f}" for one in candidates[:_SHOWN_CANDIDATES])


def _quoted(text: str) -> str:
    return repr(text)[1:-1].replace(" ", "␣")
