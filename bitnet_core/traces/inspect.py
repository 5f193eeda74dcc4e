"""What is in a trace set, for people: figures, one sequence as the student sees it, and every row that is wrong.

`stats` and `validate` read the Parquet shards window by window and go on past faults; `show` reads one sequence.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.text import number, render_table
from bitnet_core.tokenizer.load import WRITTEN_AGAIN, load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import schema
from bitnet_core.traces.dataset import is_heldout
from bitnet_core.traces.shards import Shard, Window, require_one_configuration, shards_in

_EDGES = (0.0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the histogram of the other mass, that is of 1 − the coverage of the top-k."""
_BAR = 30
_SHOWN_CANDIDATES = 5
_OTHER_TEXT = "completion_text is not what completion_ids spell"


# -- stats -------------------------------------------------------------------------------------------


@dataclass
class Stats:
    """Sums over a trace set; `report` makes figures of them."""

    shards: int = 0
    sequences: int = 0
    heldout: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    structure_tokens: int = 0
    rows: int = 0
    candidates: int = 0
    sampled_in_top: int = 0
    faulty_rows: int = 0
    coverage: float = 0.0
    histogram: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_EDGES) - 1, np.int64))
    finish: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    """What collection counted, summed over the shards."""
    rejected: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    """Rows or sequences that break a rule, by rule."""

    def add(self, shard: Shard, window: Window) -> None:
        self.sequences += len(window.streams)
        self.heldout += sum(map(is_heldout, window.streams.column("sequence_hash").drop_null().to_pylist()))
        self.prompt_tokens += len(window.prompts.values)
        self.completion_tokens += len(window.completions.values)
        self.structure_tokens += int(window.struct.values.sum())
        for count in pc.value_counts(window.streams.column("finish_reason")).to_pylist():
            self.finish[str(count["values"])] += count["counts"]
        bad_N = np.zeros(len(window.rows), bool)
        for fault in shard.faults(window):
            self.broken[fault.reason] += len(fault.rows)
            if fault.path == shard.path:
                bad_N[fault.rows - window.first_row] = True
        self.rows += len(window.rows)
        self.faulty_rows += int(bad_N.sum())
        ids = window.topk_ids
        sampled_M = ids.values == window.column("teacher_sample_id")[ids.owners]
        self.candidates += int(ids.lengths[~bad_N].sum())
        self.sampled_in_top += int((np.bincount(ids.owners[sampled_M], minlength=len(bad_N))[~bad_N] > 0).sum())
        other_N = np.exp(window.column("other_logprob")[~bad_N].astype(np.float64))
        self.coverage += float((1 - other_N).sum())
        self.histogram += np.histogram(other_N.clip(0, 1), _EDGES)[0]

    def report(self, metadata: schema.TraceMetadata) -> dict[str, Any]:
        sound = self.rows - self.faulty_rows
        return {
            "provider": metadata.provider,
            "teacher": metadata.teacher,
            "tokenizer": metadata.tokenizer,
            "vocab_size": metadata.vocab_size,
            "top_k": metadata.top_k,
            "shards": self.shards,
            "sequences": self.sequences,
            "heldout_sequences": self.heldout,
            "finish_reasons": dict(self.finish.most_common()),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "structure_tokens": self.structure_tokens,
            "rows": self.rows,
            "positions_without_row": self.completion_tokens - self.rows,
            "faulty_rows": self.faulty_rows,
            "broken_rules": dict(self.broken.most_common()),
            "candidates_per_row": _ratio(self.candidates, sound),
            "mean_coverage": _ratio(self.coverage, sound),
            "sampled_in_top_share": _ratio(self.sampled_in_top, sound),
            "other_mass_histogram": [
                {"from": low, "to": high, "rows": int(count), "share": _ratio(int(count), sound)}
                for low, high, count in zip(_EDGES[:-1], _EDGES[1:], self.histogram, strict=True)
            ],
            "answers": self.answered,
            "rejected_sequences": dict(self.rejected.most_common()),
            "collection_counts": dict(self.counts),
        }


def stats(data_dir: Path) -> dict[str, Any]:
    """Figures of a whole trace set; rows that break a rule are counted and left out of the means."""
    sums = Stats()
    shards = [Shard(path) for path in shards_in(data_dir)]
    for shard in shards:
        require_one_configuration(shard, shards[0])
        sums.shards += 1
        sums.counts.update(shard.metadata.counts)
        for window in shard.windows():
            sums.add(shard, window)
    sums.rejected, sums.answered = _rejected(data_dir)
    return sums.report(shards[0].metadata)


