"""The guide's own widgets: the rail of steps, a list of cards, a choice in one line, and a share to move."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import RenderResult
from textual.binding import BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets.option_list import Option

from bitnet_tui import bindings
from bitnet_tui.theme import paint
from bitnet_tui.view import pick, share
from bitnet_tui.view.guide import rail
from bitnet_tui.view.spans import Line, Span
from bitnet_tui.widgets.lists import Entries


class _Line(Widget, can_focus=True):
    """One line that is drawn again when the focus comes or goes."""

    ALLOW_SELECT = False  # a drag is the widget's own, and would leave a block of selected text over it

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()


class Rail(_Line):
    """The steps. A click goes to one, and so do the arrows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("move.left", "screen.back", "Previous step"),
        bindings.shared("move.right", "screen.skip", "Next step"),
    ]

    class Chosen(Message):
        """A step was clicked."""

        def __init__(self, step: str) -> None:
            super().__init__()
            self.step = step

    _shown: tuple[str, frozenset[str], frozenset[str]] = ("", frozenset(), frozenset())

    def show(self, now: str, seen: frozenset[str], wrong: frozenset[str]) -> None:
        if (now, seen, wrong) != self._shown:
            self._shown = (now, seen, wrong)
            self.refresh()

    def render(self) -> RenderResult:
        return paint([rail.rail(*self._shown, self.content_size.width, focused=self.has_focus)])

    def on_click(self, event: events.Click) -> None:
        place = event.get_content_offset(self)
        if place is None:  # that of the first cell is false, too
            return
        step = rail.at(place.x, self.content_size.width)
        if step is not None:
            self.post_message(self.Chosen(step))


class Cards(Entries):
    """A list in which the highlighted line is the choice: a click chooses, and Enter is the screen's.

    The choice has a sign, too, for terminals without colours.
    """

    _rows: tuple[tuple[str, Line], ...] = ()

    @property
    def chosen(self) -> str:
        """The value of the highlighted line; empty if there is none."""
        option = self.highlighted_option
        return (option.id or "") if option is not None else ""

    def fill(self, rows: Sequence[tuple[str, Line]], chosen: str) -> None:
        """Show these (value, line), unless they are there already; a line without a value is a heading."""
        if tuple(rows) == self._rows:
            return
        self._rows = tuple(rows)
        with self.prevent(self.OptionHighlighted):
            self.clear_options()
            self.add_options(
                [Option(paint([self._marked(*row, chosen)]), id=row[0] or None, disabled=not row[0]) for row in rows]
            )
            self.highlighted = [value for value, _ in rows].index(chosen)

    def on_option_list_option_highlighted(self) -> None:
        """Move the sign."""
        for place, (value, content) in enumerate(self._rows):
            if value:
                shown = paint([self._marked(value, content, self.chosen)])
                if shown != self.get_option_at_index(place).prompt:
                    self.replace_option_prompt_at_index(place, shown)

    @staticmethod
    def _marked(value: str, content: Line, chosen: str) -> Line:
        if not value:
            return content
        return (Span("◉ ", "accent") if value == chosen else Span("  "), *content)

    def action_select(self) -> None:
        """Choose nothing more than what is highlighted already."""


class Pick(_Line):
    """A choice among a few words. While it is not enabled, none of them is chosen, and a click is refused."""

    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("move.left", "move(-1)", "The one before"),
        bindings.shared("move.right", "move(1)", "The next one"),
        bindings.shared("move.turn", "move(1)", "The next one"),
    ]

    class Picked(Message):
        """Another value was chosen."""

        def __init__(self, picker: "Pick", value: str) -> None:
            super().__init__()
            self.picker = picker
            self.value = value

        @property
        def control(self) -> "Pick":
            return self.picker

    class Refused(Message):
        """A value was clicked while none counts."""

        def __init__(self, value: str) -> None:
            super().__init__()
            self.value = value

    def __init__(self, options: tuple[tuple[str, str], ...], value: str, *, id: str) -> None:  # noqa: A002 - textual's name
        super().__init__(id=id, classes="line")
        self._options = options
        self._counts = True
        self.value = value

    def enable(self, counts: bool) -> None:
        """Let its value count, or not. Without an effect it takes no focus."""
        if counts != self._counts:
            self._counts = self.can_focus = counts
            self.refresh()

    def render(self) -> RenderResult:
        cells, counts = self.content_size.width, self._counts
        return paint([pick.pick(self._options, self.value, cells, focused=self.has_focus, counts=counts)])

    def action_move(self, steps: int) -> None:
        self.choose(pick.beside(self._options, self.value, steps))

    def on_click(self, event: events.Click) -> None:
        place = event.get_content_offset(self)
        if place is None:
            return
        value = pick.picked(self._options, self.value, self.content_size.width, place.x)
        if value is not None and not self._counts:
            self.post_message(self.Refused(value))
        elif value is not None:
            self.choose(value)

    def choose(self, value: str) -> None:
        """Choose one of its values."""
        if value != self.value:
            self.value = value
            self.refresh()
            self.post_message(self.Picked(self, value))


class ShareBar(_Line):
    """A share from 0 to 1. The arrows move it by a hundredth, with Shift by ten; the mouse drags it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("move.left", "move(-1)", "Earlier"),
        bindings.shared("move.right", "move(1)", "Later"),
        bindings.shared("move.far_left", "move(-10)", "Much earlier"),
        bindings.shared("move.far_right", "move(10)", "Much later"),
    ]

    class Moved(Message):
        """It has another value."""

        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def can_replace(self, message: Message) -> bool:
            """While it is dragged, only the last place counts."""
            return isinstance(message, ShareBar.Moved)

    _dragged = False

    def __init__(self, value: float, *, id: str) -> None:  # noqa: A002 - textual's name
        super().__init__(id=id, classes="line")
        self.value = value

    def render(self) -> RenderResult:
        return paint([share.bar(self.value, max(2, self.content_size.width), focused=self.has_focus)])

    def action_move(self, hundredths: int) -> None:
        self._set(share.moved(self.value, hundredths))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        self._dragged = True
        self.capture_mouse()
        self._to(event)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._dragged:
            self._to(event)

    def on_mouse_up(self) -> None:
        self._dragged = False
        self.release_mouse()

    def _to(self, event: events.MouseEvent) -> None:
        cell = event.screen_x - self.content_region.x
        self._set(share.at_cell(int(cell), self.content_size.width))

    def _set(self, value: float) -> None:
        if value != self.value:
            self.value = value
            self.refresh()
            self.post_message(self.Moved(value))
