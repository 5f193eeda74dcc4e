"""The checkpoints of an experiment as rows, read from their health files: step, tokens, loss, bits, size, copy."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.runs import exports
from bitnet_core.runs.experiment import unreadable_words
from bitnet_core.runs.export_run import ExportRun
from bitnet_core.runs.exports import Exported
from bitnet_core.runs.outlook import Outlook
from bitnet_core.settings.storage import StorageOptions
from bitnet_core.settings.values import flip_fraction_at
from bitnet_core.storage.status import CopyStatus
from bitnet_core.storage.steps import complete_steps, older, step_of
from bitnet_core.text import (
    UNKNOWN,
    ago,
    count,
    crop,
    finite,
    flat,
    in_layers,
    natural,
    pad,
    share,
    significant,
    size,
    width,
)
from bitnet_tui import key_names
from bitnet_tui.labels import label
from bitnet_tui.remedies import actions_in, in_app
from bitnet_tui.services import exporting
from bitnet_tui.services.settings import experiment_at, require_experiment
from bitnet_tui.view import starting
from bitnet_tui.view.copy import KnownCopy, target_of
from bitnet_tui.view.exports import names
from bitnet_tui.view.json_files import JsonFiles
from bitnet_tui.view.offered import wrapped_links
from bitnet_tui.view.spans import Line, Span, first_lines, line, wrapped

_MOST_BYTES = 1 << 20
_STORED = {
    "stored": ("✓ stored", "good"),
    "waiting": ("▲ waits", "warn"),
    "here": ("· unsent", "label"),
    "stays": ("· stays", "label"),
    "": ("", ""),
}


@dataclass(frozen=True)
class Saved:
    """One checkpoint. Without a health file it was not written completely, and `whole` is False."""

    path: Path
    step: int
    bytes: int
    written: float
    whole: bool = True
    tokens: int | None = None
    budget: int | None = None
    loss: float | None = None
    agreement: float | None = None
    bits: int | None = None
    layers_at_4_bits: int = 0
    layers: int | None = None
    trained_on: str = ""
    best: bool = False
    newest: bool = False
    copy: str = ""
    """`stored`, `waiting`, `here`: sent by the next push, `stays`: by none; empty if there is no storage target."""
    ternary: bool = True
    """Not before the end of QUANT_RAMP_FRACTION."""
    exported: tuple[Exported, ...] = ()
    """Its exports that are in the experiment."""

    @property
    def fraction(self) -> str:
        """The FLIP_FRACTION that would flip here; empty if it has flipped, or that isn't known."""
        if not self.whole or not self.ternary or self.bits != 8 or self.layers_at_4_bits:
            return ""
        if self.tokens is None or self.budget is None:
            return ""
        return flip_fraction_at(self.tokens, self.budget) if 0 < self.tokens <= self.budget else ""


@dataclass(frozen=True)
class CheckpointsView:
    """Newest first. `aside` counts the sets of older checkpoints that were moved to `superseded`.

    `unusable` has a sentence about each export that can't be used. `export` is the last one that was begun, unless
    its checkpoint is gone, or what it has made.
    """

    rows: tuple[Saved, ...] = ()
    problem: str = ""
    aside: int = 0
    unusable: tuple[str, ...] = ()
    export: ExportRun | None = None

    def row(self, step: str | None) -> Saved | None:
        return next((row for row in self.rows if str(row.step) == step), None)


@dataclass
class CheckpointReader:
    """Reads a health file again only if it has changed. For one thread."""

    root: Path
    home: Path
    _health: JsonFiles = field(default_factory=lambda: JsonFiles(_MOST_BYTES))
    _known: KnownCopy = field(default_factory=KnownCopy)

    def read(self) -> CheckpointsView:
        try:
            require_experiment(self.root)
            experiment, _ = experiment_at(self.root, self.home)
            if not target_of(experiment.settings)[0]:
                return self._rows(experiment.checkpoints, None)
            sends_all = StorageOptions.of(experiment.settings).checkpoints == "all"
            return self._rows(experiment.checkpoints, self._known.of(experiment), sends_all=sends_all)
        except BitnetError as error:
            return CheckpointsView(problem=str(error))
        except OSError as error:
            return CheckpointsView(problem=unreadable_words(self.root, error))

    def _rows(self, folder: Path, copy: CopyStatus | None, *, sends_all: bool = False) -> CheckpointsView:
        names = [f"checkpoints/{path.name}" for path in folder.glob("*")]
        found = [(step_of(name), folder / Path(name).name) for name in names if name.endswith(".pt")]
        steps = {step: path for step, path in found if step is not None}
        health = {step: self._health.read(path.with_name(f"{path.stem}_health.json")) for step, path in steps.items()}
        whole = [step for step, found in health.items() if found]
        alone = frozenset() if sends_all else older(steps, complete_steps(names), health.__getitem__)
        newest = max(whole, default=None)
        best = _best(health[newest]) if newest is not None else None
        rows = [
            saved
            for step, path in sorted(steps.items(), reverse=True)
            if (saved := _saved(path, step, health[step], copy, best=step == best, newest=step == newest))
        ]
        rows = [replace(row, copy="stays") if row.copy == "here" and row.step in alone else row for row in rows]
        damaged: dict[Path, str] = {}
        made = exports.of(self.root, damaged)
        rows = [replace(row, exported=_exports_of(row, health[row.step], made)) for row in rows]
        aside = sum(1 for one in (folder / "superseded").glob("*") if one.is_dir())
        unusable = tuple(exports.unusable_words(path, why) for path, why in sorted(damaged.items()))
        return CheckpointsView(tuple(rows), "", aside, unusable, _still_told(exporting.seen(self.root), rows))


