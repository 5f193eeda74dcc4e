"""The guide as its steps see it: the draft, typed keys, look-ups in threads, and tests that a person asks for."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from textual import events
from textual.actions import SkipAction
from textual.widget import Widget
from textual.widgets import Input

from bitnet_core.secrets.known import redactor, remember
from bitnet_core.text import width
from bitnet_tui.screens.guide.looking import LookupScreen
from bitnet_tui.services.commands import Command
from bitnet_tui.view.guide import keylike, labelled, pasted, storing, teachers
from bitnet_tui.view.guide.carrying import Carried
from bitnet_tui.view.guide.draft import START, Draft, Fault, collects_same
from bitnet_tui.view.guide.teachers import Found
from bitnet_tui.view.guide.words import plain
from bitnet_tui.view.spans import Span, line
from bitnet_tui.widgets.guide import Pick, ShareBar
from bitnet_tui.widgets.inputs import SecretInput

if TYPE_CHECKING:
    from bitnet_core.secrets.inventory import Held
    from bitnet_tui.screens.guide.step import TestedStep
    from bitnet_tui.services.starts import Start


_AGAIN_SECONDS = 0.1
_WIDEST, _OTHER_BUTTONS = 132, 36
"""Cells of the foot in a large window, and those that a button there leaves to the others."""
_NO_LABEL = "Nothing taken: write each line as “label: value”, such as “Model: …”."
_ONE_VALUE = "Nothing taken: paste one value alone, without words around it."
_NOT_TAKEN = "Something else was running when this was pasted; paste it again once that has ended."


def _one_key(text: str) -> bool:
    """Whether a text is a key of a known form alone, which the field itself refuses."""
    return len(text.split()) == 1 and redactor()(text) != text


@dataclass(frozen=True)
class Made:
    """What the guide made: the experiment's folder, and the stage to start; empty = none."""

    root: Path
    start: str = ""


@dataclass(eq=False)
class Trial:
    """A test of a step or a login, as long as it runs. It goes on while another step is shown."""

    step: str
    name: str
    """What it is, to begin a sentence with."""
    question: object
    """What it is about."""
    command: Command
    read: Callable[[Any], Found]
    """What the command's answer means."""
    failed: Callable[[str], Found]
    """What it means that there is none, for this reason."""
    shown: Found
    """What its step shows meanwhile."""
    counts: bool = True
    """Whether it says if what is chosen works: a login does not."""