def _rejected(data_dir: Path) -> tuple[Counter[str], int]:
    """Answered prompts that collection refused, by reason; and the number of all answers."""
    path = data_dir / schema.SEQUENCES_FILE
    try:
        column = pq.read_table(path, columns=["rejected"]).column(0)
    except FileNotFoundError:
        return Counter(), 0
    except (pa.ArrowException, OSError, KeyError) as error:
        raise BitnetError(f"{path} is truncated or not Parquet; run `bitnet collect` again to write it.") from error
    return Counter(reason for reason in column.to_pylist() if reason), len(column)


def stats_text(report: dict[str, Any]) -> str:
    """The figures as two tables and a histogram."""
    tokens, rows = report["completion_tokens"], report["rows"]
    figures: list[list[Any]] = [
        ["teacher", f"{report['teacher']} ({report['provider']})"],
        ["tokenizer", f"{report['tokenizer']}, {report['vocab_size']:,} tokens"],
        ["sequences", f"{report['sequences']:,} in {report['shards']} shards"],
        ["held out by hash", f"{report['heldout_sequences']:,}"],
        ["prompt tokens", f"{report['prompt_tokens']:,}"],
        ["completion tokens", f"{tokens:,}"],
        ["JSON structure", _of(report["structure_tokens"], tokens)],
        ["rows (tokens with a teacher)", _of(rows, tokens)],
        ["candidates per row", f"{number(report['candidates_per_row'])} of at most {report['top_k']}"],
        ["mean mass of the top-k", number(report["mean_coverage"])],
        ["sampled token in the top-k", number(report["sampled_in_top_share"])],
        ["ended by", ", ".join(f"{name} {count:,}" for name, count in report["finish_reasons"].items()) or "–"],
    ]
    most = max((bin_["rows"] for bin_ in report["other_mass_histogram"]), default=0)
    histogram = [
        [
            f"{bin_['from']:g} … {bin_['to']:g}",
            bin_["rows"],
            _percent(bin_["share"]),
            "█" * round(_BAR * bin_["rows"] / most) if most else "",
        ]
        for bin_ in report["other_mass_histogram"]
    ]
    invalid: list[list[Any]] = [["rows that break a rule", _of(report["faulty_rows"], rows)]]
    invalid.append(["tokens without a teacher's row", _of(report["positions_without_row"], tokens)])
    counts = report["collection_counts"]
    invalid += [[f"  {reason}", f"{count:,}"] for reason, count in report["broken_rules"].items()]
    for name, meaning in _COUNTED.items():
        if counts.get(name):
            invalid.append([meaning, _of(counts[name], rows)])
    if counts.get("unreported"):
        invalid.append(["bytes of text that came without logprobs", f"{counts['unreported']:,}"])
    for reason, count in report["rejected_sequences"].items():
        invalid.append([f"answers rejected: {reason}", _of(count, report["answers"])])
    parts = [
        render_table("traces", ["figure", "value"], figures),
        render_table("mass outside the top-k", ["other mass", "rows", "share", "drawn"], histogram),
        render_table("invalid or mended, by reason", ["what", "how many"], invalid),
    ]
    if report["broken_rules"]:
        parts.append("`bitnet traces validate` names the rows.")
    return "\n\n".join(parts)


_COUNTED = {
    "recut": "rows of tokens that the student cuts otherwise",
    "clamped": "rows whose candidates left Other no mass, scaled down",
}


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _of(part: int, whole: int) -> str:
    return f"{part:,} ({_percent(_ratio(part, whole))})"


# -- validate ----------------------------------------------------------------------------------------


def validate(data_dir: Path) -> list[dict[str, Any]]:
    """Every rule that is broken, by file: reason, number of rows, the first of them. Empty: nothing is wrong."""
    tokenizer = _tokenizer(data_dir)
    found: dict[tuple[Path, str], list[int]] = {}
    problems: list[dict[str, Any]] = []
    first: Shard | None = None
    for path in shards_in(data_dir):
        try:
            shard = Shard(path)
            first = first or shard
            require_one_configuration(shard, first)
            for window in shard.windows():
                broken = False
                for fault in shard.faults(window):
                    broken = True
                    seen = found.setdefault((fault.path, fault.reason), [0, int(fault.rows[0])])
                    seen[0] += len(fault.rows)
                if tokenizer and not broken and (rows := _other_text(window, tokenizer)):
                    seen = found.setdefault((shard.stream_path, _OTHER_TEXT), [0, rows[0]])
                    seen[0] += len(rows)
        except BitnetError as error:
            problems.append({"file": str(path), "reason": str(error), "rows": None, "first_row": None})
    problems += [
        {"file": str(path), "reason": reason, "rows": count, "first_row": row}
        for (path, reason), (count, row) in found.items()
    ]
    return problems


