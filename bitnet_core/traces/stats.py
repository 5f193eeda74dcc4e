"""Figures of a whole trace set: `bitnet traces stats`. Reads shards window by window, and continues past faults."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bitnet_core.errors import BitnetError, raise_if_not_the_file
from bitnet_core.prompts.parquet import open_parquet
from bitnet_core.tables import render_table
from bitnet_core.text import UNKNOWN, number, share
from bitnet_core.tokenizer.arrays import Int64
from bitnet_core.traces import schema
from bitnet_core.traces.rules import faults
from bitnet_core.traces.shards import Shard, Window, filtered_S
from bitnet_core.traces.split import is_heldout
from bitnet_core.traces.trace_set import open_shards

_EDGES = (0.0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the histogram of Other's mass."""
_BAR = 30
_COUNTED = {
    "recut": "rows whose token the student cuts differently",
    "clamped": "rows scaled down because their candidates left Other no mass",
}


@dataclass
class _Sums:
    """Sums over a trace set; `report` turns them into figures."""

    figures: Counter[str] = field(default_factory=Counter)
    """Sequences, tokens, rows and candidates, by the name of their figure."""
    coverage: float = 0.0
    histogram: Int64 = field(default_factory=lambda: np.zeros(len(_EDGES) - 1, np.int64))
    finish: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    """What collecting counted, summed over the shards."""
    rejected: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    """Rows or sequences that break a rule, by rule."""

    def add(self, shard: Shard, window: Window) -> None:
        for count in pc.value_counts(window.streams.column("finish_reason")).to_pylist():
            self.finish[str(count["values"])] += count["counts"]
        bad_N = np.zeros(len(window.rows), bool)
        for fault in faults(shard, window):
            self.broken[fault.reason] += len(fault.rows)
            if fault.path == shard.path:
                bad_N[fault.rows - window.first_row] = True
        ids = window.lists["topk_ids"]
        sampled_M = ids.values == window.column("teacher_sample_id")[ids.owners]
        sampled_in_top_N = np.bincount(ids.owners[sampled_M], minlength=len(bad_N)) > 0
        self.figures.update(
            sequences=len(window.streams),
            cut_by_filter=int(filtered_S(window.streams).sum()),
            heldout=sum(map(is_heldout, window.streams.column("sequence_hash").drop_null().to_pylist())),
            prompt_tokens=len(window.lists["prompt_ids"].values),
            completion_tokens=len(window.lists["completion_ids"].values),
            structure_tokens=int(window.lists["is_struct"].values.sum()),
            rows=len(window.rows),
            faulty_rows=int(bad_N.sum()),
            candidates=int(ids.lengths[~bad_N].sum()),
            sampled_in_top=int(sampled_in_top_N[~bad_N].sum()),
        )
        other_N = np.exp(window.column("other_logprob")[~bad_N].astype(np.float64))
        self.coverage += float((1 - other_N).sum())
        self.histogram += np.histogram(other_N.clip(0, 1), _EDGES)[0]

    def report(self, metadata: schema.TraceMetadata) -> dict[str, Any]:
        figures = self.figures
        sound = figures["rows"] - figures["faulty_rows"]
        return {
            "provider": metadata.provider,
            "teacher": metadata.teacher,
            "tokenizer": metadata.tokenizer,
            "vocab_size": metadata.vocab_size,
            "top_k": metadata.top_k,
            "shards": figures["shards"],
            "sequences": figures["sequences"],
            "heldout_sequences": figures["heldout"],
            "finish_reasons": dict(self.finish.most_common()),
            "cut_by_filter": figures["cut_by_filter"],
            "prompt_tokens": figures["prompt_tokens"],
            "completion_tokens": figures["completion_tokens"],
            "structure_tokens": figures["structure_tokens"],
            "rows": figures["rows"],
            "positions_without_row": figures["completion_tokens"] - figures["rows"],
            "faulty_rows": figures["faulty_rows"],
            "broken_rules": dict(self.broken.most_common()),
            "candidates_per_row": _ratio(figures["candidates"], sound),
            "mean_coverage": _ratio(self.coverage, sound),
            "sampled_in_top_share": _ratio(figures["sampled_in_top"], sound),
            "other_mass_histogram": [
                {"from": low, "to": high, "rows": int(count), "share": _ratio(int(count), sound)}
                for low, high, count in zip(_EDGES[:-1], _EDGES[1:], self.histogram, strict=True)
            ],
            "answers": figures["answers"],
            "rejected_sequences": dict(self.rejected.most_common()),
            "collection_counts": dict(self.counts),
        }


def trace_stats(data_dir: Path) -> dict[str, Any]:
    """Figures of a whole trace set; rows that break a rule are counted and left out of the means."""
    sums = _Sums()
    shards = open_shards(data_dir)
    for shard in shards:
        sums.figures["shards"] += 1
        sums.counts.update(shard.metadata.counts)
        for window in shard.windows():
            sums.add(shard, window)
    sums.rejected, sums.figures["answers"] = _rejected(data_dir)
    return sums.report(shards[0].metadata)


