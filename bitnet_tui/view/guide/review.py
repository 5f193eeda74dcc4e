"""The step "Review": the `.env` to be written, what is wrong, and what can be started."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from bitnet_core.runs.catalog import PIPELINE, STAGES
from bitnet_core.settings import dotenv
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.text import crop_middle, head, width
from bitnet_tui.labels import label, title
from bitnet_tui.view.guide import teachers
from bitnet_tui.view.guide.draft import HERE, START, STEPS, Draft, Fault, default, differing, settings
from bitnet_tui.view.guide.teachers import Found
from bitnet_tui.view.spans import Line, Span, cells_of, cut, line, wrapped

_DEFAULTS = {"": "empty", HERE: "none"}
_LEAST_VALUE = 8
"""Cells of a value that are shown even where its name leaves less room."""
_GOES_ON = " " * 4
"""Before the rest of a value that is longer than its line."""
ONLY = "create"
"""Start nothing."""


def starts(draft: Draft, found: Found | None, *, traces: bool = False) -> tuple[tuple[str, str], ...]:
    """What can be started, as (value, words). The order does not depend on the default.

    Stages that read from others can't be started alone, but for the training where there are `traces`. `found` is
    what a test of the teacher found, here and below.
    """
    there = ("collect",) if traces else ()
    alone = [(one.name, f"Run only: {one.title}") for one in STAGES.values() if set(one.needs) <= set(there)]
    whole = (PIPELINE.name, "Run the whole pipeline")
    nothing = (ONLY, "Start nothing yet")
    if _untraceable(draft, found):
        return (nothing, *(one for one in alone if one[0] != "collect"))
    return (whole, nothing, *alone)


def default_start(draft: Draft, found: Found | None, *, doubtful: bool) -> str:
    """What Enter does. What asks somebody's server, costs money or is `doubtful` must be chosen."""
    return ONLY if doubtful or _untraceable(draft, found) or _asked(draft) else PIPELINE.name


def about(start: str, draft: Draft, found: Found | None, first: str = "", *, made: bool | None = False) -> str:
    """What will happen. `first` is how long training takes to its first step, where that is known.

    `made` says whether the student with which it begins comes with the traces; None where that is not known yet.
    """
    trains = start in (PIPELINE.name, "train")
    return f"{_runs(start, draft, found)}{_initial(draft, first, made=made) if trains else ''}"


def _initial(draft: Draft, first: str, *, made: bool | None) -> str:
    """Whether a copy brings the student with which its training begins; empty where that has random weights."""
    if draft.get(START) == default(START) or not draft.source or made is None:
        return ""
    if made:
        return " Its initial student is copied: these settings would build the same one."
    return f" Its initial student is built again, not copied{f': {first}' if first else ''}."


def _runs(start: str, draft: Draft, found: Found | None) -> str:
    if start != ONLY:
        costs = (
            " The provider may charge for it."
            if start in ("teacher", "collect", PIPELINE.name) and _paid(draft)
            else ""
        )
        return f"It runs in the background, and can be stopped and resumed.{costs}"
    if why := _untraceable(draft, found):
        return f"This teacher {why}, so no traces can be collected from it."
    if not _asked(draft):
        return "Nothing runs until you start it."
    why = "may cost money" if _paid(draft) else "asks your server for answers"
    return f"Nothing runs until you start it: a run {why}."


def _untraceable(draft: Draft, found: Found | None) -> str:
    """Why no traces can be collected, to go on after “This teacher”; empty if they can, as far as is known."""
    return teachers.NO_LOGPROBS if draft.teacher.logprobs == "no" else found.untraceable if found else ""


def _asked(draft: Draft) -> bool:
    """Whether the teacher is a provider's, or a server of one's own."""
    return _paid(draft) or draft.teacher.name == "custom"


def _paid(draft: Draft) -> bool:
    return draft.teacher.needs_key


