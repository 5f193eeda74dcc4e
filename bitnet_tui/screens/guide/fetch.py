"""Opens an experiment from a storage target: the form of the guide with its login and test, and two names."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input

from bitnet_core.errors import UsageError
from bitnet_core.runs.experiment import is_name
from bitnet_core.secrets.known import remember
from bitnet_core.storage.catalog import KINDS
from bitnet_tui import bindings
from bitnet_tui.screens.base import TOO_SMALL
from bitnet_tui.screens.guide.base import Guide, Made
from bitnet_tui.screens.guide.kept import keeper_of
from bitnet_tui.screens.guide.step import label_of
from bitnet_tui.screens.guide.storage import StorageStep
from bitnet_tui.services import keys
from bitnet_tui.services.managing import Fetch
from bitnet_tui.view.guide import storing
from bitnet_tui.view.guide.draft import BACKEND, Draft, Fault
from bitnet_tui.view.spans import Span, spread
from bitnet_tui.widgets.inputs import SteadyInput
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words

_FIRST = "local"


class TargetStep(StorageStep):
    """The form of a target; results are kept nowhere yet."""

    TARGETS = storing.groups()[1:]
    SYNCS = False

    def fail(self, backend: str, problem: str) -> None:
        """Say why nothing was opened, and offer to go to the field that the sentence names."""
        self._refused(backend, problem)


class FetchScreen(Guide):
    """A form over `bitnet open`; returns the experiment that was opened, or None."""

    CSS_PATH = ["../cards.tcss", "guide.tcss", "storage.tcss", "fetch.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#cards"
    ASKS_LATE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Cancel", id="fetch.cancel"),
        bindings.one("guide.test"),
        Binding("enter", "open", "Open", show=False, id="fetch.open"),
        Binding("f1", "app.help", "Help", show=False),
        Binding("down", "app.focus_next", "Next", show=False),
        Binding("up", "app.focus_previous", "Previous", show=False),
    ]
    _command: Fetch | None = None

    def __init__(self) -> None:
        super().__init__()
        self.draft = Draft().having(BACKEND, _FIRST)
        self.keys, self.tested, self.shared = {}, {}, {}
        self._looks, self._commands = {}, {}
        self._offer: Callable[[], object] = lambda: None

    def compose(self) -> ComposeResult:
        yield Painted(classes="head", id="head")
        with Container(id="guide-body"):
            yield TargetStep()
        with Vertical(id="names"):
            with Horizontal(classes="row"):
                yield label_of("Name there")
                yield SteadyInput(compact=True, id="there", placeholder="empty if it is the only one")
            with Horizontal(classes="row"):
                yield label_of("Name here")
                yield SteadyInput(compact=True, id="here", placeholder="as there")
        with Horizontal(id="bar"):
            yield Painted(id="problem", classes="-empty")
            yield Button("Mend it", id="offer", name="offered")
            yield Button("Cancel", id="cancel", name="leave")
            yield Button("Open", id="open", name="open")
        yield Words(TOO_SMALL, classes="too-small")

    def on_mount(self) -> None:
        self.on_resize()
        self.query_one("#offer").display = False
        self._step.begin()
        self.learn_keys()

    def on_resize(self) -> None:
        left = [Span("Open an experiment from a storage target", "title")]
        right = [Span(f"{self.shell.key('guide.test')} test · enter opens it · esc leaves", "label")]
        self.query_one("#head", Painted).show((spread(left, right, max(0, self.app.size.width - 2)),))

    @property
    def _step(self) -> TargetStep:
        return self.query_one(TargetStep)

    # -- what the form asks of a guide ---------------------------------------------------------------------------

    def change(self, name: str, text: str) -> None:
        self.draft = self.draft.having(name, text)

    def offer(self, words: str, act: Callable[[], object]) -> None:
        button = self.query_one("#offer", Button)
        button.display, button.label, self._offer = bool(words), Content(words), act

    def action_offered(self) -> None:
        self._offer()

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
        self.held, self.keeper = {one.name: one for one in found.keys}, keeper_of(found)
        self._step.changed()

    @property
    def suggested(self) -> str:
        return self.query_one("#there", Input).value.strip() or "experiment"

    @property
    def place(self) -> Path:
        name = self.query_one("#here", Input).value.strip()
        return self.shell.home / (name if is_name(name) else "experiment")

    # -- what keys and buttons do --------------------------------------------------------------------------------

    def action_test(self) -> None:
        self._step.action_test()

    def action_login(self) -> None:
        self._step.action_login()

    def on_input_submitted(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        if self.busy:
            return
        shell, backend = self.shell, self.draft.get(BACKEND)
        there, here = (self.query_one(f"#{one}", Input).value.strip() for one in ("there", "here"))
        typed = storing.typed(self.draft, self.keys)
        remember(typed.values())
        target = f"{backend}:{there}" if there else backend
        values = storing.question(self.draft, self.place)
        try:
            command = Fetch(shell.home, target, here, values, partial(shell.call_later, self._told))
        except UsageError as error:
            self.say(str(error), "bad")
            return

        def fetch() -> dict[str, Any]:
            for name, value in typed.items():
                keys.keep(shell.home, name, value)
            return command.run()

        self._command = command
        self._on_refusal = self._on_declining = partial(self._not_opened, backend)
        self.say("Looking for it…", "label")
        self.attempt(
            fetch,
            lambda done: self.dismiss(Made(Path(str(done["root"])))),
            offer=keys.VAULT_INSTEAD["offer"],
            without="Nothing was opened",
        )

    def _not_opened(self, backend: str, problem: str) -> None:
        self.say("", "label")
        self._step.fail(backend, problem)

    def _told(self, words: str) -> None:
        if self.on_stack and self.busy:
            self.say(words, "accent")

    def action_leave(self) -> None:
        """Stop a test, or what is being brought; the same form goes on from there."""
        if self._testing is not None:
            self._step.stop()
            return
        if self._command is not None and self.busy:
            self._command.cancel()
            self.abandon()
            self.app.notify("Stopped; what has arrived is kept, and opening it again goes on from there.")
        self.dismiss(None)
