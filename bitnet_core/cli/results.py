"""`bitnet compare` and `bitnet report`: what experiments have left, beside each other and as a file."""

import argparse
from typing import TYPE_CHECKING

from bitnet_core.cli.command import (
    Commands,
    answer,
    in_use,
    open_experiment,
    settings_to_look_with,
    terminal_columns,
    warn,
)
from bitnet_core.files.typed import typed_path

if TYPE_CHECKING:
    from bitnet_core.results.compare import Comparison

_PLAIN_WIDTH, _VALUE_CELLS = 100, 48
"""Without a terminal; `--json` has the values whole."""


def add_to(commands: Commands) -> None:
    compare = commands.add("compare", "tell which of 2 to 8 trainings is better, and what differs", _compare)
    compare.add_argument("subjects", nargs="+", metavar="EXPERIMENT", help="its name, its folder, or EXPERIMENT:RUN")
    report = commands.add("report", "write an experiment's report as HTML, or its curves as CSV, SVG or PNG", _report)
    report.add_argument(
        "subject", nargs="?", metavar="EXPERIMENT", help="its name or its folder (default: that of --root)"
    )
    report.add_argument(
        "--run", default="", help="a run of train or eval, or the start of its id (default: the newest)"
    )
    report.add_argument(
        "--to",
        type=typed_path,
        metavar="FILE",
        help="a file that ends in .html, .csv, .svg or .png (default: in its reports)",
    )
    report.add_argument(
        "--as", dest="kind", default="html", choices=("html", "csv", "svg", "png"), help="what goes into its reports"
    )


def _report(arguments: argparse.Namespace) -> int:
    from bitnet_core.results.finding import reader_of
    from bitnet_core.results.saving import default_path, save
    from bitnet_core.results.subject import SubjectReader
    from bitnet_core.settings.places import PlaceOptions

    if arguments.subject is not None:
        reader = reader_of(arguments.subject, PlaceOptions.of(settings_to_look_with(arguments)).home)
        reader.run = arguments.run or reader.run
    else:
        experiment = open_experiment(arguments)
        reader = SubjectReader(lambda: experiment, arguments.run)
    subject = reader.read()
    in_use.require()  # else its folder would be made again
    path = save(subject, arguments.to or default_path(subject, f".{arguments.kind}"))
    answer(arguments, {"path": str(path), "bytes": path.stat().st_size}, f"wrote {path}")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from bitnet_core.results.compare import compare, require_number
    from bitnet_core.results.finding import reader_of
    from bitnet_core.settings.places import PlaceOptions

    require_number(len(arguments.subjects))
    home = PlaceOptions.of(settings_to_look_with(arguments)).home
    found = compare([reader_of(text, home, arguments.root).read() for text in arguments.subjects])
    for subject in found.subjects:
        for problem in filter(None, subject.problem.split("\n")):
            warn(problem)
    answer(arguments, found.record(), _text(found) if not arguments.json else "")
    return 0


def _text(found: "Comparison") -> str:
    from bitnet_core.results.compare import LEGEND
    from bitnet_core.results.differing import shown
    from bitnet_core.tables import render_table
    from bitnet_core.text import crop, wrap

    cells = terminal_columns()
    names = list(found.names)
    lines = [*wrap(found.sentence, min(cells or _PLAIN_WIDTH, _PLAIN_WIDTH)), ""]
    if found.shown:
        rows = [[row.measure.title, *map(row.cell, range(len(names)))] for row in found.shown]
        lines += [render_table("results", ["", *names], rows, cells), f"  {LEGEND}", ""]
    if found.differing:
        settings = [
            [one.name, *(crop(shown(value), _VALUE_CELLS) for value in one.values)] for one in found.differing
        ]
        lines.append(render_table("settings that differ", ["", *names], settings, cells))
    return "\n".join(lines).rstrip()
