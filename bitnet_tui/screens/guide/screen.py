"""The guide for a new experiment: its steps, the way between them, the draft, and making the experiment at the end.

A typed key goes to the OS keyring or the vault, never into a `.env` or the draft.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Button, Input

from bitnet_core.secrets.known import remember
from bitnet_core.text import flat, width
from bitnet_tui import bindings
from bitnet_tui.screens.base import TOO_SMALL
from bitnet_tui.screens.guide.base import Made
from bitnet_tui.screens.guide.hinted import HintedGuide
from bitnet_tui.screens.guide.machine import MachineStep
from bitnet_tui.screens.guide.review import ReviewStep
from bitnet_tui.screens.guide.step import Step
from bitnet_tui.screens.guide.storage import StorageStep
from bitnet_tui.screens.guide.student import StudentStep
from bitnet_tui.screens.guide.teacher import TeacherStep
from bitnet_tui.services import keys, managing
from bitnet_tui.view.guide import draft as drafted
from bitnet_tui.view.guide import review, storing
from bitnet_tui.view.guide.draft import STEPS
from bitnet_tui.view.key_rows import NO_VAULT
from bitnet_tui.view.offered import way
from bitnet_tui.view.spans import Span, hinted, joined
from bitnet_tui.widgets.guide import Cards, Pick, Rail, ShareBar
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words

_CLASSES: dict[str, type[Step]] = {
    one.step: one for one in (MachineStep, TeacherStep, StorageStep, StudentStep, ReviewStep)
}


class NewExperimentScreen(HintedGuide):
    """`source` is an experiment to copy the settings of. Returns what was made, or None."""

    CSS_PATH = [  # noqa: RUF012
        "../cards.tcss",
        "guide.tcss",
        "machine.tcss",
        "teacher.tcss",
        "storage.tcss",
        "student.tcss",
        "review.tcss",
    ]
    AUTO_FOCUS = ""  # the first step gives it: keys wait for that
    ASKS_LATE = False
    LOOK_SECONDS: ClassVar[float] = 0.5
    """An Enter or a click that comes sooner after the last step is shown belongs to the step before."""
    REPEAT_SECONDS: ClassVar[float] = 0.15
    """An Enter that comes sooner after another one is that of a key held down."""
    _shown: float | None = None
    """When the step was drawn."""
    _fresh = False
    """Whether another step has just made way for this one, and no Enter was meant for it yet."""
    _entered = 0.0
    """When the last Enter came, by the monotonic clock."""
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings.of("guide"),
        bindings.shared("move.next_part", "app.focus_next", priority=True),
        bindings.shared("move.previous_part", "app.focus_previous", priority=True),
        bindings.shared("move.choose", "enter", "Go on", priority=True),
        bindings.shared("field.next", "leave_field('next')", priority=True),
        bindings.shared("field.previous", "leave_field('previous')", priority=True),
    ]

    def compose(self) -> ComposeResult:
        yield Painted(classes="head", id="head")
        yield Rail(id="rail")
        yield Container(id="guide-body")
        yield Painted(id="hint")
        with Horizontal(id="bar"):
            yield Painted(id="problem", classes="-empty")
            yield Button("Mend it", id="offer", name="offered")
            yield Button("‹ Back", id="back", name="back")
            yield Button("Next ›", id="next", name="next")
        yield Words(TOO_SMALL, classes="too-small")

    def on_mount(self) -> None:
        self._say_head()
        self.query_one("#offer").display = False
        if self._source is not None:
            self.say(f"Reading the settings of {flat(self.draft.source)}…", "label")
        self._look_around()

    @property
    def complete(self) -> bool:
        return self._ready

    def on_resize(self) -> None:
        if self.on_stack:
            self._say_head()

    @property
    def _title(self) -> str:
        name = flat(self.draft.source)
        if self._returned:  # in every step: somebody may look for an empty one
            return f"Your draft: duplicate of {name}" if self._source else "Your draft"
        return f"Duplicate of {name}" if self._source else "New experiment"

    @property
    def title_cells(self) -> int:
        """As that of a `BaseScreen`."""
        return width(self._title)

    def _say_head(self) -> None:
        step, back = self._current, ["back"] if self._beside(-1) is not None else []
        test = ["test"] if step is not None and step.testable else []
        ways = [way(f"guide.{one}", one) for one in (*back, "create" if self._is_last else "next", *test)]
        leaves, kept = way("guide.leave", "leaves"), way("guide.leave", "leaves, the draft is kept")
        told = (joined([*ways, kept], " · "), joined([*ways, leaves], " · "), kept)
        head = hinted([Span(self._title, "title")], told, max(0, self.app.size.width - 2))
        self.query_one("#head", Painted).show((head,))

    # -- the way --------------------------------------------------------------------------------------------------

    async def _come_to(self, step: str, field: str = "") -> None:
        """Build a step and show it, with the focus on its first field or the one of a setting."""
        async with self._moving:  # keys and clicks are handled in different tasks
            await self._show_step(step, field)

    async def _show_step(self, step: str, field: str) -> None:
        self._ready, self._shown = False, None
        before = self._current
        self._fresh = before is not None
        if before is not None:
            before.leave()
        body = self.query_one("#guide-body")
        await body.remove_children()
        if not self.on_stack:
            return
        self._seen |= {step}
        if self._greeting != step:
            self._greeting = ""
        self._step = step
        if self.draft.step != step:
            self.draft = replace(self.draft, step=step)
            if not self.draft.empty:
                self._save_soon()
        made = _CLASSES[step]()
        await body.mount(made)
        if self.on_stack:  # else the step has lost its widgets
            self._begin_step(made, field)

    def _begin_step(self, made: Step, field: str) -> None:
        step = self._step
        self._show_faults()
        made.begin()
        self._ready = True
        self.query_one("#next", Button).label = Content("Create" if self._is_last else "Next ›")
        self.query_one("#back", Button).disabled = step == next(iter(STEPS))
        entry = (made.field(field) if field else None) or made.entry() or self.query_one("#next")
        entry.focus()
        self.refresh_bindings()
        self.call_after_refresh(self._seen_now)

    def _show_faults(self) -> None:
        super()._show_faults()
        self._say_head()

    def _beside(self, steps: int) -> str | None:
        names = list(STEPS)
        place = names.index(self._step) + steps
        return names[place] if 0 <= place < len(names) else None

    async def action_skip(self) -> None:
        """Go on, whatever is missing here: the review says it again."""
        following = self._beside(1)
        if following is not None:
            await self._come_to(following)
        else:
            self.say(f"This is the last step; {self.shell.key('guide.create')} creates the experiment.", "label")

    async def action_back(self) -> None:
        before = self._beside(-1)
        if before is not None:
            await self._come_to(before)

    async def action_next(self) -> None:
        if self._beside(1) is not None:
            await self.action_skip()
        elif self._is_meant:
            self.action_create()
        else:
            self._say_last()

    def _say_last(self) -> None:
        if self._is_last:
            self.say("This is what will be made; Enter makes it.", "label")

    @property
    def _is_meant(self) -> bool:
        """Whether the key or click at work is about the step that is shown: it came after one could see that."""
        return self._shown is not None and self.shell.typed_at >= self._shown + self.LOOK_SECONDS

    def _goes_through(self) -> bool:
        """Whether this Enter would pass an unseen step: the key that opened the step is still held down."""
        before, self._entered = self._entered, self.shell.typed_at
        self._fresh = self._fresh and (not self._is_meant or self._entered - before < self.REPEAT_SECONDS)
        return self._fresh

    def _seen_now(self) -> None:
        self._shown = time.monotonic()

    @on(Rail.Chosen)
    async def _jump(self, event: Rail.Chosen) -> None:
        if self._current is not None and event.step != self._step:
            await self._come_to(event.step)

    async def action_enter(self) -> None:
        """On a field: to the next one. On the last one, or on the cards: to what is missing here, or else go on.

        From a field the reason is said as well, since one has to go back for it.
        """
        if self._goes_through():
            self._say_last()
            return
        focused, step = self.focused, self._current
        if isinstance(focused, Button) or (focused is not None and focused.id == "models"):
            raise SkipAction
        if step is None:
            await self.action_next()
            return
        await step.settle(focused)
        following: Widget | None = None
        if isinstance(focused, Input):
            if step.passed:
                await self.action_next()
                return
            following = self.field_beside(focused, 1, Input)
            if following is None and step.lacks():
                return
            following = following or step.after_fields()
        elif isinstance(focused, Cards):
            following = step.after_cards()
        elif isinstance(focused, Pick | ShareBar) and step.lacks():
            return
        if following is focused:
            following = None
        if isinstance(focused, Input | Cards) and step.holds(focused, last=following is None):
            return
        if following is not None:
            # At once: `Widget.focus` waits for the messages before it.
            self.set_focus(following)
        else:
            await self.action_next()

    def take_word(self, text: str) -> bool:
        return self._current is not None and self._current.take_word(text)

    # -- testing and leaving --------------------------------------------------------------------------------------

    def action_test(self) -> None:
        if self._current is not None:
            self._current.action_test()

    def action_login(self) -> None:
        if isinstance(self._current, StorageStep):
            self._current.action_login()

    def action_list_models(self) -> None:
        if isinstance(self._current, TeacherStep):
            self._current.action_list_models()

    def action_traces(self) -> None:
        if isinstance(self._current, ReviewStep):
            self._current.action_traces()

    async def action_offered(self) -> None:
        """Do what the button at the foot offers, or else the one of the review."""
        if self.offers_by_key:
            await self._press_offer()
        else:
            self.action_mend()

    def action_mend(self) -> None:
        if isinstance(self._current, ReviewStep):
            self._current.action_mend()

    def action_leave(self) -> None:
        """End the test of this step, or leave: the draft is kept, and a test of another step ends."""
        trial = self._testing
        if trial is not None and (step := self.step_shown(trial.step)) is not None:
            step.stop()
            return
        if self.busy and trial is None:  # it is being made, and nothing of that can be taken back
            return
        self._leave_draft()
        self.dismiss(None)

    # -- making it ------------------------------------------------------------------------------------------------

    def action_create(self) -> None:
        """Keep the typed keys, then make the experiment; what is wrong is said first."""
        if self._current is not None:
            self._current.complete()
        found = self.faults()
        if found:
            self._touched |= {one.name for one in found}
            if self._step != "review":
                self.call_next(self._come_to, "review")
            self.call_next(self.say, "Not created yet: the review says what is missing.", "warn")
            return
        if self.busy and self._testing is None:
            return
        self.stop_test()
        self._make(with_keys=True)

    def _make(self, *, with_keys: bool) -> None:
        home, draft, kept = self.shell.home, self.named, self._kept
        typed = self.typed_keys if with_keys else {}
        remember(typed.values())
        start, source = self._start, self._source if self.brings_traces else None
        untried = storing.untried(self.draft, self.last_found("storage"), self.copied or {})

        def make() -> tuple[Path, str]:
            said = keys.keep_all(home, typed)
            root = managing.make(home, draft.name, drafted.env_text(draft), source)
            if kept is not None:
                kept.remove(time.monotonic_ns())
            return root, said

        def made(found: tuple[Path, str]) -> None:
            root, said = found
            self._stop_saving()
            self._written = True
            if said:
                self.app.notify(said)
            if untried:
                self.app.notify(untried, title="Storage", severity="warning")
            self.dismiss(Made(root, start))

        def not_made(problem: str) -> None:
            offer = "Create it without keys" if typed else ""
            self.say(problem, "bad", offer, lambda: self._make(with_keys=False), keyed=False)
            self.look("taken", lambda: managing.names_in(home), self._know_taken)

        def no_place(_: str) -> None:
            way = "choose a passphrase" if self.keeper == NO_VAULT else "open the vault"
            kept = "keys are" if len(typed) > 1 else "key is"
            text = f"Not created: the {kept} not kept yet. Press Create again to {way}."
            self.say(text, "warn", "Create it without keys", lambda: self._make(with_keys=False), keyed=False)

        doing = f"Keeping the key{'s' if len(typed) > 1 else ''}…" if typed else "Making it…"
        self._on_refusal, self._on_declining = not_made, no_place
        self.attempt(make, made, title="New experiment", doing=doing, **keys.VAULT_INSTEAD)

    @property
    def _start(self) -> str:
        step = self._current
        chosen = step.start if isinstance(step, ReviewStep) else ""
        return "" if chosen == review.ONLY else chosen