@dataclass(frozen=True)
class Wrong:
    """What has to be mended before the experiment can be made, and what will stop it later."""

    faults: tuple[Fault, ...] = ()
    doubts: tuple[Fault, ...] = ()

    @property
    def every(self) -> tuple[tuple[Fault, Span], ...]:
        """Each with its mark, in the order in which the button mends them."""
        return (
            *((one, Span("✗ ", "bad")) for one in self.faults),
            *((one, Span("! ", "warn")) for one in self.doubts),
        )

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(line(mark, Span(fault_words(one), mark.style)) for one, mark in self.every)


def env_lines(
    draft: Draft,
    names: Collection[str],
    above: Mapping[str, str],
    source: Mapping[str, str] | None = None,
    wrong: Wrong = Wrong(),
    *,
    cells: int,
) -> tuple[Line, ...]:
    """The file line by line, with a mark at what was changed: at what differs from `source`, else from the defaults.

    What is `wrong` has its own mark, and a line where the file has none. `names` are keys that are kept elsewhere,
    `above` settings of the environment, `source` those that were copied; what differs from these comes first.
    """
    shown = settings(draft)
    if source is not None:
        shown = dict(sorted(shown.items(), key=lambda one: one[1] == source.get(one[0], default(one[0]))))
    different, marked = differing(draft), {one.name: (one, mark) for one, mark in reversed(wrong.every)}
    lines = [
        line(mark, Span(name, "label"), Span(f"   {one.why}", mark.style))
        for name, (one, mark) in reversed(marked.items())
        if name in REGISTRY and name not in settings(draft) and not REGISTRY[name].secret
    ]
    for name, before in (source or {}).items():
        if name not in shown and before != default(name):
            lines.append(
                line(Span("• ", "accent"), Span(f"{name} left out", "label"), Span(f"   was {before}", "faint"))
            )
    for name, value in shown.items():
        before = default(name) if source is None else source.get(name, default(name))
        changed = name in different if source is None else value != before
        word = "default" if source is None or name not in source else "was"
        was = f"   {word} {_DEFAULTS.get(before, before)}" if changed and (before or word == "was") else ""
        mark, told = Span("• " if changed else "  ", "accent"), Span(was, "faint")
        if name in marked:
            mark = marked[name][1]
            told = Span(f"   {marked[name][0].why}", mark.style)
        lines += _assignment(mark, name, dotenv.quoted(value), told, cells)
        if name in above and above[name] != value:
            lines += wrapped("  → ", f"the environment says {above[name]}, which takes precedence", "warn", cells)
    for name in sorted(names):
        lines += wrapped("  ", f"{title(name)} is kept elsewhere, not in this file", "label", cells)
    return tuple(cut(one, cells) for one in lines)


def _assignment(mark: Span, name: str, value: str, told: Span, cells: int) -> tuple[Line, ...]:
    """A setting; what it was before is left out if not all fits into the line.

    What is wrong with it goes on below it. A longer value is in a second line, or goes on there, and loses its middle
    only if it is too long for that too.
    """
    before = (mark, Span(f"{name}=", "label"))
    room, more = cells - cells_of(before), cells - width(_GOES_ON)
    below: tuple[Line, ...] = ()
    if width(value) + width(told.text) > room and told.text:
        if told.style != "faint":
            below = tuple(wrapped(_GOES_ON, told.text.strip(), told.style, cells))
        told = Span("")
    if width(value) <= room or room < _LEAST_VALUE:
        return (*before, Span(crop_middle(value, max(_LEAST_VALUE, room)), "value"), told), *below
    first = "" if width(value) <= more else head(value, room)
    rest = crop_middle(value.removeprefix(first), more)
    return (*before, Span(first, "value")), (Span(_GOES_ON), Span(rest, "value")), *below


def fault_words(fault: Fault) -> str:
    """`Teacher · Model: which model?`"""
    step = STEPS[fault.step].partition(" and ")[0]
    return f"{step} · {fault.subject or label(fault.name)}: {fault.why.rstrip('.')}"


def offer_words(fault: Fault) -> str:
    """The label of the button that mends it."""
    if fault.offer:
        return f"Set it to {fault.offer}"
    return f"Go to {label(fault.name) if fault.name else STEPS[fault.step]}"