class Guide(LookupScreen[Made | None]):
    """The guide as its steps see it."""

    GOES_ON: ClassVar[str] = "#next"
    """The button that goes on."""
    ACT: ClassVar[str] = "Create"
    """The word on the button that ends the guide or form by doing what it is for."""
    TAKES: ClassVar[str] = ""
    """How the sections begin whose settings can be pasted."""
    draft: Draft
    keys: dict[str, str]
    """Typed keys, by setting, until the experiment is made. They are kept nowhere before."""
    carried: dict[str, Carried]
    """What the card of each own server got from that of another one."""
    held: "dict[str, Held] | None" = None
    """Where each key is kept; None while that is being asked."""
    keeper = "the OS keyring"
    """Where a new key goes, in words."""
    taken: frozenset[str] = frozenset()
    """The names in the workspace."""
    tested: dict[str, tuple[object, Found]]
    """What the last test of a step found, with the question that it answered; `last_found` if it still counts."""
    LINKED = ("guide.test", "guide.next", "guide.leave")
    copied: Mapping[str, str] | None = None
    """The settings of the experiment that this is a copy of, once they are known."""
    source_traces: Path | None = None
    source_checkpoints: Path | None = None
    """Where the traces of that experiment are, if it has any."""
    shared: dict[str, Any]
    """What was looked up and does not change while the guide is open."""

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self.say_hint(event.widget)

    def on_input_changed(self) -> None:
        """Say the hint again, whichever field was changed: where Enter leads depends on all of them."""
        if isinstance(self.focused, Input):
            self.say_hint(self.focused)

    def action_leave_field(self, way: Literal["next", "previous"]) -> None:
        """Move the focus before the next input arrives: a key pasted in haste must not land in a visible field.

        The last field leads to the button that goes on.
        """
        if not isinstance(self.focused, Input | Pick | ShareBar):
            raise SkipAction
        beside = self.field_beside(self.focused, 1 if way == "next" else -1, Input, Pick, ShareBar)
        if beside is None and way == "previous":
            self.focus_previous()
        else:
            self.set_focus(beside or self.query_one(self.GOES_ON))

    def field_beside(self, field: Widget, steps: int, *kinds: type[Widget]) -> Widget | None:
        """The field of one of these kinds that is `steps` places after another; None beyond the ends."""
        fields = [one for one in self.query("*") if isinstance(one, kinds) and one.focusable and one.display]
        place = fields.index(field) + steps
        return fields[place] if 0 <= place < len(fields) else None

    def say_hint(self, widget: Widget) -> None:
        """Say what the widget that has the focus is for."""
        raise NotImplementedError

    def worded(self, sentence: str) -> str:
        return plain(sentence)

    def change(self, name: str, text: str) -> None:
        """Put a setting into the draft."""
        raise NotImplementedError

    def type_key(self, name: str, text: str) -> None:
        """Remember what was typed for a key."""
        self.keys[name] = text

    async def take_in(self, text: str) -> bool:
        """Fill all fields at once from pasted settings. A key must not land in a field that shows it."""
        field = self.focused
        one_for_a_field = isinstance(field, Input) and len(text.split()) == 1
        found = await asyncio.to_thread(pasted.read, text, self.TAKES, self.draft, bare=not one_for_a_field)
        if isinstance(field, SecretInput) and not (found and (found.values or found.keys)):
            if key := labelled.only_secret(text):
                field.value = key
            return bool(key)
        if found is None and not isinstance(field, Input) and not self.take_word(text):
            self.say(_NO_LABEL, "warn")
        if found is None and isinstance(field, Input) and not keylike.is_one_value(text) and not _one_key(text):
            self.say(_ONE_VALUE, "warn")
            return True
        if found is None:
            return not isinstance(field, Input)
        remember(found.keys.values())
        await self._take(found)
        return True

    def take_word(self, text: str) -> bool:  # noqa: ARG002 - see the new experiment's
        """Whether a text without labels, pasted where no field has the focus, was put into a field."""
        return False

    async def _take(self, found: pasted.Pasted) -> None:
        """Fill the fields; a test ends with that. Not while it is being made: that has read the draft."""
        if self.busy and self._testing is None:
            self.app.notify(_NOT_TAKEN, title="Not taken", severity="warning")
            return
        if not self.complete:  # a step is being shown
            self.set_timer(_AGAIN_SECONDS, partial(self._take, found))
            return
        draft, self.keys = pasted.with_pasted(self.draft, self.keys, found)
        await self.adopt(draft)
        self.say(found.words(self.query_one("#problem").content_size.width), "label")

    async def adopt(self, draft: Draft) -> None:
        """Go on with another draft, at the step that is shown."""
        raise NotImplementedError

    def offer(self, words: str, act: Callable[[], object]) -> None:
        """Show a button with these words that does something; none if there are no words."""
        raise NotImplementedError

    @property
    def offers(self) -> bool:
        """Whether that button is shown."""
        raise NotImplementedError

    @property
    def offers_by_key(self) -> bool:
        """Whether it is shown, and a key presses it."""
        return self.offers

    def with_key(self, words: str, cells: int = 0, of: str = "guide.mend") -> str:
        """The words of a button, with the key of its action where `cells`, or the foot, have room for it."""
        named = f"{self.shell.key(of)} {words}"
        return named if width(named) <= (cells or min(self.size.width, _WIDEST) - _OTHER_BUTTONS) else words

    def rename(self, name: str) -> None:
        """Give the experiment a name; an empty one is `suggested`."""
        raise NotImplementedError

    def choose_start(self, value: str) -> None:
        """Note what to start once the experiment is made; empty = the default."""
        raise NotImplementedError

    def bring_traces(self, wanted: bool) -> None:
        """Let the experiment begin with the traces of its source, or without."""
        raise NotImplementedError

    @property
    def brings_traces(self) -> bool:
        """Whether it begins with them: unless it was said, if it would collect the same."""
        if self.source_traces is None:
            return False
        return self.draft.traces if self.draft.traces is not None else collects_same(self.draft, self.copied or {})

    def faults(self) -> tuple[Fault, ...]:
        """What has to be mended."""
        raise NotImplementedError

    def doubts(self) -> tuple[Fault, ...]:
        """What does not keep the experiment from being made, but will stop it later."""
        raise NotImplementedError

    def question(self, step: str) -> object:
        """What a test of a step is about now."""
        raise NotImplementedError

    def last_found(self, step: str) -> Found | None:
        """What the last test of a step found, if nothing that it was about has changed since."""
        asked, found = self.tested.get(step, (None, None))
        return found if found is not None and asked == self.question(step) else None

    @property
    def start(self) -> "Start | None":
        """What is known of the model that the draft starts from; None until it was looked for."""
        found: Start | None = self.shared.get("start")
        return found if found is not None and found.text == self.draft.get(START) else None

    def untested(self, step: str) -> str:
        """Why the last test of a step tells nothing of its choice as it is now; empty if it does or there is none."""
        asked, _ = self.tested.get(step, ({}, None))
        if not isinstance(asked, dict) or self.last_found(step) is not None or self.running(step) is not None:
            return ""
        return teachers.untested(asked, self.draft) if step == "teacher" else storing.untested(asked, self.draft)

    def mend(self, fault: Fault) -> None:
        """Set what would be right, or go to the field."""
        raise NotImplementedError

    def learn_keys(self) -> None:
        """Ask where each key is kept."""
        raise NotImplementedError

    def vault_opened(self) -> None:
        self.learn_keys()

    def key_counts(self, name: str) -> bool:
        """Whether a typed key is one of the chosen teacher or target."""
        raise NotImplementedError

    @property
    def typed_keys(self) -> dict[str, str]:
        """The typed keys of the chosen teacher and target."""
        return {name: value for name, value in self.keys.items() if value and self.key_counts(name)}

    @property
    def asks_first(self) -> str:
        """What making the experiment asks before, as a further sentence; empty if it asks nothing."""
        raise NotImplementedError

    @property
    def suggested(self) -> str:
        """The name that it gets if none is typed."""
        raise NotImplementedError

    @property
    def place(self) -> Path:
        """Where the experiment will be."""
        raise NotImplementedError

    # -- tests: one at a time, and the vault may be asked for ------------------------------------------------------

    _testing: Trial | None = None
    _on_refusal: Callable[[str], object] = staticmethod(lambda _: None)
    _on_declining: Callable[[str], object] | None = None
    """What to do where the vault stayed closed, if that is not a refusal."""

    def step_shown(self, step: str) -> "TestedStep | None":
        """This step, if it is the one that is shown, and all of it is there."""
        raise NotImplementedError

    def may_test(self, step: str) -> bool:
        """Whether a test of the step may begin. If that of another one is in the way, it is said."""
        running = self._testing
        if running is None:
            return not self.busy
        if running.step == step and running.question == self.question(step):
            return False
        if running.step == step:
            self.stop_test()
            return True
        self.say_in_the_way(running)
        return False

    def say_in_the_way(self, running: Trial) -> None:
        """Say that this test has to end before another one can begin."""
        raise NotImplementedError

    def running(self, step: str) -> Trial | None:
        """The test of the step that runs, if nothing that it is about has changed since."""
        trial = self._testing
        found = trial is not None and trial.step == step and trial.question == self.question(step)
        return trial if found else None

    def test(self, trial: Trial) -> None:
        """Run a test that the user asked for."""
        self._testing, self._on_declining = trial, None
        self._on_refusal = lambda problem: self._tried(trial, trial.failed(problem))
        self.show_running(trial, trial.shown)
        self.tell_seconds(lambda: self._testing is trial, partial(self._show_seconds, trial))
        self.attempt(
            trial.command.run, lambda report: self._tried(trial, trial.read(report)), without="Nothing was tested"
        )

    def _show_seconds(self, trial: Trial, taken: int) -> None:
        """Show how long a test has taken."""
        step = self.step_shown(trial.step)
        if step is not None and trial.counts:
            so_far = line(Span(f"{taken} s so far", "label"))
            step.show_running(replace(trial.shown, lines=(*trial.shown.lines, so_far)))

    def show_running(self, trial: Trial, words: Found) -> bool:
        """Show how far the test is at its step, also if one comes back to that. Whether it still runs."""
        if self._testing is not trial:
            return False
        trial.shown = words
        if (step := self.step_shown(trial.step)) is not None:
            step.show_running(words)
        return True

    def _tried(self, trial: Trial, found: Found) -> None:
        """Keep what a test found, and show it if its step is shown and it still counts."""
        self._testing = None
        step = self.step_shown(trial.step)
        if trial.counts or (found.why and step is None):
            self.tested[trial.step] = (trial.question, found)
        if step is not None and trial.question == self.question(trial.step):
            step.found_out(found, tested=trial.counts)
        self.tried(trial.step)

    def tried(self, step: str) -> None:
        """What is known of another step's choice may have changed."""

    def stop_test(self, step: str = "") -> bool:
        """End a running test, or that of a step alone; its answer is ignored. Whether there was one."""
        if self._testing is None or step not in ("", self._testing.step):
            return False
        self._testing.command.cancel()
        self._testing = None
        self.abandon()
        return True

    def refused(self, problem: str) -> None:
        self._testing = None
        self._on_refusal(problem)

    def declined(self, problem: str) -> None:
        self._testing = None
        (self._on_declining or self._on_refusal)(problem)
