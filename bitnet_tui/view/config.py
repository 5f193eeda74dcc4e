"""The settings of an experiment as rows, and what saving another value would do, in words."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.runs.effects import Effects
from bitnet_core.runs.experiment import unreadable_words
from bitnet_core.runs.outlook import Outlook
from bitnet_core.settings.contradictions import Contradiction, contradiction
from bitnet_core.settings.kinds import Setting, as_written
from bitnet_core.settings.places import PlaceOptions
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.resolved import Resolution, Settings
from bitnet_core.text import crop, flat, listed, pad, wrap
from bitnet_tui import key_names
from bitnet_tui.labels import by_label, stage_title, title
from bitnet_tui.remedies import actions_in, in_app
from bitnet_tui.services.config import OF_THE_PLACE, Preview, next_training
from bitnet_tui.services.settings import require_experiment, resolved
from bitnet_tui.view.offered import wrapped_links
from bitnet_tui.view.spans import Line, Span, cells_of, first_lines, line, wrapped

_PLACES = PlaceOptions.setting_names()
_FIRST = ("Student", "Optimiser", "Flip", "Loss", "Teacher", "Collection", "Data")
_LEAST_BESIDE = 16
"""Cells beside the label and the name for the beginning of what a setting is."""
_UNSET = "–"
_MASKED = "•••"
_LABEL_CELLS, _ORIGIN_CELLS, _NARROW_LABEL = 32, 16, 28
_NAME_CELLS = 34
"""Of the names in a `.env`, in a very wide window; in any other one the highlighted setting tells its own."""
_MOST_VALUE, _MOST_DEFAULT = 56, 28
"""Cells of the columns in a wide window: what belongs together stays together."""
_WIDE, _VERY_WIDE = 96, 124


@dataclass(frozen=True)
class Row:
    """One setting. `text` is its value as a `.env` holds it, `other` that of the experiment it is compared with."""

    name: str
    text: str
    origin: str
    differs: bool = False
    other: str | None = None

    @property
    def setting(self) -> Setting:
        return REGISTRY[self.name]

    @property
    def fixed(self) -> str:
        """Why it can't be changed in place; empty if it can."""
        if self.setting.secret:
            return f"Keys are kept outside the settings; {key_names.key('app.keys')} shows where, and sets one."
        if self.name in OF_THE_PLACE:
            return "It says which experiment this is; open another one to see that."
        if "\n" in self.text:
            return f"It has several lines; {key_names.key('experiment.settings')} opens the .env in your editor."
        return ""


@dataclass(frozen=True)
class ConfigView:
    """`against` is the experiment that this one is compared with; empty if the defaults are.

    `training` is what the next training would do; nothing is known of it while one runs.
    """

    rows: tuple[Row, ...] = ()
    problem: str = ""
    against: str = ""
    training: Outlook = field(default_factory=Outlook)
    conflict: Contradiction | None = None
    """Which settings don't fit together."""

    def row(self, name: str | None) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)


def read_config(home: Path, root: Path, against: Path | None = None) -> ConfigView:
    """Every setting of the experiment at `root`, compared with the one at `against`, or with the defaults."""
    try:
        require_experiment(root)
        found = resolved(home, root)
        other = resolved(home, against) if against else None
    except BitnetError as error:
        return ConfigView(problem=str(error))
    except OSError as error:
        return ConfigView(problem=unreadable_words(root, error))
    rows = tuple(replace(row, origin=_short(row.origin, root)) for row in rows_of(found, from_values({}), other))
    training, conflict = next_training(found.settings), contradiction(found.settings)
    return ConfigView(rows, "", against.name if against else "", training, conflict)


def _short(origin: str, root: Path) -> str:
    """The experiment's own file is `.env`, the one in the working folder `./.env`."""
    for file in (str(root.absolute() / ".env"), os.path.relpath(root.absolute() / ".env")):
        if origin.startswith(f"{file} line "):
            return origin.replace(file, ".env", 1)
    return f"./{origin}" if origin.startswith(".env line ") else origin


