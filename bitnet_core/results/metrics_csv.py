"""The figures of a training as CSV: one row a report, over all runs that the training consists of."""

import csv
from collections.abc import Iterator, Sequence
from typing import TextIO

from msgspec import UNSET

from bitnet_core.results.subject import StageRun
from bitnet_core.runs.chain import counted, place_of
from bitnet_core.runs.event_files import each_event
from bitnet_core.runs.events import Metric
from bitnet_core.text import finite, flat

COLUMNS = (
    *("run", "t", "step", "seen_tokens", "when", "loss", "kl", "ce", "format", "agreement"),
    *("heldout_loss", "heldout_kl", "heldout_ce", "heldout_agreement", "heldout_tokens"),
    *("lr", "grad_norm", "grad_norm_clipped", "tokens_per_s", "activation_bits", "layers_at_4_bits"),
    "quantized_share",
    *("zero_weight_fraction", "sign_change_fraction", "a4_clipped_fraction", "a4_zero_fraction"),
    *("nonfinite", "epoch", "peak_rss_bytes", "peak_device_bytes"),
)


def write(newest_first: Sequence[StageRun], out: TextIO) -> int:
    """Write every row; returns how many. What was lost because a later run resumed before it is left out.

    An empty cell is a figure that was not reported, or was not finite.
    """
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    rows = 0
    for run, end in reversed(list(counted(newest_first))):
        for row in _rows(run, end):
            table.writerow(row)
            rows += 1
    return rows


def _rows(run: StageRun, end: float) -> Iterator[list[object]]:
    for event in each_event(run.events):
        if not isinstance(event, Metric):
            continue
        x = place_of(event)
        if x is not None and x <= end:
            yield [_cell(run.id), *(_cell(getattr(event, name)) for name in COLUMNS[1:])]


def _cell(value: object) -> object:
    """Finite numbers as they are. A spreadsheet must not take a text for a formula, nor a terminal for a command."""
    if isinstance(value, str):
        shown = flat(value)
        return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown
    return "" if value is UNSET or finite(value) is None else value
