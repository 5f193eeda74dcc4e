"""Estimates of what the draft will take: by formulas at once, then of this machine, then with a few timed steps."""

from collections.abc import Callable
from functools import partial
from typing import Any

from bitnet_tui.screens.guide.base import Guide
from bitnet_tui.services.planning import Plan
from bitnet_tui.view.guide import estimates
from bitnet_tui.view.guide.draft import EMBEDDED, TEACHER, overrides
from bitnet_tui.view.spans import Line

_TRACES, _CHECKPOINTS = "KD_DATA_PATH", "CHECKPOINTS_DIR"


class Estimate:
    """The estimate of the guide's draft; `shown` is called whenever there is another one."""

    def __init__(self, guide: Guide, shown: Callable[[], object]) -> None:
        self._guide = guide
        self._shown = shown
        self._asked: dict[str, str] | None = None
        self._plan: dict[str, Any] | None = None
        self._problem = ""
        self._asking = False
        self._timing = False
        self._changed = False

    def title(self) -> str:
        """What stands above it."""
        return estimates.plan_title(self._found, asking=self._behind, wrong=self._asked is None)

    def lines(self) -> tuple[Line, ...]:
        """What it says now."""
        return estimates.plan_lines(
            self._found,
            self._guide.draft,
            asking=self._behind,
            wrong=self._asked is None,
            timing=self._timing,
            problem="" if self._behind else self._problem,
        )

    def cost(self) -> Line:
        """Time, disk and money."""
        none = not self._behind and (self._problem or self._asked is None)
        plan = None if self._behind else self._found
        draft, free = self._guide.draft, self._guide.draft.is_free or self._guide.brings_traces
        return estimates.cost_line(plan, draft, timing=self._timing, problem=bool(none), free=free)

    @property
    def first(self) -> str:
        """How long training takes to its first step, where that is known."""
        return estimates.first_words(self._found) if self._found is not None and not self._behind else ""

    @property
    def start_made(self) -> bool | None:
        """Whether the student that it begins with is made already; None where that is not known yet."""
        return estimates.start_made(self._found) if self._found is not None and not self._behind else None

    @property
    def _behind(self) -> bool:
        """Whether what is known is of another draft than the one that it is being made for, or soon will be."""
        return self._asking or self._changed

    @property
    def _found(self) -> dict[str, Any] | None:
        """The plan; traces that are copied along cost nothing."""
        if self._plan is None or not self._guide.brings_traces:
            return self._plan
        return {**self._plan, "teacher": estimates.ASKED_NOTHING}

    def mark(self) -> None:
        """Show at once that the draft has changed; `make` follows when its user has paused."""
        self._changed = True
        self._shown()

    def make(self) -> None:
        """Make it for the draft as it is, unless that is what was asked or something in it is wrong.

        What was asked before is ended.
        """
        values = self._values()
        self._changed = False
        if values == self._asked:
            self._shown()
            return
        self.end()
        self._problem = ""
        if not any(one.step == "student" for one in self._guide.faults()):
            self._asked = values
            kept = self._guide.shared.get("plans", {}).get(tuple(values.items()))
            self._plan, self._asking = kept or self._plan, kept is None
        self._timing = self._timing and self._asking  # the figures shown until then were being timed
        self._shown()
        if self._asking:
            self._run(timed=False)

    def _values(self) -> dict[str, str]:
        """The settings to plan with. What will be copied along is looked for where it is now."""
        values = overrides(self._guide.draft, self._guide.place)
        if not self._guide.brings_traces:
            return values
        brought = {_TRACES: self._guide.source_traces, _CHECKPOINTS: self._guide.source_checkpoints}
        return {name: str(path) for name, path in brought.items() if path is not None} | values

    def end(self) -> None:
        """End what is being asked."""
        self._guide.drop("plan")
        self._asked, self._asking = None, False

    @property
    def _no_teacher(self) -> bool:
        return any(one.step == "teacher" for one in self._guide.faults())

    def _run(self, *, timed: bool) -> None:
        values = dict(self._asked or {})
        if self._no_teacher:
            values[TEACHER] = EMBEDDED
        guide, asked = self._guide, self._asked

        def early(record: dict[str, Any]) -> None:
            guide.shell.call_later(self._known_early, asked, record)

        plan = Plan(guide.shell.home, guide.place, values, timed=timed, early=None if timed else early)
        guide.ask("plan", plan, partial(self._planned, timed=timed), partial(self._failed, timed=timed))

    def _known_early(self, asked: object, record: dict[str, Any]) -> None:
        """What was measured for another draft makes way for what is known of this one."""
        if self._asked is asked and self._asking and self._guide.on_stack:
            self._show_plan(record, timed=False)

    def _planned(self, record: dict[str, Any], *, timed: bool) -> None:
        self._show_plan(record, timed=timed)
        if timed and self._asked is not None:
            self._guide.shared.setdefault("plans", {})[tuple(self._asked.items())] = self._plan
        if not timed:
            self._run(timed=True)

    def _show_plan(self, record: dict[str, Any], *, timed: bool) -> None:
        if self._no_teacher:
            record = {**record, "teacher": None}
        self._plan, self._asking, self._timing = record, False, not timed
        self._shown()

    def _failed(self, problem: str, *, timed: bool) -> None:
        self._asking = self._timing = False
        if timed and self._plan is not None:
            self._plan = {**self._plan, "time": {**self._plan["time"], "missing": problem}}
        else:
            self._problem = problem
        self._shown()