def rows_of(found: Resolution, defaults: Settings, other: Resolution | None) -> tuple[Row, ...]:
    """Every setting: first the sections that people change most, then the others in the registry's order."""
    sections = [*_FIRST, *(one.section for one in REGISTRY.values())]
    names = sorted(REGISTRY, key=lambda name: sections.index(REGISTRY[name].section))
    return tuple(_row(name, found, defaults, other) for name in names)


def _row(name: str, found: Resolution, defaults: Settings, other: Resolution | None) -> Row:
    if REGISTRY[name].secret:
        value = _MASKED if name in found.secrets else ""
        there = None if other is None else _MASKED if name in other.secrets else ""
        differs = there is not None and there != value
        return Row(name, value, found.secret_origins.get(name, ""), differs, there)
    values, origin = found.settings.values, found.settings.origin(name)
    text = as_written(values[name])
    if other is None:
        differs = origin != "default" and values[name] != defaults.values[name]
        return Row(name, text, origin, differs and name not in OF_THE_PLACE)
    theirs = other.settings.values[name]
    left = origin == "default" and other.settings.origin(name) == "default"
    differs = values[name] != theirs and name not in OF_THE_PLACE and not (left and name in _PLACES)
    return Row(name, text, origin, differs, as_written(theirs))


def chosen(view: ConfigView, words: str, *, only: bool) -> tuple[Row, ...]:
    """The rows that have all these words in label, name, value or help; with `only`, those that differ."""
    wanted = set(words.lower().split())
    found = ((row, _searched(row)) for row in view.rows if row.differs or not only)
    return tuple(row for row, text in found if all(word in text for word in wanted))


def _searched(row: Row) -> str:
    setting = row.setting
    return f"{title(row.name)} {row.name} {row.text} {setting.help} {setting.section}".lower()


def best_match(rows: Sequence[Row], words: str) -> str:
    """The name of the row to go to: one that has the words in its label, else in its name; empty if none is."""
    wanted = set(words.lower().split())

    def misses(row: Row) -> tuple[bool, bool]:
        places = (title(row.name).lower(), row.name.lower())
        found = [all(word in place for word in wanted) for place in places]
        return not found[0], not found[1]

    return min(rows, key=misses).name if wanted and rows else ""


def sections(rows: Iterable[Row]) -> Iterator[str | Row]:
    """The rows, each section's name before the first of its rows."""
    last = ""
    for row in rows:
        if row.setting.section != last:
            last = row.setting.section
            yield last
        yield row


