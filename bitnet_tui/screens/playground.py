"""A prompt to teacher and student at once, their answers side by side, and what was likely at each token."""

from collections.abc import Iterable
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Button, Input

from bitnet_core.text import flat
from bitnet_tui import bindings
from bitnet_tui.screens.base import BaseScreen
from bitnet_tui.screens.playing import PlayingScreen
from bitnet_tui.services.playing import Found, Who
from bitnet_tui.view import offered
from bitnet_tui.view.play import words
from bitnet_tui.view.play.answers import SIDES, Asked, Exchange
from bitnet_tui.view.play.behind import behind, behind_lines, hardest
from bitnet_tui.view.play.form import asked_of
from bitnet_tui.view.spans import Line, Span, line, spread
from bitnet_tui.widgets.answer import AnswerPane, AnswerText
from bitnet_tui.widgets.inputs import SteadyInput
from bitnet_tui.widgets.links import Links
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.pressed import Pressed
from bitnet_tui.widgets.prompt import PromptField
from bitnet_tui.widgets.words import Words

_WHOM: tuple[tuple[Who, ...], ...] = (SIDES, ("student",), ("teacher",))
_BITS = (None, 8, 4)
_BUSY = "The last answers are not complete"
_PAST = (("[", "earlier", "history(-1)"), ("]", "later", "history(1)"))
_BESIDE = 90
"""From this width on the answers are beside each other."""
_TINY = 22
"""With fewer rows than this, the answers stand side by side, however narrow the screen is."""
_NUMBERS = ("temperature", "length", "seed")


