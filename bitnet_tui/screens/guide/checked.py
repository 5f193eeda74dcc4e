"""What is wrong with the guide's draft, and what its tests found: where it is shown, and how it is mended."""

from collections.abc import Awaitable, Callable
from functools import partial

from textual.widgets import Button

from bitnet_core.text import width
from bitnet_tui.screens.guide.base import Trial
from bitnet_tui.screens.guide.kept import KeptGuide
from bitnet_tui.screens.guide.step import TestedStep
from bitnet_tui.view.guide import doubts, review, storing, teachers
from bitnet_tui.view.guide import draft as drafted
from bitnet_tui.view.guide.draft import STEPS, Fault
from bitnet_tui.widgets.buttons import relabel
from bitnet_tui.widgets.guide import Rail
from bitnet_tui.widgets.painted import Painted

_SIDES = 4
"""Cells beside the words at the foot."""


class CheckedGuide(KeptGuide):
    """At its foot it says one sentence, with a button where something can be done about it."""

    _offer: Callable[[], object] = staticmethod(lambda: None)
    """What that button does."""
    _keyed = True
    """Whether the key for what is offered presses that button."""
    _greets = False
    """Whether the sentence shown is that this draft was left before."""

    def faults(self) -> tuple[Fault, ...]:
        return drafted.faults(self.named, self.taken)

    def doubts(self) -> tuple[Fault, ...]:
        here = None
        if self.held is not None:
            kept = {name for name, one in self.held.items() if one.origin}
            here = kept | {name for name, value in self.keys.items() if value}
        found = {step: one for step in ("teacher", "storage") if (one := self.last_found(step))}
        failed = {step: one.why for step, one in found.items() if one.why}
        failed |= dict.fromkeys(filter(self.running, ("teacher", "storage")), teachers.RUNNING)
        lacking = doubts.doubts(self.draft, here, failed, kept=self._returned)
        works = {step for step, one in found.items() if not one.why}  # such as with the login of another program
        unset = doubts.unset(self.draft, found["teacher"]) if "teacher" in found else ()
        untested = doubts.untested({one: why for one in ("teacher", "storage") if (why := self.untested(one))})
        start = doubts.of_start(self.start) if self.start is not None else ()
        lacking = tuple(one for one in lacking if one.step not in works)
        return (*lacking, *unset, *untested, *start, *doubts.warned(self.draft))

    # -- tests --------------------------------------------------------------------------------------------------

    def question(self, step: str) -> object:
        if step == "teacher":
            return teachers.asked(self.draft, self.keys)
        return storing.asked(self.draft, self.place, self.keys)

    def step_shown(self, step: str) -> TestedStep | None:
        shown = self._current
        return shown if self._ready and isinstance(shown, TestedStep) and shown.step == step else None

    def say_in_the_way(self, running: Trial) -> None:
        self.say(f"{running.name} is still running.", "warn", "Stop it", partial(self._stop_and_say, running))

    def _stop_and_say(self, running: Trial) -> None:
        if self._testing is running:
            self.stop_test()
        self.say("", "label")
        self._tell_step()

    def tried(self, step: str) -> None:
        self._show_rail()
        if self._step != step:
            self._tell_step()

    # -- what is said ---------------------------------------------------------------------------------------------

    def _show_rail(self) -> None:
        if self._current is None:  # which one will be the first is being read
            return
        found = (*self.faults(), *self.doubts())
        wrong = frozenset(one.step for one in found if one.stops and one.why != teachers.RUNNING)
        self.query_one(Rail).show(self._step, self._seen, wrong)

    def _show_faults(self) -> None:
        """Mark what is wrong here and has been touched, and say the first. What is mended is unmarked."""
        step = self._current
        found = (*self.faults(), *doubts.misplaced(self.draft))
        self._show_rail()
        if step is None:
            return
        here = [one for one in found if one.step == self._step and one.name in self._touched]
        step.mark(frozenset(one.name for one in here))
        if not here or self._step == "review":
            self._say_nothing_wrong()
            return
        fault = here[0]
        words = review.fault_words(fault).partition(" · ")[2]
        offer = review.offer_words(fault) if fault.offer else ""
        self.say(f"{words}", "warn", offer, lambda: self.mend(fault))

    def _say_nothing_wrong(self) -> None:
        """Say that this is a draft while the first step is shown, else nothing."""
        if self._greeting == self._step:
            without = ", without keys" if self.draft.had_keys else ""
            words = f"Your draft goes on at “{STEPS[self._step]}”, where you left it{without}."
            self.say(
                words, "label", self.with_key("Start afresh", of="guide.afresh"), self.action_afresh, keyed=False
            )
            self._greets = True
        else:
            self.say("", "")

    def say(
        self,
        text: str,
        style: str,
        offer: str = "",
        act: Callable[[], object] = lambda: None,
        *,
        keyed: bool = True,
    ) -> None:
        """Say a sentence, with a button that does something about it. `keyed` as in `offer`."""
        super().say(text, style)
        self._greets = False
        self.set_class(bool(offer) and style != "label", "-mending")
        self.offer(offer, act, keyed=keyed)

    def offer(self, words: str, act: Callable[[], object], *, keyed: bool = True) -> None:
        """As in `Guide`. No key presses the button without `keyed`, or where the review has one that mends."""
        button = self.query_one("#offer", Button)
        if words and self._greets:  # those words are about another button
            super().say("", "")
            self._greets = False
        self._keyed = keyed and not (self._step == "review" and (self.faults() or self.doubts()))
        button.display = bool(words)
        self.set_class(bool(words), "-offering")
        said = str(self.query_one("#problem", Painted).content)
        if not words or width(said) > self.size.width - _SIDES:  # beside an offer there is one line for the words
            self.set_class(bool(words), "-mending")
        self._offer = act
        if words:
            relabel(button, self.with_key(words) if self._keyed else words)

    @property
    def offers(self) -> bool:
        return bool(self.query_one("#offer", Button).display)

    @property
    def offers_by_key(self) -> bool:
        """Whether the key for what is offered presses the button at the foot."""
        return self.offers and self._keyed

    async def on_button_pressed(self, event: Button.Pressed) -> None:
        """Without a key the offer has no action to run, so a press of its button does it here."""
        if event.button.id == "offer" and not self._keyed:
            event.prevent_default()
            await self._press_offer()

    async def _press_offer(self) -> None:
        done = self._offer() if self.offers else None
        if isinstance(done, Awaitable):
            await done

    def mend(self, fault: Fault) -> None:
        """Set what would be right, or go to the field."""
        if fault.name == "NAME" and fault.offer:
            self.rename(fault.offer)
        elif fault.offer:
            self.change(fault.name, fault.offer)
        self._touched.add(fault.name)
        self.call_next(self._come_to, fault.step, fault.name)
