"""The step "Storage": where results are kept as well, the target's form, a login, and a test that uses it."""

from collections.abc import Awaitable, Iterable
from functools import partial
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Button, Input

from bitnet_core.secrets.known import remember
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.storage.catalog import KINDS
from bitnet_tui.key_names import key
from bitnet_tui.labels import label
from bitnet_tui.screens.guide.base import Trial
from bitnet_tui.screens.guide.step import TestedStep, label_of, value_of
from bitnet_tui.services import keys
from bitnet_tui.services.storing import Check, Login
from bitnet_tui.view.guide import addresses, storing, used
from bitnet_tui.view.guide.addresses import is_address
from bitnet_tui.view.guide.draft import BACKEND, HERE, SYNC
from bitnet_tui.view.guide.teachers import Found
from bitnet_tui.view.guide.words import plain
from bitnet_tui.view.spans import Line, Span, line
from bitnet_tui.widgets.guide import Cards, Pick
from bitnet_tui.widgets.inputs import SecretInput, SteadyInput
from bitnet_tui.widgets.lists import Overflow
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words


class StorageStep(TestedStep):
    """The form is built from the registry of settings, for each target that is chosen."""

    step = "storage"
    TARGETS = storing.groups()
    SYNCS = True
    """Whether it is asked when results are kept there."""
    _building: tuple[Awaitable[None], ...] = ()
    """The removal of the form before, and the mounting of the target's form, until both are awaited."""

    def compose(self) -> ComposeResult:
        yield Cards(id="cards", classes="pane list", markup=False)
        with Vertical(classes="pane right"):
            yield Words("", classes="title", id="name")
            yield Painted(id="note")
            yield VerticalScroll(id="form", can_focus=False)
            with Horizontal(classes="row", id="when"):
                yield label_of(label(SYNC))
                yield Pick(storing.SYNC, "live", id="field-STORAGE_SYNC")
            with Horizontal(classes="tests"):
                yield Button("Test", id="test", name="test")
                yield Button("Log in", id="login", name="login")
            with Overflow(id="results"):
                yield Painted(id="found")

    def begin(self) -> None:
        rows: list[tuple[str, Line]] = []
        for title, targets in self.TARGETS:
            rows += [("", line(Span(title, "title")))] if title else []
            rows += [(name, line(words)) for name, words in targets]
        self.query_one("#cards", Cards).fill(rows, self.draft.get(BACKEND))
        self._fit()

    def entry(self) -> Widget | None:
        return self.query_one("#cards")

    def missing(self) -> Widget | None:
        return self.field(name) if (name := self._lacking) else None

    @property
    def _lacking(self) -> str:
        """The first empty setting that the target needs; empty if there is none."""
        backend = self.draft.get(BACKEND)
        needed = KINDS[backend].needs if backend != HERE else ()
        return next((name for name in needed if not self.draft.get(name)), "")

    def needed(self, missing: Widget) -> str:
        return f"{label((missing.id or '').removeprefix('field-'))}: needed for this target."

    def address_fields(self) -> Iterable[tuple[str, Input]]:
        entries = ((name, self.field(name)) for name in storing.fields(self.draft.get(BACKEND)) if is_address(name))
        return [(name, entry) for name, entry in entries if isinstance(entry, Input)]

    def hint(self, name: str) -> str:
        if name == "results":
            return f"{key('move.up')} and {key('move.down')} show the rest of what the test found."
        setting = name.removeprefix("field-")
        if setting not in REGISTRY:
            onward = f"goes to “{label(self._lacking)}”" if self._lacking else "continues"
            return f"Arrows choose, enter {onward}. Or paste “label: value” lines."
        what = storing.what(setting, self.draft.get(BACKEND))
        if is_address(setting):
            return f"{what} {addresses.ADDED}"
        return f"{what} {self.key_hint(setting)}" if REGISTRY[setting].secret else what

    # -- the form ------------------------------------------------------------------------------------------------

    def _fit(self) -> None:
        backend = self.draft.get(BACKEND)
        self.query_one("#name", Words).update(storing.title_of(backend))
        self.lines("#note").say(storing.about(backend), "label")
        self.query_one("#when").display = self.SYNCS and backend != HERE
        with self.prevent(Pick.Picked):
            self.query_one(Pick).value = self.draft.get(SYNC)
        self.query_one(Pick).refresh()
        self.query_one("#test").display = backend != HERE
        self.query_one("#login").display = backend != HERE and bool(KINDS[backend].login)
        form = self.query_one("#form")
        self._building = form.remove_children(), form.mount_all([self._row(name) for name in storing.fields(backend)])
        self._tested(self.guide.last_found("storage"))
        self._offer_used()

    async def built(self) -> None:
        for one in self._building:
            await one
        self._building = ()

    def _offer_used(self) -> None:
        """Offer the target of another experiment here."""
        one = used.target(self.draft, self.guide.shared.get("others", ()))
        if one is not None and self._shown is None and not self.guide.busy:
            self.offer_other(one.source, used.target_words(one), used.with_target(self.draft, one))

    def _row(self, name: str) -> Widget:
        if REGISTRY[name].secret:
            place = self._key_place(name)
            entry: Input = SecretInput(self.guide.keys.get(name, ""), placeholder=place, id=f"field-{name}")
            entry.add_class("entry")
        else:
            text = self.draft.get(name)
            placeholder = storing.placeholder(name, self.draft.get(BACKEND))
            entry = SteadyInput(text, compact=True, placeholder=placeholder, id=f"field-{name}", classes="entry")
        return Horizontal(label_of(label(name)), entry, classes="row")

    def _key_place(self, name: str) -> str:
        held = (self.guide.held or {}).get(name)
        if held and held.origin:
            return f"in the {held.origin}"
        shown = storing.placeholder(name, self.draft.get(BACKEND))
        return shown if shown and name not in KINDS[self.draft.get(BACKEND)].needs else "paste it here"

    def changed(self) -> None:
        """It is known now where keys are kept."""
        for entry in self.query(SecretInput):
            entry.placeholder = self._key_place((entry.id or "").removeprefix("field-"))
        self._offer_used()

    def choose(self, value: str) -> None:
        if not value or value == self.draft.get(BACKEND):
            return
        self.guide.stop_test(self.step)
        self.guide.change(BACKEND, value)
        self._fit()
        self._say_hint()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        name = (event.input.id or "").removeprefix("field-")
        if name not in storing.fields(self.draft.get(BACKEND)):
            return  # a field of the form before
        before = self._question
        if REGISTRY[name].secret:
            self.guide.type_key(name, value_of(event.input))
        else:
            self.guide.change(name, value_of(event.input))
        stopped = self._question != before and self.retyped(label(name))
        tested = self.guide.tested.get("storage")
        if not stopped and tested and tested[0] != self._question:
            self._show(None)

    @on(Pick.Picked)
    def _picked(self, event: Pick.Picked) -> None:
        self.guide.change(SYNC, event.value)

    # -- testing -------------------------------------------------------------------------------------------------

    @property
    def _typed_keys(self) -> dict[str, str]:
        return storing.typed(self.draft, self.guide.keys)

    @property
    def testable(self) -> bool:
        return self.draft.get(BACKEND) != HERE

    def action_test(self) -> None:
        if self.testable:
            self._test()
        else:
            super().action_test()

    def _test(self, *, create: bool = False) -> None:
        self.complete()
        backend = self.draft.get(BACKEND)
        if not self.guide.may_test(self.step) or self.lacks():
            return
        guide, typed = self.guide, self._typed_keys
        self.note_focus()
        remember(typed.values())
        asked = storing.question(self.draft, guide.place)
        check = Check(guide.shell.home, guide.place, backend, asked, typed, partial(keys.keep, guide.shell.home))
        if create:
            check.creating()
        words = f"Writing, reading back, listing and deleting a small file; {key('guide.leave')} stops it."
        failed = partial(storing.failed, draft=self.draft)
        name = "The test of the storage target"
        guide.test(Trial(self.step, name, self._question, check, storing.answer, failed, _saying(words)))

    # -- logging in ----------------------------------------------------------------------------------------------

    def action_login(self) -> None:
        self.complete()
        backend = self.draft.get(BACKEND)
        if backend == HERE or not self.guide.may_test(self.step):
            return
        guide, typed, shell = self.guide, self._typed_keys, self.guide.shell
        remember(typed.values())
        asked = storing.question(self.draft, guide.place)

        def show(url: str, code: str) -> None:
            shell.call_later(prompt, url, code)

        def prompt(url: str, code: str) -> None:
            if guide.show_running(trial, _prompt(url, code)) and url.isprintable():
                shell.copy_to_clipboard(url)

        def logged_in(report: dict[str, Any]) -> Found:
            guide.learn_keys()
            return Found((line(Span("✓ ", "good"), "logged in"), line(Span(f"  {plain(report['kept'])}", "label"))))

        login = Login(shell.home, guide.place, backend, asked, typed, partial(keys.keep, shell.home), show)
        failed, words = partial(storing.failed, draft=self.draft), _saying("Asking for the login…")
        trial = Trial(self.step, "The login", self._question, login, logged_in, failed, words, counts=False)
        guide.test(trial)

    # -- what was found ------------------------------------------------------------------------------------------

    def lead(self, found: Found) -> None:
        """From any field to the button that creates what is missing, unless one has gone elsewhere meanwhile."""
        if self._creates(found) and self.screen.focused is self._tested_from[0] and not self.typing:
            self.screen.query("#offer").focus()
        else:
            super().lead(found)

    def _creates(self, found: Found) -> bool:
        return found.offer == storing.create(self.draft.get(BACKEND))

    def mend_found(self) -> None:
        if self._shown and self._creates(self._shown):
            self._ask_to_create()
            return
        field = self.field(self._shown.field) if self._shown and self._shown.field else None
        if field is not None:
            field.focus()

    def _ask_to_create(self) -> None:
        from bitnet_tui.screens.confirm import ConfirmScreen

        question = self._question

        def answered(yes: bool | None) -> None:
            if yes and self.is_attached and question == self._question:
                self._test(create=True)

        self.app.push_screen(ConfirmScreen(*storing.create_question(self.draft)), answered)


def _saying(text: str) -> Found:
    return Found((line(Span(text, "label")),))


def _prompt(url: str, code: str) -> Found:
    lines = [line(Span("Open this page (it is in your clipboard):", "label")), line(Span(url, "value"))]
    if code:
        lines.append(line(Span("and type the code ", "label"), Span(code, "title")))
    lines.append(line(Span(f"Waiting for the login; {key('guide.leave')} stops it.", "label")))
    return Found(tuple(lines))
