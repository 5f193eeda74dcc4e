"""`bitnet traces`: what was collected, its faults, a student on it, and its projection onto another tokenizer."""

import argparse
import os
import sys
from pathlib import Path

from bitnet_core.cli.command import Commands, answer, resolution
from bitnet_core.cli.silence import doing
from bitnet_core.errors import UsageError
from bitnet_core.files.typed import typed_path
from bitnet_core.terminal import safe

_BROWSING = ("list", "show", "worst", "rejects", "browse")
_ABOUT = """\
actions:
  stats      figures of the whole set
  list       its prompts, a page at a time
  show       one trace: its text and the teacher's candidates at each token;
             once it was scored, also what the student gives to them
  worst      the tokens where the student is furthest from the teacher;
             before it was scored, those with the most Other mass
  score      let the newest student predict the held-out traces, token by
             token; kept in reports/trace_scores.parquet
  rejects    rejected answers by reason, with examples
  validate   every row that breaks a rule
  project    project the traces onto another tokenizer
  browse     for programs: answer requests, one JSON object a line

"""


def add_to(commands: Commands) -> None:
    about = "look through collected traces, score the student on them, or project them"
    traces = commands.add("traces", about, _traces)
    traces.epilog = _ABOUT + str(traces.epilog)
    traces.add_argument(
        "action",
        choices=("stats", "list", "show", "worst", "score", "rejects", "validate", "project", "browse"),
        metavar="ACTION",
        help="see below",
    )
    traces.add_argument(
        "prompt", nargs="?", type=int, metavar="N", help="show, worst: a trace's number (default: the first; all)"
    )
    traces.add_argument("--rows", type=int, default=20, metavar="N", help="list, show, worst: how many (default: 20)")
    traces.add_argument("--search", default="", metavar="TEXT", help="list: only traces with this text")
    traces.add_argument("--offset", type=int, default=0, metavar="N", help="list: how many to pass over")
    traces.add_argument("--by", choices=("number", "kl", "other"), default="number", help="list: the largest first")
    traces.add_argument("--all", action="store_true", help="score: all traces, not just those that are held out")
    traces.add_argument(
        "--requests", type=_descriptor, metavar="FD", help="browse: read requests here (default: stdin)"
    )
    traces.add_argument("--tokenizer", metavar="T", help="project: a folder, a file, or a name on the hub")
    traces.add_argument("--template", default="", help="project: a chat template instead of the tokenizer's")
    traces.add_argument(
        "--out", type=typed_path, metavar="DIR", help="project: the folder to write (default: beside the traces)"
    )


def _descriptor(text: str) -> int:
    try:
        os.fstat(int(text))
    except (ValueError, OSError, OverflowError):
        raise argparse.ArgumentTypeError("it is not the number of an open file") from None
    return int(text)


def _traces(arguments: argparse.Namespace) -> int:
    if arguments.prompt is not None and arguments.action not in ("show", "worst"):
        raise UsageError(f"bitnet traces {arguments.action} takes no sequence; `bitnet traces show N` shows one.")
    for name in ("rows", "offset"):
        if getattr(arguments, name) < 0:
            raise UsageError(f"--{name} is below 0; give a number of at least 0.")
    if (arguments.action == "project") != (arguments.tokenizer is not None):
        raise UsageError("bitnet traces project needs --tokenizer T, and no other action takes it.")
    if arguments.action in _BROWSING:
        from bitnet_core.cli import browsing

        return browsing.run(arguments)
    if arguments.action == "score":
        from bitnet_core.cli.export import patient_threads

        patient_threads()
        from bitnet_core.cli import scoring

        return scoring.score(arguments)
    from bitnet_core.settings.values import DataOptions, PlaceOptions, TokenizerOptions

    settings = resolution(arguments).settings
    data = DataOptions.of(settings).path or PlaceOptions.of(settings).data
    if arguments.action == "project":
        return _project(arguments, data, TokenizerOptions.of(settings).merge_system)
    from bitnet_core.traces import inspect, stats

    if arguments.action == "validate":
        problems = inspect.validate(data)
        answer(arguments, {"problems": problems}, inspect.validate_text(data, problems))
        return 1 if problems else 0
    report = stats.trace_stats(data)
    answer(arguments, report, "" if arguments.json else stats.stats_text(report))
    return 0


def _project(arguments: argparse.Namespace, data: Path, merge_system: bool) -> int:
    from bitnet_core.traces import reproject

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            safe(sys.stderr).redraw(f"{done}/{total} shards" if done < total else "")
        else:
            doing(f"projecting {total} shards")

    made = reproject.reproject(
        data, arguments.tokenizer, arguments.template, arguments.out, progress, merge_system=merge_system
    )
    answer(arguments, made, "" if arguments.json else reproject.figures_text(made))
    return 0
