"""The form for a new experiment. Its key goes to the OS keyring or the vault, never into `.env`."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from textual import events
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Button, Input, Select

from bitnet_core.errors import BitnetError
from bitnet_core.runs.experiment import Workspace
from bitnet_core.secrets.known import remember
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_tui.screens.keyed import KeyedScreen
from bitnet_tui.services import keys
from bitnet_tui.services.probing import Probe
from bitnet_tui.view import new_form
from bitnet_tui.view.new_form import Field
from bitnet_tui.widgets.inputs import SecretInput, SteadyInput
from bitnet_tui.widgets.lists import Choice
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words

_FEWEST_ROWS, _MOST_ROWS, _OTHER_ROWS = 3, 16, 11
"""Of the fields, and of all else in the dialog."""


class NewExperimentScreen(KeyedScreen[Path | None]):
    """Returns the new experiment's folder, or None."""

    CSS_PATH = ["cards.tcss", "new_experiment.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#field-NAME"
    ASKS_LATE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel", id="new.cancel"),
        Binding("ctrl+s", "create", "Create", id="new.create"),
        Binding("ctrl+t", "test", "Test", id="new.test"),
        Binding("down", "app.focus_next", "Next field", show=False),
        Binding("up", "app.focus_previous", "Field before", show=False),
        Binding("tab", "app.focus_next", show=False, priority=True),
        Binding("shift+tab", "app.focus_previous", show=False, priority=True),
        Binding("enter,down", "leave_field('next')", show=False, priority=True),
        Binding("up", "leave_field('previous')", show=False, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._fields = {field.name: field for field in new_form.fields()}
        self._probe: Probe | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="card new"):
            yield Words("New experiment", classes="title")
            with VerticalScroll(can_focus=False, classes="form"):
                for field in self._fields.values():
                    with Horizontal(classes="row", id=f"row-{field.name}"):
                        yield Words(field.label, classes="name")
                        yield _entry(field)
                        yield Words("", classes="wrong", id=f"wrong-{field.name}")
                    if field.name == new_form.TEACHER:
                        yield Painted(id="note")
            yield Painted(id="hint")
            yield Painted(id="problem", classes="-empty")
            with Horizontal(classes="buttons"):
                yield Button("Test", id="test", name="test")
                yield Button("Cancel", id="cancel", name="cancel")
                yield Button("Create", id="create", name="create")

    def on_mount(self) -> None:
        self._fit(new_form.EMBEDDED)

    def on_resize(self) -> None:
        """Give the fields what the buttons and messages leave of the window."""
        self.query_one(".form").styles.max_height = max(_FEWEST_ROWS, min(_MOST_ROWS, self.size.height - _OTHER_ROWS))

    def _fit(self, provider: str) -> None:
        """Show the fields that this provider needs, and a note on what it can do."""
        wanted = new_form.needed(provider)
        for name in self._fields:
            self.query_one(f"#row-{name}").display = name in wanted
        self.query_one("#test").display = provider != new_form.EMBEDDED
        self.query_one(f"#field-{new_form.ADDRESS}", Input).placeholder = PROVIDERS[provider].base_url
        self.query_one("#note", Painted).say(*new_form.note(provider))

    def on_select_changed(self, event: Select.Changed) -> None:
        if event.select.id == f"field-{new_form.TEACHER}":
            self._fit(str(event.value))
            self.query_one(f"#field-{new_form.MODEL}", Input).suggester = None
            self._discard_answer()

    def on_input_changed(self, event: Input.Changed) -> None:
        if (event.input.id or "").removeprefix("field-") in new_form.ASKED:
            self._discard_answer()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        name = (event.widget.id or "").removeprefix("field-")
        if name in self._fields:
            self.query_one("#hint", Painted).say(self._fields[name].hint, "label")

    def action_leave_field(self, way: Literal["next", "previous"]) -> None:
        """Move the focus before the next input arrives: a key pasted in haste must not land in a visible field.

        The last field leads to Create, not to Cancel, which is before it.
        """
        if not isinstance(self.focused, Input):
            raise SkipAction
        if way == "next" and self.focused.id == f"field-{[*self._fields][-1]}":
            self.query_one("#create").focus()
        elif way == "next":
            self.focus_next()
        else:
            self.focus_previous()

    def action_cancel(self) -> None:
        self._discard_answer()
        self.dismiss(None)

    def on_unmount(self) -> None:
        if self._probe is not None:  # the app is closing and must not wait for the answer
            self._probe.cancel()

    # -- testing the model ----------------------------------------------------------------------------------------

    def action_test(self) -> None:
        values = self._values()
        provider = values[new_form.TEACHER]
        if self.busy or provider == new_form.EMBEDDED:
            return
        for name, why in new_form.missing_for_test(values).items():
            self.query_one(f"#wrong-{name}", Words).update(why)
        remember([values[new_form.KEY]])
        self._probe = Probe(self.shell.home, **new_form.question(values))
        self.say("Asking the model for a token or two… esc cancels.", "label")
        self.attempt(self._probe.run, self._answered, without="The model was not asked")

    def _answered(self, report: dict[str, Any]) -> None:
        self._probe = None
        self.say(*new_form.answer(report))
        if report.get("models"):
            safe = [name for name in report["models"] if name.isprintable()]
            self.query_one(f"#field-{new_form.MODEL}", Input).suggester = SuggestFromList(safe)

    def _discard_answer(self) -> None:
        """Cancel a running test and clear its answer: a field has changed, or the form is closing."""
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
            self.abandon()
        self.say("", "")

    # -- creating it -----------------------------------------------------------------------------------------------

    def action_create(self) -> None:
        if self._probe is not None:
            self._discard_answer()
        if self.busy:
            return
        values = self._values()
        home = self.shell.home
        taken = frozenset(path.name for path in home.iterdir()) if home.is_dir() else frozenset()
        wrong = new_form.problems(values, taken)
        for name in self._fields:
            self.query_one(f"#wrong-{name}", Words).update(wrong.get(name, ""))
        if wrong:
            self.say("Fix the marked fields, then press Create.", "warn")
            self.query_one(f"#field-{next(iter(wrong))}").focus()
            return
        key = values[new_form.KEY] if new_form.KEY in new_form.needed(values[new_form.TEACHER]) else ""
        if not key:
            self._create(values)
            return
        remember([key])
        name = PROVIDERS[values[new_form.TEACHER]].key_setting
        self.say("Keeping the key…", "label")
        self.attempt(lambda: keys.keep(home, name, key), self._kept, title="API key", **keys.VAULT_INSTEAD)

    def _kept(self, sentence: str) -> None:
        if self._create(self._values()):
            self.app.notify(sentence, title="API key", timeout=8)

    def refused(self, problem: str) -> None:
        if self._probe is not None:
            self._probe = None
            self.say(problem, "bad")
            return
        self.say(f"{problem} Empty the field to create the experiment without a key.", "bad")
        self.query_one(f"#field-{new_form.KEY}").focus()

    def _create(self, values: dict[str, str]) -> bool:
        try:
            root = Workspace(self.shell.home).create(values[new_form.NAME], new_form.env_text(values))
        except BitnetError as error:
            self.say(str(error), "bad")
            return False
        self.dismiss(root)
        return True

    def _values(self) -> dict[str, str]:
        return {name: _value(self.query_one(f"#field-{name}")) for name in self._fields}


def _entry(field: Field) -> Widget:
    place = f"field-{field.name}"
    if field.choices:
        return Choice(field.choices, value=field.default, allow_blank=False, compact=True, id=place)
    if field.secret:
        return SecretInput(field.default, id=place)
    return SteadyInput(field.default, compact=True, id=place)


def _value(entry: Widget) -> str:
    if isinstance(entry, Input):
        return entry.value.strip()
    return str(entry.value) if isinstance(entry, Select) else ""
