"""The step "Teacher": which model, its key, and a test that asks it for a few tokens."""

from collections.abc import Iterable
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Button, Input, OptionList
from textual.widgets.option_list import Option

from bitnet_core.secrets.known import redactor, remember
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_tui import key_names
from bitnet_tui.screens.guide.base import Trial
from bitnet_tui.screens.guide.step import TestedStep, label_of, value_of
from bitnet_tui.services.probing import Probe
from bitnet_tui.view.guide import addresses, carrying, teachers, used
from bitnet_tui.view.guide.draft import TEACHER, asks_address
from bitnet_tui.view.guide.teachers import Found
from bitnet_tui.view.spans import Line, Span, line
from bitnet_tui.widgets.guide import Cards
from bitnet_tui.widgets.inputs import SecretInput, SteadyInput
from bitnet_tui.widgets.lists import Entries
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words

_MODEL, _KEY, _ADDRESS = "#model", "#key", "#address"
_OTHER_SERVER = "Key is empty now: it was typed for the server at another address."
_PRICES = "Prices: the cheapest known model's, per million input tokens. "


class TeacherStep(TestedStep):
    """The cards choose; the fields of the chosen one are beside them, always at the same place."""

    step = "teacher"
    _goes_on = False
    """Whether a test asked for the models, so that the one that is chosen is tested at once."""
    _asked_next = ""
    """The model that was chosen then, until its name is in the draft."""

    def compose(self) -> ComposeResult:
        yield Cards(id="cards", classes="pane list", markup=False)
        with VerticalScroll(classes="pane right", can_focus=False):
            yield Words("", classes="title", id="name")
            yield Painted(id="note")
            for label, entry in (
                ("Address", SteadyInput(compact=True, id="address", classes="entry")),
                ("Model", SteadyInput(compact=True, id="model", classes="entry")),
                ("Key", SecretInput(id="key")),
            ):
                with Horizontal(classes="row"):
                    yield label_of(label)
                    yield entry
            with Horizontal(classes="tests"):
                yield Button("Test", id="test", name="test")
                yield Button("List models", id="list", name="list_models")
            with Vertical(id="results"):
                yield Painted(id="found")
                yield Entries(id="models", markup=False)

    def begin(self) -> None:
        self._fill()
        self.query_one("#key").add_class("entry")
        self._fit()

    def on_resize(self) -> None:
        super().on_resize()
        self._fill()

    def _fill(self) -> None:
        prices, slim = self.guide.shared.get("prices", {}), self.has_class("-slim")
        rows: list[tuple[str, Line]] = []
        for title, names in teachers.groups():
            rows.append(("", teachers.heading(title, slim=slim)))
            for name in names:
                price = prices[name][1] if name in prices else None
                rows.append((name, teachers.card(PROVIDERS[name], price, slim=slim)))
        self.query_one("#cards", Cards).fill(rows, self.draft.teacher.name)

    def entry(self) -> Widget | None:
        return self.query_one("#cards")

    def missing(self) -> Widget | None:
        provider = self.draft.teacher
        if asks_address(provider) and not provider.base_url and not self.draft.address:
            return self.query_one(_ADDRESS)
        if teachers.has_models(provider) and not self.draft.model:
            return self.query_one(_MODEL)
        if self.draft.teacher.needs_key and not self._has_key:
            return self.query_one(_KEY)
        return None

    def after_cards(self) -> Widget | None:
        """One's own server may listen elsewhere than usual: that comes before its model."""
        missing, provider = self.missing(), self.draft.teacher
        if missing is None or not asks_address(provider) or provider.base_url_setting in self.draft.values:
            return missing
        return self.query_one(_ADDRESS)

    def needed(self, missing: Widget) -> str:
        test, skip = key_names.key("guide.test"), key_names.key("guide.next")
        return {
            "address": "Address is empty: type where the server listens.",
            "model": f"Model is empty: type a name, or press List models ({test}).",
            "key": f"Key is empty: paste it, or go on without it ({skip}).",
        }[missing.id or ""]

    def _onward(self) -> str:
        """Where Enter leads from the cards, in words."""
        following = self.after_cards()
        return "continues" if following is None else f"goes to “{(following.id or '').capitalize()}”"

    def address_fields(self) -> Iterable[tuple[str, Input]]:
        return [(self.draft.teacher.base_url_setting, self.query_one(_ADDRESS, Input))]

    def complete(self) -> None:
        """A key that came along with an address is not for another server."""
        super().complete()
        if carrying.strayed(self.draft, self.guide.keys, self.guide.carried):
            self.guide.type_key(self.draft.teacher.key_setting, "")
            self._fit()
            self.guide.say(_OTHER_SERVER, "warn")

    def field(self, name: str) -> Widget | None:
        provider = self.draft.teacher
        places = {
            provider.model_setting: _MODEL,
            provider.base_url_setting: _ADDRESS,
            provider.key_setting: _KEY,
            TEACHER: "#cards",
        }
        places |= {"MODEL": _MODEL, "ADDRESS": _ADDRESS, "KEY": _KEY}
        return self.query_one(places[name]) if name in places else None

    def mark(self, names: frozenset[str]) -> None:
        provider = self.draft.teacher
        for name, place in ((provider.model_setting, _MODEL), (provider.base_url_setting, _ADDRESS)):
            self.query_one(place).set_class(name in names, "-wrong")

    # -- drawing -------------------------------------------------------------------------------------------------

    def _fit(self) -> None:
        """Show the fields of the chosen provider; those that it does not need are switched off where they are."""
        provider, draft = self.draft.teacher, self.draft
        models = teachers.has_models(provider)
        self.query_one("#name", Words).update(provider.label)
        self.lines("#note").say(*teachers.note(provider))
        cheapest = self.guide.shared.get("prices", {}).get(provider.name)
        self._entry(_MODEL, draft.model, f"such as {cheapest[0]}" if cheapest else "the model's name", models)
        self._entry(_KEY, self.guide.keys.get(provider.key_setting, ""), self._key_place(), models)
        self._entry(_ADDRESS, draft.address, provider.base_url or "http://…/v1", asks_address(provider))
        self.query_one("#test").disabled = not models
        self.query_one("#list").disabled = not models
        found = self.guide.last_found("teacher")
        # What it asked to change may have been changed since.
        again = teachers.answer(found.report, draft) if found and found.report is not None else found
        self._tested(again or teachers.not_tested(self.guide.untested("teacher")))
        self._offer_used()

    def _offer_used(self) -> None:
        """Offer the own server of another experiment here."""
        one = used.teacher(self.draft, self.guide.shared.get("others", ()))
        if one is not None and self._shown is None and not self.guide.busy:
            self.offer_other(one.source, used.teacher_words(one), used.with_teacher(self.draft, one))

    def _entry(self, place: str, text: str, placeholder: str, needed: bool) -> None:
        entry = self.query_one(place, Input)
        entry.disabled = not needed
        entry.placeholder = placeholder if needed else "not needed"
        with self.prevent(Input.Changed):
            entry.value = text if needed else ""

    def _key_place(self) -> str:
        held = (self.guide.held or {}).get(self.draft.teacher.key_setting)
        if held is not None and held.origin:
            return f"{f'…{held.end} ' if held.end else ''}in the {held.origin}".replace(
                "the environment", "environment"
            )
        return "paste it here" if self.draft.teacher.needs_key else "only if it asks for one"

    @property
    def _has_key(self) -> bool:
        name = self.draft.teacher.key_setting
        held = (self.guide.held or {}).get(name)
        return bool(self.guide.keys.get(name)) or held is None or bool(held.origin)

    def hint(self, name: str) -> str:
        if name == "key":
            return self.key_hint(self.draft.teacher.key_setting)
        if name == "address":
            like = (
                f"empty is {usual}" if (usual := self.draft.teacher.base_url) else "such as http://127.0.0.1:8000/v1"
            )
            return f"The server's address, {like}. {addresses.ADDED}"
        return {
            "model": "The model's name as the provider spells it; List models shows what there is.",
            "cards": f"Arrows or clicks choose, enter {self._onward()}. {'' if self.has_class('-slim') else _PRICES}"
            "Or paste “label: value” lines.",
        }.get(name, "")

    def changed(self) -> None:
        """The keys or prices are known now."""
        self._fill()
        self.query_one(_KEY, Input).placeholder = (
            self._key_place() if not self.query_one(_KEY).disabled else "not needed"
        )
        self._offer_used()

    # -- choosing ------------------------------------------------------------------------------------------------

    def choose(self, value: str) -> None:
        if not value or value == self.draft.teacher.name:
            return
        self.guide.stop_test(self.step)
        guide = self.guide
        values, keys, guide.carried[value] = carrying.carried(self.draft, guide.keys, value, guide.carried)
        guide.change(TEACHER, value)
        for name, text in values.items():
            guide.change(name, text)
        for name, key in keys.items():
            guide.type_key(name, key)
        self._fit()
        self._say_hint()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        provider, before = self.draft.teacher, self._question
        if event.input.id == "key":
            self.guide.type_key(provider.key_setting, value_of(event.input))
        elif event.input.id == "model":
            self.guide.change(provider.model_setting, value_of(event.input))
        elif event.input.id == "address":
            self.guide.change(provider.base_url_setting, value_of(event.input))
        stopped = self._question != before and self.retyped((event.input.id or "").capitalize())
        if not stopped and self.guide.tested.get("teacher", (self._question,))[0] != self._question:
            models = self._shown.models if self._shown and event.input.id == "model" else ()
            self._show(teachers.not_tested(self.guide.untested("teacher"), models))
        if self._asked_next and event.input.id == "model":  # not before: a change of its name ends its test
            self._asked_next = ""
            self._ask(self.draft.model)

    @on(OptionList.OptionSelected, "#models")
    def _model_chosen(self, event: OptionList.OptionSelected) -> None:
        self._take_model(event.option.id or "")

    def _take_model(self, name: str) -> None:
        """Put it into its field, and test it if that is what was asked for."""
        entry = self.query_one(_MODEL, Input)
        if not self.typing:
            self.query_one("#test").focus()
        self._asked_next, self._goes_on = name if self._goes_on and entry.value != name else "", False
        entry.value = name

    def take_word(self, text: str) -> bool:
        """One word that is pasted over the list of models is the name of one."""
        one = len(text.split()) == 1 and redactor()(text) == text
        if not one or self.screen.focused is not self.query_one("#models"):
            return False
        self._take_model(text.strip())
        return True

    # -- testing -------------------------------------------------------------------------------------------------

    @property
    def testable(self) -> bool:
        return teachers.has_models(self.draft.teacher)

    def action_test(self) -> None:
        """Ask the model for a few tokens; without one, ask the server for its models, and then the chosen one."""
        if not self.testable:
            super().action_test()
            return
        self._goes_on = not self.draft.model
        self._ask(self.draft.model)

    def action_list_models(self) -> None:
        self._goes_on = False
        self._ask("")

    def _ask(self, model: str) -> None:
        self.complete()
        if not self.guide.may_test(self.step):
            return
        if self.missing() is self.query_one(_ADDRESS):
            self.lacks()
            return
        asked = teachers.question(self.draft)
        key = self.guide.keys.get(self.draft.teacher.key_setting, "")
        remember([key])
        values = {**asked["values"], **teachers.sampling(self.draft)}
        probe = Probe(self.guide.shell.home, asked["provider"], model, values, key)
        what = "the model for a few tokens" if model else "the server for its models"
        words = Found((line(Span(f"Asking {what}; {key_names.key('guide.leave')} stops it.", "label")),))
        guide = self.guide  # the step may be another one when the answer comes

        def answered(report: dict[str, Any]) -> Found:
            return teachers.answer(report, guide.draft)

        name = "The teacher's test" if model else "The list of models"
        self.note_focus()
        guide.test(Trial(self.step, name, self._question, probe, answered, teachers.failed, words))

    def found_out(self, found: Found, *, tested: bool = True) -> None:
        listed = bool(found.models) and not ((found.report or {}).get("model") or found.why)
        if listed:
            self.guide.say("", "label")  # the model that was missing can be chosen now
        super().found_out(found, tested=tested)
        if listed and not self.query_one(_MODEL, Input).value and len(set(found.models)) == 1:
            self._take_model(found.models[0])
        elif listed and not self.typing:
            self.query_one("#models").focus()

    def _show(self, found: Found | None) -> None:
        super()._show(found)
        models = self.query_one("#models", Entries)
        names, chosen = tuple(dict.fromkeys(found.models)) if found else (), self.draft.model
        self.query_one(_MODEL, Input).suggester = SuggestFromList(names) if names else None
        models.clear_options()
        models.add_options([Option(f"{'◉' if name == chosen else '○'} {name}", id=name) for name in names])
        models.highlighted = names.index(chosen) if chosen in names else 0 if names else None  # what Enter takes
        models.display = bool(names)

    def mend_found(self) -> None:
        found = self._shown
        if found is None:
            return
        for name, value in found.values:
            self.guide.change(name, value)
        if address := dict(found.values).get(self.draft.teacher.base_url_setting):
            with self.prevent(Input.Changed):  # it would end the test that comes next
                self.query_one(_ADDRESS, Input).value = address
            self._ask(self.draft.model)  # nothing is known yet of what answers there
        elif found.values and found.report is not None:
            again = teachers.answer(found.report, self.draft)
            self.guide.tested[self.step] = (self._question, again)
            self.found_out(again)
        if found.field and (field := self.field(found.field)):
            field.focus()
