"""The step "Review": the name, the `.env` to be written, what has to be mended, and what to start."""

import os

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Button, Input

from bitnet_tui.screens.guide.estimating import Estimate
from bitnet_tui.screens.guide.step import Step, label_of, value_of
from bitnet_tui.view.guide import review
from bitnet_tui.view.guide.draft import Fault, settings
from bitnet_tui.view.guide.teachers import Found
from bitnet_tui.view.spans import Span, line
from bitnet_tui.widgets.buttons import box_of, relabel
from bitnet_tui.widgets.guide import Cards
from bitnet_tui.widgets.inputs import SteadyInput
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words

_SIDES = 7
"""Cells of a button beside its words."""


class ReviewStep(Step):
    """Enter makes the experiment and starts what is highlighted."""

    step = "review"
    start = ""
    _default = ""
    _estimate: Estimate | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="pane left"):
            with Horizontal(classes="row"):
                yield label_of("Name")
                yield SteadyInput(self.draft.name, compact=True, id="field-NAME", classes="entry")
            yield Painted(id="costs")
            yield Button("", id="traces", name="traces", compact=True)
            yield Words("Create it, and then", classes="title")
            yield Cards(id="starts", classes="list", markup=False)
            yield Painted(id="about")
            yield Painted(id="wrong")
            yield Button("Mend it", id="mend", name="mend")
        with Vertical(classes="pane right"):
            yield Words("", classes="title", id="legend")
            with VerticalScroll(id="file"):
                yield Painted(id="env")

    def begin(self) -> None:
        self._offer_starts()
        self._estimate = Estimate(self.guide, self._say_costs)
        self._estimate.make()
        self.changed()

    def on_resize(self) -> None:
        super().on_resize()
        self.call_after_refresh(self.changed)  # the lines of the file are cut to its width

    def leave(self) -> None:
        if self._estimate is not None:
            self._estimate.end()

    def _say_costs(self) -> None:
        if self._estimate is not None:
            self.lines("#costs").show((self._estimate.cost(),))
            self._say_about()

    def _offer_starts(self) -> None:
        """What can be started. What is found out later changes the choice until another one was made."""
        found = review.starts(self.draft, self._tested, traces=self.guide.brings_traces)
        default = review.default_start(
            self.draft, self._tested, doubtful=any(one.stops for one in self.guide.doubts())
        )
        self._default = default
        self.start = self.draft.start if self.draft.start in dict(found) else default
        cards = self.query_one("#starts", Cards)
        cards.fill([(value, line(words)) for value, words in found], self.start)
        cards.highlighted = cards.get_option_index(self.start)  # the same rows are not filled again

    def _offer_traces(self) -> None:
        button, guide = self.query_one("#traces", Button), self.guide
        button.display = guide.source_traces is not None
        relabel(button, f"{box_of(self, ticked=guide.brings_traces)} with its traces")

    def action_traces(self) -> None:
        self.guide.bring_traces(not self.guide.brings_traces)

    def entry(self) -> Widget | None:
        return self.query_one("#starts")

    def after_fields(self) -> Widget | None:
        """An Enter that ends a name makes nothing yet."""
        return self.query_one("#starts")

    def hint(self, name: str) -> str:
        return {
            "field-NAME": "The name of its folder in the workspace; empty takes the one shown.",
            "traces": "They bring the teacher's baseline and answers along, so that nothing is paid for twice.",
            "starts": self._about_below or f"Arrows or a click choose; enter does it.{self.guide.asks_first}",
            "file": f"• marks what differs from {self._compared}. Keys are never in this file.",
        }.get(name, "")

    @property
    def _compared(self) -> str:
        return "the defaults" if self.guide.copied is None else self.draft.source

    @property
    def _tested(self) -> Found | None:
        """What the teacher's test found, if that still counts."""
        return self.guide.last_found("teacher")

    def changed(self) -> None:
        """The name has changed, or what is known of the workspace."""
        guide = self.guide
        self._offer_starts()
        self._offer_traces()
        if self._estimate is not None:
            self._estimate.make()
        self.query_one("#field-NAME", Input).placeholder = guide.suggested
        differs = "not default" if guide.copied is None else "changed"
        self.query_one("#legend", Words).update(f"Its .env, no keys (• = {differs})")
        above = {name: os.environ[name] for name in settings(self.draft) if os.environ.get(name)}
        wrong = review.Wrong(guide.faults(), guide.doubts())
        if cells := self.query_one("#file").scrollable_content_region.width:  # else it is not laid out yet
            self.lines("#env").show(
                review.env_lines(self.draft, guide.typed_keys, above, guide.copied, wrong, cells=cells)
            )
        faults = self._faults
        button = self.query_one("#mend", Button)
        button.display = bool(faults)
        self.set_class(bool(faults), "-wrong")
        if faults:
            words = review.offer_words(faults[0])
            room = self.query_one(".left").content_size.width - _SIDES
            relabel(button, words if guide.offers_by_key else guide.with_key(words, max(1, room)))
        self.lines("#wrong").show(wrong.lines)
        self._say_about()
        self._say_hint()

    @property
    def _faults(self) -> tuple[Fault, ...]:
        """The button mends the first, and then the next one."""
        return (*self.guide.faults(), *self.guide.doubts())

    def _say_about(self) -> None:
        if self.start:
            self.lines("#about").show((line(Span(self._about, "label")),))

    @property
    def _about(self) -> str:
        """What the highlighted choice does."""
        first, made = "", None
        if self._estimate is not None:
            first, made = self._estimate.first, self._estimate.start_made
        if not self.guide.brings_traces:
            made = False
        return review.about(self.start, self.draft, self._tested, first, made=made)

    @property
    def _about_below(self) -> str:
        """The same for the hint, where what is wrong has taken its place."""
        hidden = self.has_class("-wrong") and self.screen.has_class("-short")
        return f"Enter does it. {self._about}" if hidden and not self.guide.asks_first else ""

    def choose(self, value: str) -> None:
        self.start = value
        self.guide.choose_start("" if self.start == self._default else self.start)
        self._say_about()
        self._say_hint()

    @on(Input.Changed, "#field-NAME")
    def _named(self, event: Input.Changed) -> None:
        self.guide.rename(value_of(event.input))

    def action_mend(self) -> None:
        if faults := self._faults:
            self.guide.mend(faults[0])