def validate_text(data_dir: Path, problems: Sequence[dict[str, Any]]) -> str:
    if not problems:
        return f"{data_dir}: nothing is wrong"
    rows = [[Path(one["file"]).name, one["rows"], one["first_row"], one["reason"]] for one in problems]
    return render_table("what is wrong", ["file", "rows", "first row", "reason"], rows)


def _other_text(window: Window, tokenizer: StudentTokenizer) -> list[int]:
    """Rows of the stream file whose tokens don't spell the completion that stands beside them."""
    texts = window.streams.column("completion_text").to_pylist()
    starts = window.completions.starts
    return [
        window.first_sequence + place
        for place, text in enumerate(texts)
        if tokenizer.decode(window.completions.values[starts[place] : starts[place + 1]].tolist()) != text
    ]


def _tokenizer(data_dir: Path) -> StudentTokenizer | None:
    folder = data_dir / schema.TOKENIZER_FOLDER
    return load_tokenizer(folder, fix=WRITTEN_AGAIN) if folder.is_dir() else None


# -- show --------------------------------------------------------------------------------------------


def show(data_dir: Path, prompt_idx: int | None, most_rows: int) -> dict[str, Any]:
    """One sequence: its texts, the text its tokens spell, and the teacher's candidates at each position."""
    paths, tokenizer = shards_in(data_dir), _tokenizer(data_dir)
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
                for fault in shard.faults(window):
                    raise fault.error()
                return _sequence(window, at.index(wanted), tokenizer, most_rows)
    if prompt_idx is None:
        raise BitnetError(f"The traces in {data_dir} hold no sequence; run `bitnet collect` again.")
    raise UsageError(f"{data_dir} has no sequence {prompt_idx}; `bitnet traces stats` says how many there are.")


def _sequence(window: Window, place: int, tokenizer: StudentTokenizer, most_rows: int) -> dict[str, Any]:
    def tokens(ragged: Any) -> list[int]:
        found: list[int] = ragged.values[ragged.starts[place] : ragged.starts[place + 1]].tolist()
        return found

    stream = window.streams.slice(place, 1).to_pylist()[0]
    completion, struct = tokens(window.completions), tokens(window.struct)
    rows_at = {int(window.column("stream_pos")[row]): int(row) for row in np.flatnonzero(window.sequence_N == place)}
    rebuilt = tokenizer.decode(completion)
    return {
        "prompt_idx": stream["prompt_idx"],
        "heldout": is_heldout(stream["sequence_hash"]),
        "finish_reason": stream["finish_reason"],
        "prompt_tokens": len(tokens(window.prompts)),
        "completion_tokens": len(completion),
        "prompt_text": stream["prompt_text"],
        "completion_text": stream["completion_text"],
        "rebuilt_text": rebuilt,
        "rebuilt_is_same": rebuilt == stream["completion_text"],
        "positions": [
            {
                "position": position,
                "token": _spelled(tokenizer, completion[position]),
                "structure": bool(struct[position]),
                **_candidates(window, rows_at.get(position), tokenizer),
            }
            for position in range(min(most_rows, len(completion)))
        ],
    }


def _candidates(window: Window, row: int | None, tokenizer: StudentTokenizer) -> dict[str, Any]:
    if row is None:
        return {"candidates": None, "other": None}
    begin, end = window.topk_ids.starts[row], window.topk_ids.starts[row + 1]
    pairs = zip(window.topk_ids.values[begin:end], window.topk_logprobs.values[begin:end], strict=True)
    shown = [
        {"token": _spelled(tokenizer, int(index)), "probability": float(np.exp(value))} for index, value in pairs
    ]
    return {"candidates": shown, "other": float(np.exp(window.column("other_logprob")[row]))}


def _spelled(tokenizer: StudentTokenizer, index: int) -> str:
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
    parts = [head, f"── prompt ──\n{found['prompt_text']}", f"── completion, rebuilt from its tokens: {same} ──"]
    parts[-1] += f"\n{found['rebuilt_text']}"
    parts.append(render_table("teacher", ["at", "token", "json", "other", "most likely"], rows))
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
