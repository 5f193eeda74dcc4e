"""A comparison as a screen shows it: one chart with a curve for each training, and the tables below it.

`bitnet_core.results` has found all that is said here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.results.axes import LABELS
from bitnet_core.results.compare import BEST, LEGEND, OUTDATED, Comparison, Row, compare
from bitnet_core.results.curves import Curve, moved
from bitnet_core.results.differing import shown
from bitnet_core.results.figures import half_widths
from bitnet_core.results.subject import EVAL, Subject, SubjectReader
from bitnet_core.results.verdict import LETTERS, settings_words
from bitnet_core.runs.event_words import FLIP
from bitnet_core.runs.experiment import Experiment, unreadable_words
from bitnet_core.text import UNKNOWN, crop, crop_middle, pad, tick, width, wrap
from bitnet_tui.key_names import key
from bitnet_tui.labels import by_label, stage_title, title
from bitnet_tui.remedies import in_app
from bitnet_tui.services.settings import experiment_at, require_experiment
from bitnet_tui.view.chart_text import HIDDEN, laid_out, right_room, rights, turns, value_words
from bitnet_tui.view.lens import Axis, By, Chart, Lens
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.view.spans import Line, Span, cells_of, line

_CHARTS = (
    ("heldout_loss", "held-out loss", True),
    ("loss", "total loss", True),
    ("kl", "KL", True),
    ("ce", "CE", True),
    ("heldout_agreement", "held-out agreement", False),
    ("agreement", "agreement", False),
    ("grad_norm", "gradient norm", True),
    ("lr", "learning rate", False),
    ("tokens_per_s", "tokens/s", False),
    ("peak_rss_bytes", "peak memory", False),
)
_TITLE_CELLS, _VALUE_CELLS, _LABEL_CELLS, _SETTING_CELLS = 20, 9, 28, 24
_LEAST_CELLS = 6
_WHOLE = "compare.whole"
_DIFFERING = "settings that differ"
_TO_RUN = re.compile(r"\brun “[^.;]{0,200}?” in (?P<letters>[A-H](?:(?:, | and )[A-H])*)")
"""What is advised: stages to run in some of those compared."""
_GAP = 3
_BESIDE = 12
"""Empty cells between two tables beside each other, at most."""


@dataclass(frozen=True)
class Chosen:
    """An experiment, or one of its runs."""

    root: Path
    run: str = ""


@dataclass(frozen=True)
class Overlay(RunView):
    """Curves of several trainings, each named by its letter. Their x are what the axis shows."""

    marked: Mapping[float, str] = field(default_factory=dict)
    """The letters of the trainings that flip there."""

    @property
    def flips(self) -> tuple[float, ...]:
        return tuple(self.marked)

    @property
    def flip_names(self) -> tuple[str, ...]:
        return tuple(self.marked.values())


@dataclass(frozen=True)
class CompareView:
    """`problems` says of which choices nothing could be read, and why."""

    comparison: Comparison | None = None
    problems: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        return self.comparison is not None and any(one.active for one in self.comparison.subjects)

    def charts(self) -> list[Chart]:
        """What at least one of the trainings has a curve of."""
        subjects = self.comparison.subjects if self.comparison else ()
        drawn = {curve.name for one in subjects for curve in one.training.curves if curve.segments}
        letters = tuple(LETTERS[: len(subjects)])
        found = [
            Chart(name, title, letters, log=log, label=LABELS.get(name, tick))
            for name, title, log in _CHARTS
            if name in drawn
        ]
        return found or [Chart(*_CHARTS[0][:2], letters)]


def unevaluated(subject: Subject) -> str:
    """The stage to run next, of one that has no evaluation to tell chance by and makes none; else empty."""
    if subject.evaluates or half_widths(subject) is not None:
        return ""
    return next(iter(subject.lacking), EVAL)


def entry(letter: str, subject: Subject) -> str:
    """How it stands in the list of those that can be opened."""
    missing = unevaluated(subject)
    return f"{letter} {subject.name}" + (f": run {stage_title(missing)}" if missing else "")


@dataclass
class CompareWatcher:
    """Reads what was chosen. What can't be read is told and leaves the others as they are. Not thread-safe."""

    chosen: Sequence[Chosen]
    home: Path
    _readers: dict[Chosen, SubjectReader] = field(default_factory=dict)

    def look(self) -> CompareView:
        subjects: list[Subject] = []
        problems: list[str] = []
        for one in self.chosen:
            try:
                subjects.append(self._reader(one).read())
            except BitnetError as error:
                problems.append(str(error))
            except (OSError, ValueError, RecursionError) as error:
                problems.append(unreadable_words(one.root, error))
        try:
            return CompareView(compare(subjects), tuple(problems))
        except BitnetError as error:
            return CompareView(None, (*problems, str(error)))

    def _reader(self, one: Chosen) -> SubjectReader:
        return self._readers.setdefault(one, SubjectReader(lambda: self._opened(one.root), one.run))

    def _opened(self, root: Path) -> Experiment:
        require_experiment(root)
        return experiment_at(root, self.home)[0]