def _rejected(data_dir: Path) -> tuple[Counter[str], int]:
    """Answers that were rejected, by reason; and the number of all answers."""
    path = data_dir / schema.SEQUENCES_FILE
    try:
        with open_parquet(path, names := ["rejected"]) as file:
            column = file.read(names).column(0)
            column.validate(full=True)
    except FileNotFoundError:
        return Counter(), 0
    except (pa.ArrowException, OSError, KeyError, IndexError) as error:
        raise_if_not_the_file(error, path)
        raise BitnetError(f"{path} is damaged or not Parquet; run `bitnet collect` again to write it.") from error
    return Counter(reason for reason in column.to_pylist() if reason), len(column)


def rejected_tokens(data_dir: Path) -> tuple[int | None, int | None]:
    """The teacher's tokens in rejected answers, and in all answers; None where the traces don't say."""
    path = data_dir / schema.SEQUENCES_FILE
    try:
        with open_parquet(path, names := ["rejected", "completion_tokens"]) as file:
            table = file.read(names)
            table.validate(full=True)
    except (FileNotFoundError, KeyError):
        return None, None
    except (pa.ArrowException, OSError, IndexError) as error:
        raise_if_not_the_file(error, path)
        raise BitnetError(f"{path} is damaged or not Parquet; run `bitnet collect` again to write it.") from error
    tokens = table.column("completion_tokens").to_pylist()
    if any(count is None for count in tokens):
        return None, None
    reasons = table.column("rejected").to_pylist()
    return sum(count for count, reason in zip(tokens, reasons, strict=True) if reason), sum(tokens)


def stats_text(report: dict[str, Any]) -> str:
    """The figures as two tables and a histogram."""
    tables = [
        render_table("traces", ["figure", "value"], _figures(report)),
        render_table("mass outside the top-k", ["other mass", "rows", "share", "drawn"], _histogram(report)),
        render_table("invalid or repaired, by reason", ["what", "how many"], _invalid(report)),
    ]
    if report["broken_rules"]:
        tables.append("`bitnet traces validate` names the rows.")
    return "\n\n".join(tables)


def _figures(report: dict[str, Any]) -> list[list[str]]:
    tokens = report["completion_tokens"]
    return [
        ["teacher", f"{report['teacher']} ({report['provider']})"],
        ["tokenizer", f"{report['tokenizer']}, {report['vocab_size']:,} tokens"],
        ["sequences", f"{report['sequences']:,} in {report['shards']} shards"],
        ["held out by hash", f"{report['heldout_sequences']:,}"],
        ["prompt tokens", f"{report['prompt_tokens']:,}"],
        ["completion tokens", f"{tokens:,}"],
        ["JSON structure", _withshare(report["structure_tokens"], tokens)],
        ["rows (tokens with a teacher)", _withshare(report["rows"], tokens)],
        ["candidates per row", f"{number(report['candidates_per_row'])} of at most {report['top_k']}"],
        ["mean mass of the top-k", number(report["mean_coverage"])],
        ["sampled token in the top-k", number(report["sampled_in_top_share"])],
        ["ended by", ", ".join(f"{name} {count:,}" for name, count in report["finish_reasons"].items()) or UNKNOWN],
    ]


def _histogram(report: dict[str, Any]) -> list[list[Any]]:
    bins = report["other_mass_histogram"]
    most = max((one["rows"] for one in bins), default=0)
    return [
        [
            f"{one['from']:g} … {one['to']:g}",
            one["rows"],
            share(one["share"]),
            "█" * round(_BAR * one["rows"] / most) if most else "",
        ]
        for one in bins
    ]


def _invalid(report: dict[str, Any]) -> list[list[str]]:
    rows, counts = report["rows"], report["collection_counts"]
    table = [
        ["rows that break a rule", _withshare(report["faulty_rows"], rows)],
        ["tokens without a teacher's row", _withshare(report["positions_without_row"], report["completion_tokens"])],
    ]
    table += [[f"  {reason}", f"{count:,}"] for reason, count in report["broken_rules"].items()]
    table += [[meaning, _withshare(counts[name], rows)] for name, meaning in _COUNTED.items() if counts.get(name)]
    if counts.get("unreported"):
        table.append(["bytes of text without logprobs", f"{counts['unreported']:,}"])
    if cut := report["cut_by_filter"]:
        table.append(["sequences left out: a content filter cut the answer", _withshare(cut, report["sequences"])])
    for reason, count in report["rejected_sequences"].items():
        table.append([f"answers rejected: {reason}", _withshare(count, report["answers"])])
    return table


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _withshare(part: int, whole: int) -> str:
    return f"{part:,} ({share(_ratio(part, whole))})"
