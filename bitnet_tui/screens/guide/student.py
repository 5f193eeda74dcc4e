"""The step "Student and budget": its size, how long it trains, when activations flip, and what that will take."""

import re
from collections.abc import Mapping
from typing import cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input

from bitnet_core.settings.presets import own_weights
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.unused import unused_of_start
from bitnet_core.settings.values import FlipOptions
from bitnet_core.text import count
from bitnet_tui.labels import label
from bitnet_tui.screens.guide.estimating import Estimate
from bitnet_tui.screens.guide.step import Step, label_of, value_of
from bitnet_tui.services.starts import Start
from bitnet_tui.view import share
from bitnet_tui.view.guide import doubts
from bitnet_tui.view.guide.doubts import LAST_RATE
from bitnet_tui.view.guide.draft import (
    EMBEDDED,
    LENGTH,
    ONLINE,
    SIZES,
    START,
    STUDENT_FIELDS,
    default,
    is_on,
    may_teach_online,
    wrong,
)
from bitnet_tui.view.guide.estimates import TITLE
from bitnet_tui.view.guide.words import about, preset_words
from bitnet_tui.view.spans import Span, line
from bitnet_tui.view.typed import plain_value
from bitnet_tui.widgets.guide import Pick, ShareBar
from bitnet_tui.widgets.inputs import SteadyInput
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words

_FLIP, _PRESET = "FLIP_FRACTION", "MINI_PRESET"
_HELD_OUT = "One prompt in ten is held out to measure on; 320 answers leave enough."
_PAID = "320 answers leave enough held out to measure on; this teacher may charge for them."
_SIX_LAYERS = {"STUDENT_INIT_LAYERS": "6", "LR": "3e-4", LAST_RATE: "3e-5"}
"""With the rates that were best for a start from layers of the embedded teacher (docs/RESULTS.md)."""
_PAUSE_SECONDS = 0.7
"""How long nothing is typed before a new estimate is made."""
_EMPTY = {"TOKENIZER_NAME": "SmolLM2's", "TOTAL_STEPS": "by the budget", "BUDGET_TOKENS": "by the epochs"}
_IF_EMPTY = re.compile(r"empty = [^.]*\.")


