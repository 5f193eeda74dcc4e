"""What the guide says of the widget that has the focus: what Enter does there, and what the field is for."""

from textual.widget import Widget
from textual.widgets import Button, Input

from bitnet_tui.screens.guide.checked import CheckedGuide
from bitnet_tui.screens.guide.step import Step
from bitnet_tui.view.guide.draft import STEPS
from bitnet_tui.widgets.guide import Pick, ShareBar
from bitnet_tui.widgets.painted import Painted


class HintedGuide(CheckedGuide):
    """Its hint is above the foot."""

    @property
    def _is_last(self) -> bool:
        return self._step == list(STEPS)[-1]

    def say_hint(self, widget: Widget) -> None:
        step = self._current
        if step is not None and self._ready:
            self.query_one("#hint", Painted).say(self._hint(step, widget), "label")

    def _hint(self, step: Step, widget: Widget) -> str:
        general = {
            "next": f"Enter makes it.{self.asks_first}" if self._is_last else "Enter continues.",
            "rail": f"{self.shell.key('move.left')} and {self.shell.key('move.right')} go from step to step.",
            "models": "Enter or a click takes it.",
        }
        if widget.id in general:
            return general[widget.id]
        if isinstance(widget, Button):
            return ""  # it says itself what it does
        return f"{self._enter_words(step, widget)} {step.hint(widget.id or '')}".strip()

    def _enter_words(self, step: Step, widget: Widget) -> str:
        """What Enter does here: from what is typed it leads to the next field, from a choice it goes on.

        It is said first, as long hints are cut.
        """
        if not isinstance(widget, Input | Pick | ShareBar):
            return ""  # a list says it itself
        if step.passed:
            return "Enter continues."
        last = not isinstance(widget, Input) or (
            self.field_beside(widget, 1, Input) is None and step.after_fields() is None
        )
        missing = step.missing() if last else None
        if missing is not None:
            return "Enter continues once it is filled." if missing is widget else "Enter goes to the empty field."
        if not isinstance(widget, Input):
            return "Enter continues."
        return step.instead(widget, last=last) or ("Enter continues." if last else "Enter: next field.")
