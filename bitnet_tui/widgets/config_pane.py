"""Every setting of the experiment: filter, compare, and change one in place. Nothing moves while one types."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.suggester import SuggestFromList
from textual.widgets import Button, Input, OptionList
from textual.widgets.option_list import Option

from bitnet_core.errors import BitnetError
from bitnet_core.settings.contradictions import Contradiction, Mend
from bitnet_core.text import crop, width
from bitnet_tui.labels import title
from bitnet_tui.remedies import in_app
from bitnet_tui.services.config import Preview, preview, save
from bitnet_tui.shell import Shell
from bitnet_tui.theme import paint
from bitnet_tui.view import config
from bitnet_tui.view.config import ConfigView, Row
from bitnet_tui.view.places import ConfigPlace
from bitnet_tui.view.spans import Span, line
from bitnet_tui.view.typed import plain_value
from bitnet_tui.widgets.buttons import KeyBar, KeyButton, box_of, key_of
from bitnet_tui.widgets.config_parts import Previewed, SettingList, ValueInput
from bitnet_tui.widgets.inputs import FilterInput, SteadyInput
from bitnet_tui.widgets.lists import Entries
from bitnet_tui.widgets.looking import Looking
from bitnet_tui.widgets.painted import Painted

_LINES, _LINES_IF_LOW, _LOW = (4, 4), (2, 3), 18
"""Of what a setting is, and of what is said of its value; with fewer rows in the window the list needs theirs."""
_NAME_CELLS, _SHORT_NAME_CELLS = 20, 9
_FIELD_CELLS = 14
_CLOSED, _OPEN = "enter changes the highlighted one", "enter saves; empty unsets it"
"""What the empty field says."""


class ConfigPane(Vertical, Looking[ConfigView]):
    """The highlighted setting is the one that is changed. Keys arrive as `act`."""

    def __init__(self, home: Path, root: Path) -> None:
        super().__init__(id="config")
        self._home, self._root = home, root
        self._against: Path | None = None
        self._place = ConfigPlace()
        self._config = ConfigView()
        self._drawn: tuple[tuple[Row, ...], int, str] = ((), 0, "")
        self._asked: tuple[str, str] | None = None
        """The name and text whose preview is wanted next; only one is computed at a time."""
        self._asking = False
        self._to_write: list[Mend] = []
        """Settings to unset or set, with no field open, as soon as nothing else is computed."""
        self._wanted = ""
        """A setting to go to."""
        self._found = Preview()
        self._saved = False
        """Whether `_found` is what saving did, or why nothing was saved."""
        self._save_then = False
        """Whether to save as soon as the preview of what was typed is there."""
        self._at_work: frozenset[str] = frozenset()

    def compose(self) -> ComposeResult:
        self._place = cast("Shell", self.app).place(self._root, ConfigPlace)
        self._wanted = self._place.row
        with KeyBar(field=_FIELD_CELLS):
            yield FilterInput(self._place.filter, compact=True, id="config-filter")
            yield KeyButton("", "config.only", id="config-only")
            yield KeyButton("", "config.against", id="config-against")
        yield SettingList(id="config-list", markup=False, classes="pages")
        yield Painted(id="config-about")
        with KeyBar(field=width(_CLOSED) + 3):
            yield ValueInput(placeholder=_CLOSED, compact=True, id="config-value")
            yield Button("Save", name="config('save')", compact=True, id="config-save")
            yield KeyButton("Unset", "config.unset", id="config-unset")
        yield Painted(id="config-said")

    # -- reading and drawing ----------------------------------------------------------------------------------------

    def looker(self) -> Callable[[], ConfigView]:
        return partial(config.read_config, self._home, self._root, self._against)

    def draw(self, view: ConfigView) -> None:
        self._config = view
        self._draw()

    def show_runs(self, at_work: frozenset[str]) -> None:
        """The ids of the active runs. Once they are others, what was said of a value holds no more."""
        if at_work == self._at_work:
            return
        self._at_work = at_work
        if self.editing:
            self._ask()
        elif self._saved:
            self._saved = False
            self._describe()

    def on_resize(self) -> None:
        self.set_class(self._low, "-low")
        self._draw()

    def on_mount(self) -> None:
        self._value.disabled = True
        self._draw()

    @property
    def _low(self) -> bool:
        return self.app.size.height < _LOW

    @property
    def _list(self) -> Entries:
        return self.query_one("#config-list", Entries)

    @property
    def _value(self) -> SteadyInput:
        return self.query_one("#config-value", SteadyInput)

    @property
    def editing(self) -> bool:
        return not self._value.disabled

    @property
    def _row(self) -> Row | None:
        place = self._list.highlighted
        return None if place is None else self._config.row(self._list.get_option_at_index(place).id)

    def _draw(self) -> None:
        view, cells = self._config, self.content_size.width - 3
        mark = box_of(self, ticked=self._place.only)
        self.query_one("#config-filter", Input).placeholder = f"{key_of(self, 'config.filter')} filter"
        self.query_one("#config-only", KeyButton).say(f"{mark} only differences", f"{mark} changed")
        against, shorter = view.against or "the defaults", view.against or "defaults"
        self.query_one("#config-against", KeyButton).say(
            f"from {crop(against, _NAME_CELLS)}", f"from {crop(shorter, _SHORT_NAME_CELLS)}"
        )
        if cells > 0:
            self._fill(view, cells)
        self._describe()

    def _fill(self, view: ConfigView, cells: int) -> None:
        """The list again if it differs, with the same setting highlighted; while one is changed, the same rows."""
        wanted = self.query_one("#config-filter", Input).value
        rows = self._drawn[0] if self.editing else config.chosen(view, wanted, only=self._place.only)
        if (rows, cells, view.against) == self._drawn:
            return
        self._drawn = (rows, cells, view.against)
        before, top = self._row, self._list.scroll_y
        options: list[Option] = []
        if view.against:
            names = paint([config.heading(self._root.name, view.against, cells)])
            options.append(Option(names, disabled=True))
        for one in config.sections(rows):
            if isinstance(one, str):
                options.append(Option(paint([line(Span(one, "title"))]), disabled=True))
            else:
                text = config.row_line(one, cells, against=bool(view.against))
                options.append(Option(paint([text]), id=one.name))
        self._list.set_options(options)
        places = [option.id for option in options]
        kept = before.name if before is not None and before.name in places else next(filter(None, places), None)
        if self._wanted in places:
            kept = self._wanted
        if view.rows:  # read by now: what the filter hides is not gone to
            self._wanted = ""
        self._list.highlighted = None if kept is None else places.index(kept)
        if before is not None and kept == before.name:
            self._list.scroll_to(y=top, animate=False)
        self._list.call_after_refresh(self._list.scroll_to_highlight)  # it may not be laid out yet

    def _describe(self) -> None:
        cells, row = max(20, self.content_size.width - 2), self._row
        most_about, most_said = _LINES_IF_LOW if self._low else _LINES
        empty = () if not self._config.rows else (line(Span("No setting is shown; change the filter.", "label")),)
        about = config.about_lines(row, cells, most_about) or empty
        self.query_one("#config-about", Painted).show(about)
        self.query_one("#config-save", Button).disabled = not self.editing
        self.query_one("#config-unset", Button).disabled = row is None or bool(row.fixed)
        if self._config.problem:
            lines = config.problem_lines(self._config.problem, cells, most_said)
        elif row is not None and self._found.name == row.name and (self.editing or self._saved):
            lines = config.preview_lines(self._found, cells, most_said, saved=self._saved)
        else:
            lines = config.now_lines(row, self._config, cells, most_said)
        self.query_one("#config-said", Painted).show(lines)

    # -- what keys and buttons do ------------------------------------------------------------------------------------

    def enter(self) -> None:
        """The tab was opened by its key."""
        self.screen.set_focus(self._list)

    def act(self, what: str) -> None:
        """`filter`, `only`, `save`, `unset`, `mend` or `leave`."""
        if what == "filter":
            self.screen.set_focus(self.query_one("#config-filter"))
        elif what == "only":
            self._place.only = not self._place.only
            self._draw()
        elif what == "save" and self.editing:
            self._submit()
        elif what == "unset" and self._row is not None and not self._row.fixed:
            self._write_soon(Mend(self._row.name))
        elif what == "mend":
            told = self._found.conflict if self.editing or self._saved else None
            if wrong := told or self._config.conflict:
                self._mend(wrong)
        elif what == "leave":
            self._end_edit()

    def _write_soon(self, wanted: Mend) -> None:
        self._to_write.append(wanted)
        if self.editing:
            self._end_edit()
        self._ask_next()

    def _mend(self, wrong: Contradiction) -> None:
        """Save what is typed, if anything is, and what fits together with it; then show the latter."""
        if self.editing:
            self._to_write.append(Mend(*self._typed()))
        self.go_to(wrong.mend.name)
        self._write_soon(wrong.mend)

    def go_to(self, name: str) -> None:
        """Highlight a setting, as soon as the settings are read; what hides it is undone."""
        if self.editing:
            self._end_edit()
        self._wanted = name
        if not any(row.name == name for row in self._drawn[0]):
            self._place.only = False
            self.query_one("#config-filter", Input).value = ""
        self._drawn = ((), 0, "")
        self._draw()

    def compare_with(self, other: Path | None) -> None:
        """Show what differs from another experiment, or from the defaults."""
        self._against, self._place.only = other, self._place.only or other is not None
        self.look()

    @property
    def holds_keys(self) -> bool:
        """Whether Escape leaves a field rather than the screen."""
        return self.editing or self.query_one("#config-filter").has_focus

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._place.row = event.option.id or ""
        if event.option.id != self._found.name:
            self._saved = False
            if self.editing and self._list.has_focus:
                self._end_edit()
        self._describe()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._open()

    def on_value_input_clicked(self, message: ValueInput.Clicked) -> None:
        message.stop()
        self._open()

    def _open(self) -> None:
        if self._row is not None and not self._row.fixed:
            self._edit(self._row)

    def _edit(self, row: Row) -> None:
        value = self._value
        value.suggester = SuggestFromList(row.setting.choices) if row.setting.choices else None
        value.disabled, value.placeholder = False, _OPEN
        self._saved, self._found = False, Preview(row.name, row.text, same=True)
        value.value = row.text
        self.screen.set_focus(value)
        self._describe()

    def _end_edit(self) -> None:
        self._value.disabled, self._value.placeholder = True, _CLOSED
        self._value.value = ""
        self._asked, self._save_then = None, False
        self.screen.set_focus(self._list)
        self._describe()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if event.input.id == "config-filter":
            self._place.filter = event.value
            if self.editing:
                self._end_edit()
                self.screen.set_focus(event.input)
            self._draw()
            if best := config.best_match(self._drawn[0], event.value):
                self._list.highlighted = self._list.get_option_index(best)
        elif self.editing:
            self._ask()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.input.id == "config-filter":
            self.screen.set_focus(self._list)
        else:
            self._submit()

    # -- previews and saving -----------------------------------------------------------------------------------------

    def _typed(self) -> tuple[str, str]:
        return self._found.name, plain_value(self._found.name, self._value.value.strip())

    def _ask(self) -> None:
        self._saved = False
        self._asked = self._typed()
        self._ask_next()

    def _ask_next(self) -> None:
        if self._asking:
            return
        if self._to_write:
            self._write(*self._to_write.pop(0), alone=True)
            return
        if self._asked is None:
            return
        (name, text), self._asked = self._asked, None
        self._asking = True
        self.run_worker(lambda: self._previewed(name, text), thread=True, group="preview", description="try a value")

    def _previewed(self, name: str, text: str) -> None:
        try:
            found = preview(self._home, self._root, name, text)
        except (BitnetError, OSError) as error:
            found = Preview(name, text, (str(error),))
        self.post_message(Previewed(found, saved=False))

    def _submit(self) -> None:
        """Save what was typed once it is known what that does."""
        self._save_then = True
        if (self._found.name, self._found.text) != self._typed():
            self._ask()
        else:
            self._save_now()

    def _save_now(self) -> None:
        self._save_then = False
        if self._found.errors or self._asking:
            return
        if self._found.same and not self._found.hidden_by:
            self._end_edit()
            return
        self._write(*self._typed())

    def _write(self, name: str, text: str, *, alone: bool = False) -> None:
        self._asking = True
        work = partial(self._save, name, text, alone=alone)
        self.run_worker(work, thread=True, group="preview", description="save a setting")

    def _save(self, name: str, text: str, *, alone: bool) -> None:
        try:
            found, saved = save(self._home, self._root, name, text), True
        except (BitnetError, OSError) as error:
            found, saved = Preview(name, text, (str(error),)), False
        self.post_message(Previewed(found, saved=saved, alone=alone))

    def _written(self, found: Preview) -> None:
        """Tell what writing a setting did, or why it was refused, unless another one is being changed."""
        if self._row is not None and self._row.name == found.name and not self.editing:
            self._found, self._saved = found, True
        elif found.errors:
            self.notify("\n".join(map(in_app, found.errors)), title=title(found.name), severity="error")
        self.look()
        self._describe()

    def on_previewed(self, message: Previewed) -> None:
        self._asking = False
        if message.alone:
            self._written(message.found)
            self._ask_next()
            return
        if not self.editing or message.found.name != self._found.name:
            self._ask_next()
            return
        self._found = message.found
        if message.saved:
            self._end_edit()
            self._saved = True
            self.look()
        elif self._save_then and message.found.text == self._typed()[1]:
            self._save_now()
        self._describe()
        self._ask_next()
