"""What every step of the guide has: its fields, hints and marks, and what a test found."""

from collections.abc import Iterable
from functools import partial
from typing import ClassVar, cast

from textual import on
from textual.containers import Container
from textual.css.query import NoMatches
from textual.widget import Widget
from textual.widgets import Button, Input, OptionList

from bitnet_core.text import crop, flat
from bitnet_tui import key_names
from bitnet_tui.screens.guide.base import Guide
from bitnet_tui.view.guide import addresses, teachers
from bitnet_tui.view.guide.draft import Draft
from bitnet_tui.view.guide.teachers import Found
from bitnet_tui.view.offered import linked
from bitnet_tui.widgets.guide import Cards
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words

_MOST_OF_A_NAME = 20
_SLIM, _LOW = 72, 18
"""In a window of fewer columns a field has more of them than a list; of fewer rows, only what is needed is shown."""


class Step(Container):
    """One step. It is built each time it is opened: what it shows is in the draft."""

    step: ClassVar[str]
    _offered = False

    def __init__(self) -> None:
        super().__init__(id=f"step-{self.step}", classes="step")

    def on_mount(self) -> None:
        self.on_resize()  # else it is laid out twice

    def on_resize(self) -> None:
        slim = self.app.size.width < _SLIM
        self.set_class(slim, "-slim")
        self.screen.set_class(slim, "-slim")
        self.set_class(self.app.size.height < _LOW, "-low")

    @property
    def guide(self) -> Guide:
        return cast("Guide", self.screen)

    @property
    def draft(self) -> Draft:
        return self.guide.draft

    def entry(self) -> Widget | None:
        """What has the focus first; None = the button that goes on."""
        return None

    def begin(self) -> None:
        """Everything is mounted."""

    def leave(self) -> None:
        """One goes to another step: end what is being asked."""

    def changed(self) -> None:
        """The draft is another one."""

    def complete(self) -> None:
        """Complete what was typed in short."""

    def missing(self) -> Widget | None:
        """The empty field to fill before one can go on."""
        return None

    def lacks(self) -> bool:
        """Whether a field that has to be filled is empty; then that is said, and it gets the focus."""
        missing = self.missing()
        if missing is not None:
            self.guide.say(self.needed(missing), "warn")
            self.screen.set_focus(missing)
        return missing is not None

    def needed(self, missing: Widget) -> str:
        """That this field has to be filled, and with what."""
        raise NotImplementedError

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        if isinstance(event.option_list, Cards):
            self.choose(event.option_list.chosen)  # another line may be highlighted since this message was sent

    def choose(self, value: str) -> None:
        """Take what is highlighted in the cards."""

    async def built(self) -> None:
        """Wait until all fields of what is chosen are there."""

    async def settle(self, focused: Widget | None) -> None:
        """Take what was chosen and typed: Enter may come before the message that a card is highlighted."""
        if isinstance(focused, Cards):
            self.choose(focused.chosen)
        self.complete()
        await self.built()

    def after_cards(self) -> Widget | None:
        """Where Enter leads from the cards; None = to the next step."""
        return self.missing()

    def after_fields(self) -> Widget | None:
        """Where Enter leads from the last field; None = to the next step."""
        return None

    def holds(self, focused: Widget, *, last: bool) -> bool:  # noqa: ARG002 - see `TestedStep`
        """Whether Enter does something here and does not go on; `last`: it would leave the step."""
        return False

    def instead(self, focused: Input, *, last: bool) -> str:  # noqa: ARG002 - see `TestedStep`
        """What Enter does in this field where it `holds`, in words; empty where it goes on."""
        return ""

    @property
    def passed(self) -> bool:
        """Whether what is chosen here was tested and is as it should be."""
        return False

    def field(self, name: str) -> Widget | None:
        """The field of a setting."""
        try:
            return self.query_one(f"#field-{name}")
        except NoMatches:
            return None

    def hint(self, name: str) -> str:  # noqa: ARG002 - see the steps
        """What to say of the field that has the focus."""
        return ""

    def take_word(self, text: str) -> bool:  # noqa: ARG002 - see the teacher's step
        """Whether a text without labels, pasted where no field has the focus, was put into a field."""
        return False

    @property
    def testable(self) -> bool:
        """Whether there is something to test."""
        return False

    def action_test(self) -> None:
        """Test what was chosen here, if it can be tested."""
        self.guide.say("There is nothing to test here.", "label")

    # -- helpers -------------------------------------------------------------------------------------------------

    def _say_hint(self) -> None:
        """Say again what is said of the widget with the focus: it depends on what was chosen."""
        if (focused := self.screen.focused) is not None:
            self.guide.say_hint(focused)

    def lines(self, where: str) -> Painted:
        return self.query_one(where, Painted)

    def show_found(self, found: Found | None) -> None:
        """Show what a test found, and offer what mends it."""
        self.lines("#found").show(tuple(linked(found.lines, "guide.leave")) if found else ())
        offer = found.offer if found else ""
        if offer or self._offered:  # else the button may be about a field
            self.guide.offer(offer, self.mend_found)
        self._offered = bool(offer)

    def offer_other(self, name: str, words: str, draft: Draft) -> None:
        """Offer to take over what another experiment has, which the words say; `draft` is the one with that."""
        if self.guide.offers:
            return
        self.guide.say(words, "label")
        self.guide.offer(f"As in {crop(flat(name), _MOST_OF_A_NAME)}", partial(self.guide.adopt, draft))
        self._offered = True

    def mend_found(self) -> None:
        """Do what was offered: set settings, or go to a field."""

    def mark(self, names: frozenset[str]) -> None:
        """Mark the fields of these settings as wrong, and no others."""
        for entry in self.query(".entry"):
            entry.set_class((entry.id or "").removeprefix("field-") in names, "-wrong")