def _columns(cells: int, *, against: bool) -> tuple[int, int, int, int]:
    """The cells of labels, values, the other values and origins; names have what a very wide window leaves."""
    wide = cells >= _WIDE
    labels = _LABEL_CELLS if wide else _NARROW_LABEL
    rest = max(8, cells - 3 - labels - (_NAME_CELLS if cells >= _VERY_WIDE else 0))
    origins = _ORIGIN_CELLS if wide else 0 if against else min(_ORIGIN_CELLS, rest // 3)
    others = (rest - origins) // 2 if against or wide else 0
    values = min(rest - origins - others, _MOST_VALUE)
    return labels, values, min(others, _MOST_VALUE if against else _MOST_DEFAULT), origins


def heading(mine: str, theirs: str, cells: int) -> Line:
    """Above the rows, whose values are compared: the names of the two experiments."""
    labels, values, others, _ = _columns(cells, against=True)
    shown = pad(crop(flat(mine), values - 1), values) + crop(flat(theirs), max(0, others - 1))
    return line(Span(" " * (labels + 3)), Span(shown, "label"))


def row_line(row: Row, cells: int, *, against: bool) -> Line:
    """A row in columns: mark, label, value, the other value, origin, and its name if it is very wide."""
    labels, values, others, origins = _columns(cells, against=against)
    other = _shown(row.other) if against else f"default {_shown(row.setting.default)}" if row.differs else ""
    return line(
        Span("● " if row.differs else "  ", "accent"),
        Span(pad(crop(title(row.name), labels), labels + 1), "value" if row.differs else "label"),
        Span(pad(crop(_shown(row.text), values - 1), values), "title" if row.differs else "value"),
        Span(pad(crop(other, max(0, others - 1)), others), "value" if against else "label"),
        *_last_columns(row, origins, cells),
    )


def _last_columns(row: Row, origins: int, cells: int) -> tuple[Span, ...]:
    """The origin, and behind it the name where there is room."""
    origin = crop(flat(row.origin), origins)
    if cells < _VERY_WIDE:
        return (Span(origin, "label"),)
    return (Span(pad(origin, origins + 2), "label"), Span(row.name, "faint"))


def _shown(text: str | None) -> str:
    return flat(text) if text else _UNSET


def about_lines(row: Row | None, cells: int, most: int) -> tuple[Line, ...]:
    """What the highlighted setting is, what it may be, and its default."""
    if row is None:
        return ()
    setting = row.setting
    default = f" Default: {setting.default}." if setting.default else ""
    unit = f", {setting.unit}" if setting.unit else ""
    allowed = "" if setting.secret or setting.allowed() == "text" else f" Allowed: {setting.allowed()}{unit}."
    names = [Span(title(row.name), "title"), Span(f"  {row.name}", "faint")]
    text, room = flat(f"{in_app(setting.help)}{allowed}{default}"), cells - cells_of(names) - 2
    beside, *rest = wrap(text, room) if room >= _LEAST_BESIDE else ("", text)
    more = wrap(" ".join(rest), cells) if rest else []
    return first_lines((line(*names, f"  {beside}"), *(line(one) for one in more)), most, cells)


def now_lines(row: Row | None, view: ConfigView, cells: int, most: int) -> tuple[Line, ...]:
    """While nothing is typed: the whole value, where it comes from, and what can be done.

    The value of the experiment with which it is compared is told if it is another one, and what the next training
    does if this one is another than the checkpoint's.
    """
    if row is None:
        return ()
    if row.fixed:
        fixed = wrapped_links("", row.fixed, "label", cells, "app.keys", "experiment.settings")
        return first_lines(fixed, most, cells)
    where = "by default" if row.origin == "default" else f"from {row.origin}"
    theirs = f" In {view.against} it is {row.other or 'not set'}." if view.against and row.differs else ""
    text = f"{_shown(row.text) if row.text else 'Not set'}, {where}.{theirs} Enter changes it."
    lines = [line(Span(one, "label")) for one in wrap(flat(text), cells)]
    if view.conflict is not None and row.name in str(view.conflict):
        lines += wrapped_links("▲ ", flat(conflict_words(view.conflict)), "warn", cells, "config.mend")
    elif row.name in view.training.changed and (words := training_words(view.training)):
        lines += wrapped("○ ", flat(words), "label", cells)
    return first_lines(lines, most, cells)


def problem_lines(problem: str, cells: int, most: int) -> tuple[Line, ...]:
    """Why the settings can't be read."""
    return first_lines(wrapped_links("✗ ", flat(in_app(problem)), "bad", cells, *actions_in(problem)), most, cells)


# -- what saving would do --------------------------------------------------------------------------------------------


def preview_lines(preview: Preview, cells: int, most: int, *, saved: bool = False) -> tuple[Line, ...]:
    """The sentences of `preview_words`, wrapped."""
    lines: list[Line] = []
    for mark, text, style in preview_words(preview, saved=saved):
        lines += wrapped_links(f"{mark} ", flat(text), style, cells, "config.mend")
    return first_lines(lines, most, cells)


def conflict_words(found: Contradiction) -> str:
    """Which settings don't fit together, and the key that mends it."""
    name, text = found.mend
    does = f"sets “{title(name)}” to {text}" if text else f"unsets “{title(name)}”"
    return f"{in_app(str(found))} {key_names.key('config.mend')} {does}."


def preview_words(preview: Preview, *, saved: bool = False) -> list[tuple[str, str, str]]:
    """A mark, a sentence and a style for each thing to know, the most important first."""
    if preview.errors:
        return [("✗", in_app(one), "bad") for one in preview.errors]
    what = f"“{title(preview.name)}”"
    unset, elsewhere = not preview.text, _elsewhere(preview.hidden_by)
    if unset and preview.same:
        but = f", but by {elsewhere}" if elsewhere else ""
        return [("○", f"{what} is not set in the experiment's .env{but}.", "label")]
    found: list[tuple[str, str, str]] = []
    if saved:
        found.append(("✓", f"{what} is {'unset' if unset else 'saved'}.", "good"))
    if unset and elsewhere:
        found.append(("▲", f"{what} is still set by {elsewhere}, which takes precedence.", "warn"))
    elif preview.hidden_by:
        text = f"{what} is also set by the {preview.hidden_by}, which takes precedence over the experiment's .env."
        found.append(("▲", text, "warn"))
    elif preview.same and not saved:
        return [("○", "This is its value now.", "label")]
    found += [("▲", in_app(one), "warn") for one in preview.warnings]
    if preview.conflict is not None:  # training refuses it, which matters more than what it makes outdated
        return [*found, ("▲", conflict_words(preview.conflict), "warn")]
    return [*found, *_effect_words(preview.effects, hidden=bool(preview.hidden_by), saved=saved)]


def _elsewhere(origin: str) -> str:
    """An origin that is not the experiment's `.env`, in a sentence."""
    if origin in ("environment", "command line"):
        return f"the {origin}"
    return f"./{origin}" if origin.startswith(".env line ") else origin


def training_words(found: Outlook, *, running: bool = False) -> str:
    """What the next training will do that is not what it did so far; empty if it just goes on.

    One that is `running` saves where it stops, so that the newest checkpoint is not where the next one continues.
    """
    if found.refused:
        return f"The next training will refuse to start: {in_app(found.refused)}"
    if found.starts_again:
        why = f": {in_app(found.why_not)}" if found.why_not else ""
        return f"The next training puts its checkpoints aside and begins at step 0{why}."
    if found.finished and found.step is not None:
        return f"The next training adds no step: it is finished at step {found.step:,}."
    if found.changed and found.step is not None and running:
        return f"Stop it and resume: it continues from where it stops, with {by_label(found.changed_words)}."
    if found.changed and found.step is not None:
        return f"The next training continues from step {found.step:,} with {by_label(found.changed_words)}."
    return ""


def _stages(names: Iterable[str]) -> str:
    return listed([stage_title(one) for one in names])


def _effect_words(found: Effects, *, hidden: bool, saved: bool) -> Iterator[tuple[str, str, str]]:
    if hidden:
        return
    if not found.concerned:
        yield "○", "No stage's result depends on it.", "label"
        return
    if found.outdated:
        verb = ("is" if saved else "becomes") if len(found.outdated) == 1 else "are" if saved else "become"
        yield "▲", f"{_stages(found.outdated)} {verb} outdated.", "warn"
    if found.current:
        yield "✓", f"{_stages(found.current)} {'counts' if len(found.current) == 1 else 'count'} again.", "good"
    if found.running:
        one = len(found.running) == 1
        ends = "is outdated when it ends" if one else "are outdated when they end"
        goes = "continues with the value that it started with" if one else "continue with the value they started with"
        yield "▲", f"{_stages(found.running)} {'is' if one else 'are'} running: it {goes}, and {ends}.", "warn"
    told = [*found.outdated, *found.current, *found.running]
    if "train" in found.concerned and (words := training_words(found.training, running="train" in found.running)):
        yield "○", words, "label"
        told.append("train")
    if "train" in found.concerned and "train" not in told and found.training.step is None:
        yield "○", f"{_stages(['train'])} will use it in its next run, which begins at step 0.", "label"
        told.append("train")
    later = [name for name in found.concerned if name not in told]
    if later:
        yield "○", f"{_stages(later)} will use it in {'its' if len(later) == 1 else 'their'} next run.", "label"
