"""The form of a storage target alone: the step of the guide with its login and test, outside the guide."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Button

from bitnet_core.storage.catalog import KINDS
from bitnet_tui import bindings
from bitnet_tui.screens.base import TOO_SMALL
from bitnet_tui.screens.guide.base import Guide
from bitnet_tui.screens.guide.storage import StorageStep
from bitnet_tui.services import keys
from bitnet_tui.view.guide import storing
from bitnet_tui.view.guide.draft import BACKEND, Draft, Fault
from bitnet_tui.view.key_rows import keeper
from bitnet_tui.view.offered import way
from bitnet_tui.view.spans import Span, hinted, joined
from bitnet_tui.widgets.guide import Cards
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words


class TargetStep(StorageStep):
    """The form of a target."""

    def fail(self, problem: str) -> None:
        """Say why nothing came of it, and lead to the field that the sentence names."""
        self.found_out(storing.failed(problem, self.draft), tested=False)


class TargetForm(Guide):
    """Its subclasses say what is done with the target: their action `act` does it."""

    CSS_PATH = ["../cards.tcss", "guide.tcss", "storage.tcss", "form.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#cards"
    ASKS_LATE = False
    GOES_ON = "#open"
    TAKES = "Storage"
    TITLE_WORDS: ClassVar[str]
    DOES: ClassVar[str]
    """What enter does, in the head line."""
    HINTS: ClassVar[dict[str, str]] = {}
    """What is said of a field below the form that has the focus, by its id."""
    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("field.cancel", "leave"),
        bindings.one("guide.test"),
        bindings.one("guide.mend"),
        bindings.shared("move.choose", "enter", "Go on", priority=True),
        bindings.shared("field.next", "leave_field('next')", priority=True),
        bindings.shared("field.previous", "leave_field('previous')", priority=True),
    ]

    _acts_after = False
    """Whether the button was pressed during a test: it acts when that has succeeded."""

    def __init__(self, draft: Draft) -> None:
        super().__init__()
        self.draft = draft
        self.keys, self.tested, self.shared = {}, {}, {}
        self._looks, self._commands = {}, {}
        self._offer: Callable[[], object] = lambda: None

    def compose(self) -> ComposeResult:
        yield Painted(classes="head", id="head")
        with Container(id="guide-body"):
            yield self.form()
        yield from self.more()
        yield Painted(id="hint")
        with Horizontal(id="bar"):
            yield Painted(id="problem", classes="-empty")
            yield Button("Mend it", id="offer", name="offered")
            yield Button("Cancel", id="cancel", name="leave")
            yield Button(Content(self.ACT), id="open", name="act")
        yield Words(TOO_SMALL, classes="too-small")

    def form(self) -> TargetStep:
        return TargetStep()

    def more(self) -> Iterable[Widget]:
        """What is asked below the form."""
        return ()

    def on_mount(self) -> None:
        self.on_resize()
        self.query_one("#offer").display = False
        self._step.begin()
        self.learn_keys()

    def on_resize(self) -> None:
        test, leaves = way("guide.test", "test"), way("field.cancel", "leaves", "leave")
        does = way("move.choose", self.DOES, "act")
        forms = (joined([test, does, leaves], " · "), joined([test, leaves], " · "), leaves)
        head = hinted([Span(self.TITLE_WORDS, "title")], forms, max(0, self.app.size.width - 2))
        self.query_one("#head", Painted).show((head,))

    @property
    def _step(self) -> TargetStep:
        return self.query_one(TargetStep)

    # -- what the form asks of a guide ---------------------------------------------------------------------------

    def change(self, name: str, text: str) -> None:
        before, self.draft = self.draft, self.draft.having(name, text)
        if self.draft != before and not self.busy:
            self.say("", "label")  # it was about what stood there before

    async def adopt(self, draft: Draft) -> None:
        self.stop_test()
        self.draft = draft
        cards = self.query_one(Cards)
        cards.highlighted = cards.get_option_index(draft.get(BACKEND))
        self._step.begin()

    def offer(self, words: str, act: Callable[[], object]) -> None:
        button = self.query_one("#offer", Button)
        button.display, button.label, self._offer = bool(words), Content(self.with_key(words)), act

    def action_offered(self) -> None:
        if self.query_one("#offer").display:
            self._offer()

    def step_shown(self, step: str) -> TargetStep | None:
        found = self.query(TargetStep)
        return found.last() if found and found.last().step == step else None

    def faults(self) -> tuple[Fault, ...]:
        return ()

    def doubts(self) -> tuple[Fault, ...]:
        return ()

    def question(self, step: str) -> object:  # noqa: ARG002 - there is one
        return storing.asked(self.draft, self.place, self.keys)

    def key_counts(self, name: str) -> bool:
        return name in KINDS[self.draft.get(BACKEND)].keys

    def learn_keys(self) -> None:
        self.look("keys", partial(keys.held, self.shell.home), self._know_keys)

    def _know_keys(self, found: Any) -> None:
        self.held, self.keeper = {one.name: one for one in found.keys}, keeper(found.keyring, found.vault)
        self._step.changed()

    def say_hint(self, widget: Widget) -> None:
        name = widget.id or ""
        words = "Enter presses it." if isinstance(widget, Button) else self.HINTS.get(name) or self._step.hint(name)
        self.query_one("#hint", Painted).say(words, "label")

    # -- what keys and buttons do --------------------------------------------------------------------------------

    def action_test(self) -> None:
        self._step.action_test()

    def action_login(self) -> None:
        self._step.action_login()

    async def action_enter(self) -> None:
        """Press the button that has the focus; from the targets to the first empty field; anywhere else, go on."""
        step, focused = self._step, self.focused
        await step.settle(focused)
        missing = step.missing() if isinstance(focused, Cards) else None
        if isinstance(focused, Button):
            focused.press()
        elif missing is not None:
            # At once: `Widget.focus` waits for the messages before it.
            self.set_focus(missing)
        else:
            self.action_act()

    def action_act(self) -> None:
        """What the button does. While a test or a login runs, it waits for that, and is not to be pressed again."""
        if self._testing is not None:
            self._acts_after = True
            self.say(f"{self.ACT} follows when that has ended.", "label")
        elif not self.busy:
            self.act()

    def act(self) -> None:
        """Do with the target what the form is for."""
        raise NotImplementedError

    def stop_test(self, step: str = "") -> bool:
        self._forget_act()
        return super().stop_test(step)

    def tried(self, step: str) -> None:  # noqa: ARG002 - there is one
        acts, found = self._acts_after, self._step.found
        self._forget_act()
        if acts and not (found and (found.why or found.offer)):
            self.action_act()

    def _forget_act(self) -> None:
        if self._acts_after:
            self._acts_after = False
            self.say("", "label")