class PlaygroundScreen(BaseScreen, PlayingScreen):
    """The screen of one experiment. A token cursor belongs to the side that has the focus, or had it last."""

    CSS_PATH = "playground.tcss"
    BINDINGS = bindings.of("play")

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._tokens: dict[Who, int | None] = dict.fromkeys(SIDES)
        self._who: Who = "teacher"
        self._worst = -1
        """Where the last search for the student's worst token ended."""
        self._worst_of: Exchange | None = None
        """Its worst token is gone to once the student has read it."""
        self._whom = SIDES
        self._bits: int | None = None
        self._problem = ""

    # -- building --------------------------------------------------------------------------------------------------

    def head(self) -> Line:
        left = [Span(flat(self.root.name), "title"), Span("   Playground", "label")]
        past = words.history(self.session) if self.complete else ""
        return spread(left, [Span(past, "label")], max(0, self.app.size.width - 2))

    def skeleton(self) -> Iterable[Widget]:
        yield Vertical(id="play")

    async def furnish(self) -> None:
        await self.query_one("#play").mount(*self._parts())

    def _parts(self) -> ComposeResult:
        way = f"{self.shell.key('play.prompt')} or a click: type a prompt; enter asks"
        ask = Button("Ask", id="ask", name="ask")
        yield Horizontal(PromptField(id="prompt", placeholder=way), ask, id="asking")
        numbers = [part for name in _NUMBERS for part in (Words(name, classes="name"), _field(name))]
        yield Horizontal(*numbers, Links(id="past"), id="numbers")
        yield Horizontal(
            *(Words("activations", classes="name"), Pressed("bits", id="bits")),
            *(Words("ask", classes="name"), Pressed("whom", id="whom")),
            *(Words("system prompt", classes="name"), _field("system")),
            id="switches",
        )
        yield Painted(id="cost")
        yield Horizontal(AnswerPane("teacher"), AnswerPane("student"), id="answers")
        yield Pressed("try_prompt", id="behind")

    def begin(self) -> None:
        super().begin()
        self.prepare()
        self._pane(self._who).text.focus()

    def opened(self, found: Found) -> None:
        for name in _NUMBERS:
            field = self.query_one(f"#{name}", Input)
            if not field.value:
                field.value = f"{getattr(found, name):g}" if name == "temperature" else str(getattr(found, name))

    # -- drawing ---------------------------------------------------------------------------------------------------

    def draw_play(self) -> None:
        if not self.complete or self.too_small:
            return
        self._go_on_to_worst()
        exchange, sides = self.session.exchange, self.session.sides
        if self._problem.startswith(_BUSY) and not self.session.busy_answering:
            self._problem = ""
        self.query_one("#head", Painted).show((self.head(),))
        self.query_one("#past", Links).offer(_PAST if len(self.session.exchanges) > 1 else ())
        self.query_one("#bits", Pressed).show((line(Span(_bits_words(self._bits), "accent")),))
        self.query_one("#whom", Pressed).show((line(Span(words.whom_words(self._whom), "accent")),))
        asked = self._asked()
        about = Asked("") if isinstance(asked, str) else asked
        cost = words.cost(sides["teacher"], about, self._whom)
        problem = offered.said(self._problem, "bad", "play.stop", "play.prompt")
        self.query_one("#cost", Painted).show(problem or (cost,))
        for who in SIDES:
            pane, answer = self._pane(who), exchange.answers.get(who) if exchange else None
            title = words.title(who, sides[who], exchange.asked if exchange else None, pane.cells)
            pane.show(title, words.status(who, sides[who], answer, self.quiet(who)), answer, self._tokens[who])
        self.query_one("#behind", Pressed).show(self._behind(exchange))

    def _behind(self, exchange: Exchange | None) -> tuple[Line, ...]:
        """The candidates at the cursor, or the prompts to try."""
        below = self.query_one("#behind")
        cells, rows, token = below.content_size.width, below.content_size.height, self._tokens[self._who]
        answer = exchange.answers.get(self._who) if exchange else None
        if exchange is not None and answer is not None and token is not None and token < len(answer.tokens):
            return behind_lines(behind(exchange, self._who, token), cells, rows)
        hint = words.hint(exchange is not None, answer, self.session.sides[self._who])
        hint = words.READING if self._worst_of is not None else hint
        return words.examples(hint, self.found.examples if self.found else (), cells)

    def on_resize(self) -> None:
        if self.too_small:  # hidden, it stays as it was
            return
        self.set_class(self.size.height < _TINY, "-tiny")
        self.set_class(self.size.width < _BESIDE, "-stacked")
        if self.complete:
            self.call_after_refresh(self.draw_play)

    def _pane(self, who: Who) -> AnswerPane:
        return self.query_one(f"#{who}", AnswerPane)

    # -- asking ----------------------------------------------------------------------------------------------------

    def _asked(self) -> Asked | str:
        texts = {name: self.query_one(f"#{name}", Input).value for name in (*_NUMBERS, "system")}
        return asked_of({**texts, "prompt": self.query_one("#prompt", PromptField).text}, self._bits)

    def on_prompt_field_sent(self) -> None:
        self.action_ask()

    def on_input_submitted(self) -> None:
        self.action_ask()

    def on_input_changed(self) -> None:
        self._say("")

    def on_text_area_changed(self) -> None:
        self._say("")

    def _say(self, problem: str) -> None:
        self._problem = problem
        self.draw_play()

    def action_ask(self) -> None:
        asked = self._asked()
        if self.session.busy_answering:
            self._say(f"{_BUSY}; {self.shell.key('play.stop')} stops them.")
        elif isinstance(asked, str):
            self._say(asked)
        else:
            self._problem = ""
            self._tokens = dict.fromkeys(SIDES)
            if self._who not in self._whom:
                self._who = self._whom[0]
            self._pane(self._who).text.focus()
            self.ask(asked, self._whom)

    def action_again(self) -> None:
        """Ask the prompt that is shown again, with the next seed."""
        exchange = self.session.exchange
        if exchange is None or self.session.busy_answering:
            self.action_ask()
            return
        self._fill(exchange.asked.prompt)
        seed = self.query_one("#seed", Input)
        if exchange.asked.temperature > 0 and seed.value.isdigit():
            with self.prevent(Input.Changed):
                seed.value = str((int(seed.value) + 1) % (1 << 32))
        self.action_ask()

    def action_try_prompt(self, number: int) -> None:
        if self.found is not None and number < len(self.found.examples):
            if not self.session.busy_answering:
                self._fill(self.found.examples[number])
            self.action_ask()

    def on_pressed_at(self, message: Pressed.At) -> None:
        """A switch, or a row below the answers: the prompts to try are there while no token is chosen."""
        if message.action == "try_prompt":
            if self._tokens[self._who] is None and message.row > 0:
                self.action_try_prompt(message.row - 1)
        else:
            self.call_later(self.run_action, message.action)

    def action_stop(self) -> None:
        self.stop()

    def action_prompt(self) -> None:
        self.query_one("#prompt").focus()

    def action_bits(self) -> None:
        self._bits = _BITS[(_BITS.index(self._bits) + 1) % len(_BITS)]
        self.draw_play()

    def action_whom(self) -> None:
        self._whom = _WHOM[(_WHOM.index(self._whom) + 1) % len(_WHOM)]
        self.draw_play()

    def on_prompt_field_recalled(self, message: PromptField.Recalled) -> None:
        self.action_history(message.by)

    def action_history(self, by: int) -> None:
        """Show an earlier or a later prompt of this session with its answers."""
        self.session.move(by)
        if self.session.exchange is not None:
            self._tokens = dict.fromkeys(SIDES)
            self._fill(self.session.exchange.asked.prompt)
            self.draw_play()

    def _fill(self, prompt: str) -> None:
        with self.prevent(PromptField.Changed):  # what was typed wrongly elsewhere stays said
            self.query_one("#prompt", PromptField).say(prompt)

    # -- looking behind tokens -------------------------------------------------------------------------------------

    def on_descendant_focus(self) -> None:
        if isinstance(self.focused, AnswerText):
            self._who = self.focused.who
            self.draw_play()
        else:
            self._worst_of = None  # the focus may not leave what one types in

    def on_answer_text_picked(self, message: AnswerText.Picked) -> None:
        self._choose(message.who, message.token)

    def action_token(self, by: int) -> None:
        text, now = self._pane(self._who).text, self._tokens[self._who]
        if text.count:
            self._choose(self._who, 0 if now is None else max(0, min(text.count - 1, now + by)))

    def action_token_row(self, by: int) -> None:
        text = self._pane(self._who).text
        found = text.near(self._tokens[self._who], by)
        if found is not None:
            self._choose(self._who, found)
        else:
            text.scroll_relative(y=by, animate=False)

    def action_token_end(self, last: bool) -> None:
        count = self._pane(self._who).text.count
        if count:
            self._choose(self._who, count - 1 if last else 0)

    def action_worst(self) -> None:
        """The teacher's token that surprises the student most; pressed again, the next one."""
        exchange = self.session.exchange
        order = hardest(exchange) if exchange else ()
        if not order and self.session.will_be_read:
            self._worst_of, self._who, self._tokens["teacher"] = exchange, "teacher", None
            self._pane("teacher").text.focus()
            self.draw_play()
        elif not order:
            self.notify(words.no_worst(self.session), severity="warning")
        else:
            goes_on = self._worst in order and self._worst == self._tokens["teacher"]
            self._worst = order[(order.index(self._worst) + 1) % len(order) if goes_on else 0]
            self._pane("teacher").text.focus()
            self._choose("teacher", self._worst)

    def _go_on_to_worst(self) -> None:
        wanted, exchange = self._worst_of, self.session.exchange
        if wanted is None or (wanted is exchange and self.session.will_be_read):
            return
        self._worst_of = None
        if wanted is exchange:
            self.action_worst()

    def _choose(self, who: Who, token: int) -> None:
        self._worst_of = None
        self._who, self._tokens[who] = who, token
        self.draw_play()

    def action_copy(self) -> None:
        exchange = self.session.exchange
        answer = exchange.answers.get(self._who) if exchange else None
        if answer is not None and answer.text:
            self.shell.copy_text(answer.text)

    def action_leave(self) -> None:
        """Out of a field to the answers, and from there back."""
        if isinstance(self.focused, AnswerText | None):
            self.dismiss()
        else:
            self._pane(self._who).text.focus()


def _field(name: str) -> SteadyInput:
    return SteadyInput(id=name, compact=True, placeholder="none" if name == "system" else "")


def _bits_words(bits: int | None) -> str:
    return "as trained" if bits is None else f"A{bits}"