def overlay(view: CompareView, chart: Chart, by: By) -> tuple[Overlay, Axis]:
    """The curves of one chart, each along its own steps or times. A training without these is left out."""
    curves: list[Curve] = []
    flips: dict[float, str] = {}
    for letter, subject in zip(LETTERS, view.comparison.subjects if view.comparison else (), strict=False):
        training = subject.training
        axis = Axis.of(RunView(curves=training.curves, seams=training.seams), by)
        curve = next((one for one in training.curves if one.name == chart.name), None)
        if curve is None or axis.by != by:
            continue
        along = moved(curve, axis.place)
        curves.append(Curve(letter, along.segments, along.not_finite))
        if training.flip is not None:
            place = axis.place(float(training.flip.seen_tokens))
            flips[place] = flips.get(place, "") + letter
    shown = Axis(by) if by == "tokens" else Axis(by, (0.0, 1.0), (0.0, 1.0))
    return Overlay(curves=tuple(curves), marked=flips), shown


def chart_title(seen: Overlay, chart: Chart, lens: Lens, axis: Axis, cells: int) -> Line:
    """The chart's name, the newest value of each training or that at the crosshair, and what the axis is."""
    forms: list[list[Line]] = []
    for gap in (" ", ""):
        parts = [turns(chart.title)]
        for curve in seen.curves:
            if not curve.segments:
                continue
            if curve.name not in lens.drawn(chart):
                parts.append((Span(f"{gap}{HIDDEN}{curve.name} ", f"curve-{curve.name}"),))
                continue
            words = value_words(chart.name, curve, chart, seen, lens, cells)
            parts.append((Span(f"{gap}{curve.name} ", f"curve-{curve.name}"), Span(f"{words} ", "value")))
        if lens.smooth:
            parts.append((Span(f"{gap}smoothed ", "accent"),))
        forms.append(parts)
    ends = rights(lens, axis, alone=True, whole=_WHOLE)
    return laid_out(forms, partial(_flips, seen), ends, cells, right_room(lens, alone=True, whole=_WHOLE))


def _flips(seen: Overlay, room: int) -> list[Line]:
    """The legend of the lines that mark flips, with the letters of their experiments where there is room."""
    if not seen.flips:
        return []
    signs = [(Span(FLIP, "flip"), *(Span(one, f"curve-{one}") for one in names)) for names in seen.flip_names]
    lettered = (*(span for sign in signs for span in (*sign, Span(" "))), Span("flip", "flip"))
    return [lettered if cells_of(lettered) <= room else (Span(f"{FLIP} flip", "flip"),)]


def names_line(view: CompareView, cells: int) -> Line:
    """Which letter stands for which training."""
    if view.comparison is None:
        return ()
    subjects = view.comparison.subjects
    marks = [" ▸" if one.active else "" for one in subjects]
    most = _name_cells([width(one.name) for one in subjects], cells - sum(5 + width(mark) for mark in marks))
    parts: list[Span] = []
    for letter, one, mark in zip(LETTERS, subjects, marks, strict=False):
        name, opens = crop_middle(one.name, most), f"open('{letter}')"
        parts += [Span(f"{letter} ", f"curve-{letter}", opens), Span(f"{name}{mark}", action=opens), Span("   ")]
    return tuple(parts)


def _name_cells(names: Sequence[int], cells: int) -> int:
    """The cells that the longest names get, of `cells` for all: short names leave them what they do not need."""
    most = max(names)
    while most > _LEAST_CELLS and sum(min(most, one) for one in names) > cells:
        most -= 1
    return most


def sentence_lines(view: CompareView, cells: int, most: int) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """What is better, then which settings differ, then what could not be read.

    First what is said above the chart, which has `most` lines, then what is left to say below it.
    """
    found = view.comparison
    # a value may be spelt like a setting
    sentences = (in_app(found.verdict.headline), settings_words(found.differing, by_label)) if found else ()
    told = [(sentence, "value") for sentence in sentences] + [(in_app(problem), "bad") for problem in view.problems]
    above: list[Line] = []
    for place, (sentence, style) in enumerate(told):
        lines = [line(Span(text, style)) for text in wrap(sentence, cells)]
        if len(above) + len(lines) > most:
            left = told[place:]
            return tuple(above), tuple(line(Span(text, way)) for one, way in left for text in wrap(one, cells - 2))
        above += lines
    return tuple(above), ()


def reason_lines(view: CompareView, cells: int) -> tuple[Line, ...]:
    """Whether that can be said, and what else is to be known of it. A click on what is to be run opens that one."""
    reasons = view.comparison.verdict.reasons if view.comparison else ""
    if not reasons:
        return ()
    keyed = _TO_RUN.sub(lambda found: f"{found[0]} ({key('compare.open')} opens it)", in_app(reasons))
    lines = wrap(keyed, cells)
    links = _links(" ".join(lines))
    painted: list[Line] = []
    begin = 0
    for text in lines:
        parts, at = [], 0
        for first, end, letter in links:
            left, right = (max(at, min(len(text), place - begin)) for place in (first, end))
            parts += [Span(text[at:left], "label"), Span(text[left:right], "accent", f"open('{letter}')")]
            at = right
        painted.append(tuple(part for part in (*parts, Span(text[at:], "label")) if part.text))
        begin += len(text) + 1
    return tuple(painted)