def _exports_of(row: Saved, health: dict[str, Any], made: tuple[Exported, ...]) -> tuple[Exported, ...]:
    """Those of this file: a training that began again has other checkpoints of the same steps."""
    return tuple(one for one in made if (one.step, one.sha256) == (row.step, health.get("sha256")))


def _still_told(export: ExportRun | None, rows: list[Saved]) -> ExportRun | None:
    if export is None or export.active:
        return export
    row = next((row for row in rows if row.step == export.step), None)
    if export.step is not None and row is None:
        return None
    there = [one for one in row.exported if export.has_written(one.path)] if row else []
    return export if export.state != "succeeded" or len(there) == len(export.written) else None


def _best(health: dict[str, Any]) -> int | None:
    best = health.get("best")
    return natural(best.get("step")) if isinstance(best, dict) else None


def _saved(
    path: Path, step: int, health: dict[str, Any], copy: CopyStatus | None, *, best: bool, newest: bool
) -> Saved | None:
    """None for a file that has gone meanwhile."""
    try:
        status = path.stat()
    except OSError:
        return None
    held_out, config = health.get("heldout"), health.get("config")
    measured = held_out if isinstance(held_out, dict) and held_out.get("step") == step else {}
    return Saved(
        path,
        step,
        status.st_size,
        status.st_mtime,
        bool(health) and health.get("bytes") == status.st_size,
        natural(health.get("seen_tokens")),
        natural(health.get("budget_tokens")),
        finite(measured.get("heldout_loss")),
        finite(measured.get("heldout_agreement")),
        natural(health.get("activation_bits")),
        natural(health.get("layers_at_4_bits")) or 0,
        natural(config.get("num_hidden_layers")) if isinstance(config, dict) else None,
        str(health.get("device") or "")[:40],
        best,
        newest,
        "" if copy is None else _copied(f"checkpoints/{path.name}", status.st_size, copy),
        finite(health.get("quantized_share", 1)) == 1,
    )


def _copied(name: str, size_of: int, copy: CopyStatus) -> str:
    if any(name == waiting for waiting, _ in copy.waiting):
        return "waiting"
    return "stored" if (name, size_of) in copy.checkpoints else "here"


# -- drawing ---------------------------------------------------------------------------------------------------------

_COPY_CELLS = 10
_COLUMNS = (("step", 8), ("tokens", 8), ("held-out", 10), ("bits", 6), ("size", 8), ("age", 13))


def heading(cells: int) -> Line:
    titles = "  " + "".join(pad(name, width, right=True) for name, width in _COLUMNS)
    return line(Span(crop(titles, cells), "label"))


def row_line(row: Saved, cells: int, now: float | None = None, *, compared: tuple[Exported, ...] = ()) -> Line:
    """A row in the columns of `heading`, then its copy, and whether it is the newest or the best one.

    Its exports that are still `compared` with the student do not count yet.
    """
    mark = "◆" if row.best else "•" if row.newest else " "
    figures = (
        count(row.step),
        count(row.tokens),
        significant(row.loss, 4),
        bits_words(row),
        size(row.bytes),
        ago(row.written, time.time() if now is None else now),
    )
    text = "".join(
        pad(crop(one, width - 1), width, right=True) for one, (_, width) in zip(figures, _COLUMNS, strict=True)
    )
    words, style = _STORED[row.copy]
    told = {
        "best": row.best,
        "newest": row.newest,
        "not trained": not row.step,
        "not ternary yet": not row.ternary,
        "incomplete": not row.whole,
        "exported": len(row.exported) > len(compared),
    }
    notes = [one for one, holds in told.items() if holds]
    rest = max(0, cells - 2 - sum(width for _, width in _COLUMNS))
    copied = pad(f"  {words}", _COPY_CELLS) if words and rest >= _COPY_CELLS else ""
    rest -= len(copied)
    while len(notes) > 1 and width(", ".join(notes)) + 2 > rest:
        notes.pop()
    return line(
        Span(f"{mark} ", "accent"),
        Span(crop(text, max(0, cells - 2)), "value" if row.whole else "label"),
        Span(copied, style),
        Span(crop(f"  {', '.join(notes)}", rest), "accent" if row.whole else "warn"),
    )


