"""`bitnet compare`: what experiments have left, beside each other."""

import argparse
from typing import TYPE_CHECKING

from bitnet_core.cli.command import Commands, answer, settings_to_look_with, terminal_columns

if TYPE_CHECKING:
    from bitnet_core.results.compare import Comparison

_PLAIN_WIDTH = 100


def add_to(commands: Commands) -> None:
    compare = commands.add("compare", "tell which of 2 to 8 trainings is better, and what differs", _compare)
    compare.add_argument("subjects", nargs="+", metavar="EXPERIMENT", help="its name, its folder, or EXPERIMENT:RUN")


def _compare(arguments: argparse.Namespace) -> int:
    from bitnet_core.results.compare import compare, require_number
    from bitnet_core.results.finding import reader_of
    from bitnet_core.settings.places import PlaceOptions

    require_number(len(arguments.subjects))
    home = PlaceOptions.of(settings_to_look_with(arguments)).home
    found = compare([reader_of(text, home).read() for text in arguments.subjects])
    answer(arguments, found.record(), _text(found) if not arguments.json else "")
    return 0


def _text(found: "Comparison") -> str:
    from bitnet_core.results.compare import LEGEND
    from bitnet_core.text import render_table, wrap

    cells = terminal_columns()
    names = list(found.names)
    lines = [*wrap(found.sentence, min(cells or _PLAIN_WIDTH, _PLAIN_WIDTH)), ""]
    if found.rows:
        rows = [[row.measure.title, *map(row.cell, range(len(names)))] for row in found.rows]
        lines += [render_table("results", ["", *names], rows, cells), f"  {LEGEND}", ""]
    if found.differing:
        settings = [[one.name, *one.values] for one in found.differing]
        lines.append(render_table("settings that differ", ["", *names], settings, cells))
    return "\n".join(lines).rstrip()