def _links(text: str) -> list[tuple[int, int, str]]:
    """Where it is advised to run something in one of those compared: first character, end, and the letter."""
    found: list[tuple[int, int, str]] = []
    for advice in _TO_RUN.finditer(text):
        first, *others = range(advice.start("letters"), advice.end("letters"))
        found.append((advice.start(), first + 1, text[first]))
        found += [(place, place + 1, text[place]) for place in others if text[place] in LETTERS]
    return found


def table_lines(view: CompareView, cells: int) -> tuple[Line, ...]:
    """The results, and only the settings that differ: beside each other where there is room, else one below."""
    found = view.comparison
    if found is None:
        return ()
    legend = _legend(found)  # above both: it must be in sight where the first marks are
    results = _results(found, cells)
    settings = _settings(found, cells)
    left, right = _cells(results), _cells(settings)
    if left + right + _GAP > cells:
        return (*legend, *results, (), *settings)
    apart = min(_BESIDE, cells - left - right)
    many = max(len(results), len(settings))
    pairs = ((_at(results, row), _at(settings, row)) for row in range(many))
    return (*legend, *((*one, Span(" " * (left + apart - cells_of(one))), *other) for one, other in pairs))


def _results(found: Comparison, cells: int) -> list[Line]:
    lines: list[Line] = []
    for places in _blocks(len(found.subjects), (cells - _TITLE_CELLS) // _VALUE_CELLS):
        heads = [Span(f"{LETTERS[place]:>{_VALUE_CELLS - 2}}  ", f"curve-{LETTERS[place]}") for place in places]
        lines += [(), line(Span(f"{'results':<{_TITLE_CELLS}}", "title"), *heads)]
        lines += [
            line(Span(f"{crop(row.measure.title, _TITLE_CELLS):<{_TITLE_CELLS}}", "label"), *_values(row, places))
            for row in found.shown
        ]
    return lines[1:]


def _legend(found: Comparison) -> list[Line]:
    """What the signs of the results mean, as far as they are there."""
    legend = LEGEND.split("   ")
    signs = {sign for row in found.shown for place in range(len(found.subjects)) for sign in row.cell(place)}
    used = [words for words in legend if words[0] in signs]
    return [line(Span("   ".join(words.split(":")[0] for words in used), "faint"))] if used else []


def _values(row: Row, places: Sequence[int]) -> list[Span]:
    """Numbers to the right, their marks behind them."""
    parts: list[Span] = []
    for place in places:
        value, marks = row.value(place), row.marks(place)
        known = "faint" if value == UNKNOWN else "value"
        style = "warn" if OUTDATED in marks else "good" if BEST in marks else known
        parts.append(Span(f"{value:>{_VALUE_CELLS - 2}}{marks:<2}", style))
    return parts


def _settings(found: Comparison, cells: int) -> list[Line]:
    if not found.differing:
        return [line(Span("settings", "title")), line(Span("No setting differs.", "label"))]
    many = len(found.subjects)
    texts = {one.name: [*map(shown, one.values)] for one in found.differing}
    names = [width(title(one.name)) for one in found.differing]
    name_cells = min(_LABEL_CELLS, max(*names, width(_DIFFERING))) + 2
    longest = max(_LEAST_CELLS, *(width(value) for values in texts.values() for value in values))
    across = max(1, min(many, (cells - name_cells) // (min(longest, _SETTING_CELLS) + 2)))
    value_cells = max(_LEAST_CELLS, min(longest, (cells - name_cells) // across - 2))
    lines: list[Line] = []
    for places in _blocks(many, across):
        heads = [Span(f"{LETTERS[place]:<{value_cells + 2}}", f"curve-{LETTERS[place]}") for place in places]
        lines += [(), line(Span(f"{_DIFFERING:<{name_cells}}", "title"), *heads)]
        for one in found.differing:
            values = (f"{crop(texts[one.name][place], value_cells):<{value_cells + 2}}" for place in places)
            style = "value" if one.stage else "faint"
            lines.append(
                line(
                    Span(pad(crop(title(one.name), name_cells - 1), name_cells), "label"),
                    *(Span(value, style) for value in values),
                )
            )
    return lines[1:]


def _blocks(many: int, across: int) -> list[range]:
    """The columns of tables that are one below the other, where all do not fit beside each other."""
    across = max(1, min(many, across))
    return [range(first, min(many, first + across)) for first in range(0, many, across)]


def _cells(lines: Sequence[Line]) -> int:
    return max(map(cells_of, lines), default=0)


def _at(lines: Sequence[Line], row: int) -> Line:
    return lines[row] if row < len(lines) else ()