def bits_words(row: Saved) -> str:
    """The bits of the activations; both during a ramp, none of a full-precision twin."""
    if row.bits is None:
        return UNKNOWN
    return "A8→A4" if in_layers(row.layers_at_4_bits, row.layers) else f"A{row.bits}"


def about_lines(
    view: CheckpointsView,
    row: Saved | None,
    cells: int,
    most: int,
    soon: str = "",
    compared: tuple[Exported, ...] = (),
) -> tuple[Line, ...]:
    """What else is known of a checkpoint; without any, what makes one. `soon` says how training comes or goes on.

    Its exports that are still `compared` with the student do not count yet.
    """
    if view.problem:
        return first_lines(_told("✗ ", view.problem, "bad", cells), most, cells)
    unusable = [one for words in view.unusable for one in _told("▲ ", words, "warn", cells)]
    if row is None:
        saves = "Training saves one at regular intervals, when it is stopped, and at its end."
        text = " ".join(filter(None, ("No checkpoint yet.", soon, saves)))
        return first_lines([*unusable, *wrapped("", text, "label", cells)], most, cells)
    facts = [row.path.name]
    facts += ["it has the weights that training starts from"] if not row.step else []
    facts += [f"agreement with the teacher {share(row.agreement)}"] if row.agreement is not None else []
    if row.tokens and row.budget:
        facts.append(f"{share(row.tokens / row.budget)} of the budget seen")
    facts += [f"made on {flat(row.trained_on)}"] if row.trained_on else []
    if row.copy == "stays":
        facts.append("it stays on this machine: only the newest, the best and the last one before the flip are sent")
    if not row.whole:
        facts.append("it was not written completely, and training skips it")
    lines = wrapped("", " · ".join(facts), "label", cells)
    if done := tuple(one for one in row.exported if one not in compared):
        lines += wrapped("", f"Exported: {names(done)}.", "label", cells)
    if compared:
        lines += wrapped("", f"Written, being compared: {names(compared)}.", "label", cells)
    lines += unusable
    if view.aside:
        lines += wrapped("", f"Older sets in checkpoints/superseded: {view.aside}.", "label", cells)
    return first_lines(lines, most, cells)


def said_lines(style: str, words: str, cells: int, most: int) -> tuple[Line, ...]:
    mark = {"good": "✓ ", "bad": "✗ ", "value": "▸ ", "warn": "▲ "}[style]
    return first_lines(_told(mark, words, style, cells, "checkpoints.export", "experiment.stop"), most, cells)


def _told(mark: str, words: str, style: str, cells: int, *names: str) -> list[Line]:
    """A sentence with the keys that it names as places to click: those of these actions, and of its remedies."""
    return wrapped_links(mark, flat(in_app(words)), style, cells, *names, *actions_in(words))


# -- what can be done ------------------------------------------------------------------------------------------------


def resume_question(row: Saved, found: Outlook) -> tuple[str, str, str, str]:
    """What resuming from here does, as the texts of a question."""
    if not row.step:
        return starting.question(found)
    return f"Resume from step {row.step}?", _goes_on_words(found), "Resume from here", starting.UNCHANGED


def flip_question(row: Saved, fraction: str, found: Outlook) -> tuple[str, str, str, str]:
    """What flipping here does."""
    set_it = f"“{label('FLIP_FRACTION')}” becomes {fraction} in the settings"
    why = f"{set_it}, so that activations go to 4 bits at step {row.step}. "
    others = {name: two for name, two in found.changed.items() if name != "FLIP_FRACTION"}
    words = _goes_on_words(replace(found, changed=others, flip=""))
    return f"Flip at step {row.step}?", why + words, "Flip here", starting.UNCHANGED


def _goes_on_words(found: Outlook) -> str:
    goes_on = starting.changed_words(found) or "Training continues from there."
    moved = starting.aside_words(found.aside, "Newer") if found.aside else "It is the newest checkpoint."
    doubt = (
        " The traces have been collected again since then; if they differ, training refuses to continue."
        if found.doubtful
        else ""
    )
    return f"{goes_on} {moved}{doubt} {starting.failed_words(found)}".rstrip()


def refusal(view: CheckpointsView, row: Saved | None, what: str, *, training: bool) -> str:
    """Why that can't be done with a checkpoint; empty if it can."""
    if row is None:
        return "Choose a checkpoint first." if view.rows else "There is no checkpoint yet: training saves the first."
    if not row.whole:
        return f"The checkpoint of step {row.step} is incomplete; choose another one."
    if not row.ternary and what != "resume":
        return f"The student of step {row.step} is not ternary yet; train on, or choose a later one."
    if what == "export":
        return ""
    if training:
        return f"The training is running; stop it first with {key_names.key('experiment.stop')}."
    if what == "flip" and not row.fraction:
        reason = "has flipped already" if row.bits == 4 or row.layers_at_4_bits else "has no flip before it"
        return f"The student of step {row.step} {reason}; choose one at 8 bits."
    return ""
