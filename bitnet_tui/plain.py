"""The experiments as plain text: for pipes, screen readers and terminals that can't move their cursor."""

import time
from collections.abc import Container
from pathlib import Path

from bitnet_core.files.trees import measure
from bitnet_core.text import ago, capital, count, significant, size
from bitnet_tui.view.experiment_list import copy_words, qei
from bitnet_tui.view.stage_rows import StageRow, ending_with, running
from bitnet_tui.view.states import look
from bitnet_tui.view.stopping import keeps
from bitnet_tui.view.watch import ExperimentWatcher
from bitnet_tui.view.workspace import ExperimentRow, WorkspaceWatcher, row_of


def listing(home: Path, root: Path | None = None) -> str:
    """Every experiment, or only the one at `root`, with one line per stage."""
    rows = _rows(home, root)
    if not rows:
        return f"No experiments in {home}. `bitnet demo` creates one and runs it; it needs no key.\n"
    return "\n".join(_block(row, home) for row in rows)


def going_on(home: Path, root: Path | None, stops_sent: Container[str]) -> list[str]:
    """A sentence for every run that is active. `stops_sent` are the runs that were asked to stop."""
    said = []
    for row in _rows(home, root):
        if (stage := running(row.stages)) is None:
            continue
        ends = ending_with(stage, row.stages)
        if any(one.run_id in stops_sent for one in ends):
            saves = " It saves its work first." if keeps(stage.name, ends) else ""
            said.append(f"{stage.name} in {row.name} is stopping.{saves}")
        else:
            said.append(f"{stage.name} in {row.name} keeps running; open bitnet-tui again to watch it.")
    return said


def _rows(home: Path, root: Path | None) -> tuple[ExperimentRow, ...]:
    rows = WorkspaceWatcher(home).look()
    if root is not None and all(row.root != root for row in rows):
        rows = (*rows, row_of(root, home))
    return tuple(row for row in rows if (not row.hidden if root is None else row.root == root))


def _block(row: ExperimentRow, home: Path) -> str:
    last = f", {qei(row)}" if row.qei is not None else ""
    lines = [
        f"{row.name}  ({ago(row.touched, time.time())}{last})",
        *(f"  {text}" for text in (*row.problem.split("\n"), *row.unreadable.split("\n")) if text),
    ]
    watcher = ExperimentWatcher(row.root, home)
    for stage in row.stages:
        state = look(stage.shown_state)
        word, note = (stage.note, "") if stage.copied else (state.word, stage.note)
        lines.append(f"  {state.glyph} {stage.name:<9} {word:<12} {note}".rstrip())
        told = _health(watcher, stage) if stage.active else capital(stage.error).split("\n")
        lines += [f"      {words}" for words in told if words]
    return "\n".join([*lines, *(f"  {words}" for words in _facts(row))]) + "\n"


def _health(watcher: ExperimentWatcher, stage: StageRow) -> list[str]:
    """How the active run of the stage does, in sentences. Reads all of its events."""
    run = watcher.look(stage.name).run
    return [" ".join(filter(None, (one.words, one.advice))) for one in (run.health if run else ())]


def _facts(row: ExperimentRow) -> list[str]:
    """What the table of experiments has in columns, each named, as a line; empty where nothing is known."""
    figures = row.figures
    changed = " (outdated)" if row.training_outdated else ""
    trained = []
    if figures.broken or figures.held_out is not None:
        better = f", {significant(figures.kept[1])} in the best checkpoint" if figures.kept else ""
        rose = f", up from {significant(figures.first)} at the start" if figures.worse and not figures.broken else ""
        trained.append(
            f"held-out loss {'NaN' if figures.broken else significant(figures.held_out)}{rose}{better}{changed}"
        )
    if figures.seen is not None:
        of = f" of {count(figures.budget)}" if figures.budget is not None else ""
        trained.append(f"{count(figures.seen)}{of} tokens")
    if figures.source:
        trained.append(figures.source)
    if figures.bits is not None:
        trained.append(f"activations of {figures.bits:.0f} bits{figures.layers}")
    named = [f"{name} {value}" for name, value in (("student", row.student), ("teacher", row.teacher)) if value]
    kept = [copy_words(row.stored), *_size(row.root)]
    return [", ".join(one) for one in (trained, named, kept) if one]


def _size(root: Path) -> list[str]:
    try:
        return [size(measure(root).bytes)]
    except OSError:
        return []