class StudentStep(Step):
    """A new estimate is made once nothing is typed for a moment."""

    step = "student"
    _pause: Timer | None = None
    _start: Start | None = None
    """What was known of the model to start from when it was last told."""

    def compose(self) -> ComposeResult:
        with Horizontal(classes="row", id="shape"):
            yield label_of(label(_PRESET))
            presets = tuple((preset_words(name), name) for name in REGISTRY[_PRESET].choices)
            yield Pick(presets, self.draft.get(_PRESET), id=f"field-{_PRESET}")
        with VerticalScroll(classes="pane left", can_focus=False):
            for name in STUDENT_FIELDS[1:]:
                with Horizontal(classes="row"):
                    yield label_of(label(name))
                    yield SteadyInput(
                        self.draft.get(name),
                        compact=True,
                        placeholder=self._placeholder(name),
                        id=f"field-{name}",
                        classes="entry",
                    )
        with Vertical(classes="pane right"):
            yield Words(TITLE, classes="title", id="plan-title")
            yield Painted(id="plan")
        with Vertical(id="flip"):
            yield Painted(id="flip-words")
            yield ShareBar(share.parsed(self.draft.get(_FLIP), 0.9), id=f"field-{_FLIP}")

    def _placeholder(self, name: str) -> str:
        """What counts for an empty field. A model to start from gives a tokenizer, and its shape with its layers."""
        start = self.draft.get(START)
        if (name == "TOKENIZER_NAME" and start != default(START)) or (name in SIZES and self._has_models_shape):
            return "the teacher's" if start == "teacher" else "the model's"
        return _EMPTY.get(name, self.draft.default(name) or "the preset's")

    @property
    def _has_models_shape(self) -> bool:
        """Whether the student has the shape of the model that it starts from, and no preset's."""
        return _PRESET in unused_of_start(self.draft.values)

    def _follow_start(self) -> None:
        """Show what a model to start from decides."""
        for name in ("TOKENIZER_NAME", *SIZES):
            cast("Input", self.field(name)).placeholder = self._placeholder(name)
        self.query_one(f"#field-{_PRESET}", Pick).enable(not self._has_models_shape)

    def begin(self) -> None:
        self._follow_start()
        self._show_flip()
        self._advise()
        self._estimate = Estimate(self.guide, self._draw)
        self._estimate.make()

    def entry(self) -> Widget | None:
        return self.field(START if self._has_models_shape else _PRESET)

    def hint(self, name: str) -> str:
        setting = name.removeprefix("field-")
        if setting == _FLIP:
            return f"{about(_FLIP)} Arrows move it, by ten with shift; or drag it."
        if setting == "KD_NUM_PROMPTS":
            return f"{REGISTRY[setting].help} {_HELD_OUT if self.draft.is_free else _PAID}"
        text = about(setting) if setting in REGISTRY else ""
        if setting in ("TOKENIZER_NAME", *SIZES):
            text = _IF_EMPTY.sub(f"empty = {self._placeholder(setting)}.", text)
        return text

    # -- changing ------------------------------------------------------------------------------------------------

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        name = (event.input.id or "").removeprefix("field-")
        self._set(name, plain_value(name, value_of(event.input)))

    @on(Pick.Picked)
    def _picked(self, event: Pick.Picked) -> None:
        self._set(_PRESET, event.value)

    @on(Pick.Refused)
    def _refused(self, event: Pick.Refused) -> None:
        """A preset was clicked that has no effect: say why, and offer what gives it one."""
        name, preset = label(START), event.value

        def take() -> None:
            self._enter(START, default(START))
            self.query_one(f"#field-{_PRESET}", Pick).choose(preset)

        self.guide.say(f"“{name}” names a model, which gives the shape: {self.draft.get(START)}.", "warn")
        self.guide.offer(f"{preset_words(preset)}, from random weights", take)

    @on(ShareBar.Moved)
    def _moved(self, event: ShareBar.Moved) -> None:
        self._set(_FLIP, share.written(event.value))

    def _set(self, name: str, text: str) -> None:
        changed = text != self.draft.get(name)  # a field tells of its first value, too
        self.guide.change(name, text)
        self._advise()
        self._show_flip()
        if changed:
            self._estimate.mark()
        if name == START:
            self._follow_start()
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(_PAUSE_SECONDS, self._estimate_again)

    def _advise(self) -> None:
        """Warn of what is most likely a mistake, else offer what is most likely meant, unless something is wrong."""
        if any(one.step == self.step for one in doubts.misplaced(self.draft)):
            return  # that is said already
        warnings = (self._warn_of_start, self._warn_of_rate, self._warn_of_length)
        for advise in (*warnings, self._offer_weights, self._offer_online, self._tell_start):
            if not self.guide.offers:
                advise()

    def _warn_of_start(self) -> None:
        if (known := self.guide.start) is not None and known.wrong:
            self.guide.say(f"“{label(START)}” names no model: {known.words}.", "warn")
            self.guide.offer("Random weights", lambda: self._enter(START, default(START)))

    def _tell_start(self) -> None:
        if (known := self.guide.start) is not None and known.words:
            self.guide.say(known.words, "label")

    def _warn_of_rate(self) -> None:
        if high := doubts.rate_too_high(self.draft):
            self.guide.say(f"The learning rate is {high}.", "warn")
            self.guide.offer(f"Set it to {default('LR')}", lambda: self._enter("LR", default("LR")))
        elif last := doubts.rate_to_end_at(self.draft):
            self.guide.say(f"The rate doesn't fall: it ends at {self.draft.get(LAST_RATE)}.", "warn")
            self.guide.offer(f"End at {last}", lambda: self._enter(LAST_RATE, last))

    def _warn_of_length(self) -> None:
        if longer := doubts.length_that_fits(self.draft):
            length = self.draft.get(LENGTH)
            self.guide.say(f"Sequences of {length} tokens cut off longer answers.", "warn")
            self.guide.offer(f"Sequence length {longer}", lambda: self._enter(LENGTH, longer))

    def _offer_weights(self) -> None:
        """Offer to start from the model whose shape was chosen, else from the teacher.

        Not where a start or a size is chosen: training refuses a size beside a model's own.
        """
        if self.draft.get(START) != default(START) or any(map(self.draft.get, SIZES)):
            return
        source = own_weights(self.draft.get(_PRESET), self.draft.teacher.name)
        if source:
            model = source.rpartition("/")[2].removesuffix("-Instruct")
            self.guide.say(f"{'The teacher' if source == 'teacher' else model} has this shape.", "label")
            self.guide.offer("Start from its weights", lambda: self._start_from(source))
        elif self.draft.teacher.name == EMBEDDED and self.draft.get(_PRESET) == default(_PRESET):
            self.guide.say("Six of the teacher's layers are a far better start.", "label")
            self.guide.offer("Start from them", lambda: self._start_from("teacher", _SIX_LAYERS))

    def _offer_online(self) -> None:
        """Offer to ask a teacher while training that can be, or to take that back: it has no field."""
        if is_on(self.draft, ONLINE):
            self.guide.say("The teacher is asked while training.", "label")
            self.guide.offer("Use its traces alone", lambda: self._enter(ONLINE, default(ONLINE)))
        elif may_teach_online(self.draft):
            self.guide.say("This teacher can give the probability of every token.", "label")
            self.guide.offer("Ask while training", lambda: self._enter(ONLINE, "1"))

    def _start_from(self, source: str, also: Mapping[str, str] | None = None) -> None:
        """Set this start, and what goes well with it and was not chosen."""
        more = {name: value for name, value in (also or {}).items() if name not in self.draft.values}
        for name, value in {**more, START: source}.items():
            self._enter(name, value)

    def _enter(self, name: str, value: str) -> None:
        """Set it, in its field if it has one here. Enter continues from there: the other fields need no visit."""
        field = self.field(name)
        if isinstance(field, Input):
            field.value = value
        else:
            self._set(name, value)
        self.screen.query_one("#next").focus()

    def _show_flip(self) -> None:
        flip = share.parsed(self.draft.get(_FLIP), 0.9)
        budget = self.draft.get("BUDGET_TOKENS")
        where = " of the budget"
        if budget and not wrong("BUDGET_TOKENS", budget):
            tokens = FlipOptions(budget_tokens=int(budget.replace("_", "")), fraction=flip)
            where = f", at {count(tokens.threshold)} of {count(tokens.budget)} tokens"
        text = "never flips: 8 bits to the end" if flip == 1 else f"{flip * 100:.4g}%{where}"
        self.lines("#flip-words").show(
            (line(Span("Activations 8 bits, then 4 from  ", "label"), Span(text, "value")),)
        )

    # -- estimating ----------------------------------------------------------------------------------------------

    def _estimate_again(self) -> None:
        self._pause = None
        self._estimate.make()

    def changed(self) -> None:
        """Known now: the traces of a copy, which it would begin with, or what the model is that it starts from."""
        self._estimate.make()
        if self.guide.start != self._start:
            self._start = self.guide.start
            self._warn_of_start()
            self._advise()

    def _draw(self) -> None:
        self.query_one("#plan-title", Words).update(self._estimate.title())
        self.lines("#plan").show(self._estimate.lines())

    def leave(self) -> None:
        self._estimate.end()
        if self._pause is not None:
            self._pause.stop()
