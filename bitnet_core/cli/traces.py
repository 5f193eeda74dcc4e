"""`bitnet traces`: what was collected, its faults, and its projection onto another tokenizer."""

import argparse
import sys
from pathlib import Path

from bitnet_core.cli.command import Commands, answer, resolution
from bitnet_core.errors import UsageError
from bitnet_core.terminal import safe


def add_to(commands: Commands) -> None:
    traces = commands.add("traces", "inspect collected traces, or project them onto another tokenizer", _traces)
    traces.add_argument("action", choices=("stats", "show", "validate", "project"))
    traces.add_argument(
        "prompt", nargs="?", type=int, metavar="N", help="show: the sequence's prompt_idx (default: the first)"
    )
    traces.add_argument("--rows", type=int, default=20, metavar="N", help="show: positions to list (default: 20)")
    traces.add_argument("--tokenizer", metavar="T", help="project: a folder, a file, or a name on the hub")
    traces.add_argument("--template", default="", help="project: a chat template instead of the tokenizer's")
    traces.add_argument(
        "--out", type=Path, metavar="DIR", help="project: the folder to write (default: beside the traces)"
    )


def _traces(arguments: argparse.Namespace) -> int:
    if arguments.prompt is not None and arguments.action != "show":
        raise UsageError(f"bitnet traces {arguments.action} takes no sequence; `bitnet traces show N` shows one.")
    if arguments.rows < 0:
        raise UsageError("--rows is below 0; give the number of positions to list.")
    from bitnet_core.settings.values import DataOptions, PlaceOptions, TokenizerOptions

    settings = resolution(arguments).settings
    data = DataOptions.of(settings).path or PlaceOptions.of(settings).data
    if (arguments.action == "project") != (arguments.tokenizer is not None):
        raise UsageError("bitnet traces project needs --tokenizer T, and no other action takes it.")
    if arguments.action == "project":
        return _project(arguments, data, TokenizerOptions.of(settings).merge_system)
    from bitnet_core.traces import inspect, stats

    if arguments.action == "validate":
        problems = inspect.validate(data)
        answer(arguments, {"problems": problems}, inspect.validate_text(data, problems))
        return 1 if problems else 0
    if arguments.action == "stats":
        report = stats.trace_stats(data)
        answer(arguments, report, "" if arguments.json else stats.stats_text(report))
    else:
        sequence = inspect.show(data, arguments.prompt, arguments.rows)
        answer(arguments, sequence, "" if arguments.json else inspect.show_text(sequence))
    return 0


def _project(arguments: argparse.Namespace, data: Path, merge_system: bool) -> int:
    from bitnet_core.traces import reproject

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            safe(sys.stderr).redraw(f"{done}/{total} shards" if done < total else "")

    made = reproject.reproject(
        data, arguments.tokenizer, arguments.template, arguments.out, progress, merge_system=merge_system
    )
    answer(arguments, made, "" if arguments.json else reproject.figures_text(made))
    return 0