class TestedStep(Step):
    """A step whose choice can be tested. It holds what is shown of the last test."""

    _shown: Found | None = None
    _failed: Found | None = None
    """What the last test of this choice found, if it failed; what it was about may have changed since."""
    _tested_from: tuple[Widget | None, str] = (None, "")
    """What had the focus when the test began, and the text in it."""

    @property
    def found(self) -> Found | None:
        """What is shown of the last test, login or attempt, or how far the one is that runs."""
        return self._shown

    @property
    def _question(self) -> object:
        """What a test is about now."""
        return self.guide.question(self.step)

    def leave(self) -> None:
        self.complete()

    def address_fields(self) -> Iterable[tuple[str, Input]]:
        """The settings that are addresses, with their fields."""
        raise NotImplementedError

    @on(Input.Blurred)
    def _left_field(self) -> None:
        self.complete()

    def complete(self) -> None:
        """Put a scheme before each address that was typed without one."""
        for name, entry in self.address_fields():
            address = value_of(entry)
            if scheme := addresses.scheme(address):
                place = entry.cursor_position + len(scheme)
                with self.prevent(Input.Changed):  # it would end the test that comes next
                    entry.value = f"{scheme}{address}"
                entry.cursor_position = place  # at the letter where it was
                self.guide.change(name, entry.value)

    def note_focus(self) -> None:
        """A test begins: what it finds may move the focus from where that is now."""
        focused = self.screen.focused
        self._tested_from = focused, focused.value if isinstance(focused, Input) else ""

    @property
    def typing(self) -> bool:
        """Whether the user has gone to a field or typed in one since the test began: then the focus stays there."""
        focused = self.screen.focused
        return isinstance(focused, Input) and self._tested_from != (focused, focused.value)

    def retyped(self, field: str) -> bool:
        """End a test of what was there before this change, and say so. Returns whether one was running."""
        stopped = self.guide.stop_test(self.step)
        if stopped:
            self._show(teachers.stopped(field))
        return stopped

    def stop(self) -> None:
        """End a running test."""
        if self.guide.stop_test(self.step):
            self._show(None)

    def show_running(self, words: Found) -> None:
        """Show how far a test is."""
        self._show(words)

    def found_out(self, found: Found, *, tested: bool = True) -> None:
        """Show what a test of this choice found, or a login if not `tested`."""
        if tested:
            self._tested(found)
        else:
            self._show(found)
        if found.why or found.offer:
            self.lead(found)
            if isinstance(self.screen.focused, Input):
                self.guide.say_hint(self.screen.focused)
        elif tested and self.screen.query("#test:focus, #offer:focus"):
            self.screen.query("#next").focus()  # Enter would only test it again
        elif isinstance(self.screen.focused, Input):
            self.guide.say_hint(self.screen.focused)

    def _tested(self, found: Found | None) -> None:
        """Show what the last test of this choice found, or how far the one is that runs."""
        running = self.guide.running(self.step)
        found = running.shown if running is not None else found
        self._failed = found if found is not None and found.why else None
        self._show(found)

    def lead(self, found: Found) -> None:
        """From the button that was pressed to the field that is wrong, or to the button that mends it."""
        wrong = self.field(found.field) if found.field else None
        if isinstance(self.screen.focused, Button):
            if wrong is not None:
                wrong.focus()
            elif found.offer:
                self.screen.query("#offer").focus()

    @property
    def passed(self) -> bool:
        found = self.guide.last_found(self.step)
        return found is not None and not found.why and not found.offer and self.missing() is None

    def holds(self, focused: Widget, *, last: bool) -> bool:
        """A test that failed: once its field has changed, Enter tests again; before, it offers what mends it.

        The focus stays where it is: what is typed next must not replace another field's text.
        """
        failed = self._failed
        if failed is None:
            return False
        if self.guide.last_found(self.step) is None:
            again = self._tests_again(focused, failed, last=last)
            if again:
                self.action_test()
            return again
        if last:
            self.guide.say(_failed_words(), "warn")
            self.guide.offer(failed.offer, self.mend_found)
        return last

    def instead(self, focused: Input, *, last: bool) -> str:
        failed = self._failed
        if failed is None:
            return ""
        if self.guide.last_found(self.step) is None:
            return "Enter tests it again." if self._tests_again(focused, failed, last=last) else ""
        return _failed_words() if last else ""

    def _tests_again(self, focused: Widget, failed: Found, *, last: bool) -> bool:
        named = self.field(failed.field) if failed.field else None
        return isinstance(focused, Input) and (last or focused is named)

    def _show(self, found: Found | None) -> None:
        self._shown = found
        self.show_found(found)

    def key_hint(self, setting: str) -> str:
        """What the field of a key says of where it is or will be kept."""
        held = (self.guide.held or {}).get(setting)
        origin, end = (held.origin, held.end) if held else ("", None)
        return teachers.key_hint(
            origin, end, self.guide.keeper, self.guide.ACT, typed=bool(self.guide.keys.get(setting))
        )


def _failed_words() -> str:
    return f"The test failed; {key_names.key('guide.next')} continues anyway."


def value_of(entry: Input) -> str:
    return entry.value.strip()


def label_of(words: str) -> Words:
    return _Label(words, classes="name")


class _Label(Words):
    """The name of the field beside it: a click on it enters the field."""

    def on_click(self) -> None:
        field = next((one for one in self.siblings if one.focusable), None)
        if field is not None:
            self.screen.set_focus(field)
