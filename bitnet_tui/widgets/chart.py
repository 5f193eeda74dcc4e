"""One chart: a line of words above a plot that plotext draws in a thread, and only when something has changed."""

from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import App, ComposeResult, RenderResult
from textual.binding import BindingType
from textual.color import Color
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget

from bitnet_core.results.series import Point
from bitnet_tui import bindings
from bitnet_tui.theme import lettered, plot_colours
from bitnet_tui.view.chart import PlotColour, drawing
from bitnet_tui.view.chart_text import letter, title, toggled, turned
from bitnet_tui.view.lens import CHARTS, Axis, Chart, Lens, extent
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.view.spans import Line
from bitnet_tui.widgets.painted import Painted

_LEAST_COLUMNS, _LEAST_ROWS = 24, 6
_EMPTY = " ⠀"
"""Cells without a curve: a space, or braille without a dot."""
_WHEEL = 1.3
"""How much nearer a turn of the wheel brings the curves."""


class Pointed(Message):
    """The mouse is over a place of the curves, in seen tokens; None = it has left them."""

    def __init__(self, seen: float | None) -> None:
        super().__init__()
        self.seen = seen


class Zoomed(Message):
    """The wheel was turned over a place of the curves."""

    def __init__(self, factor: float, seen: float) -> None:
        super().__init__()
        self.factor, self.seen = factor, seen


class Dragged(Message):
    """The curves were drawn to the right by this share of what is shown."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share


class Turned(Message):
    """Another chart was asked for: the one before or after (-1, 1), all again (0), or one by its name."""

    def __init__(self, to: int | str) -> None:
        super().__init__()
        self.to = to


class Toggled(Message):
    """A curve is to be hidden, or shown again."""

    def __init__(self, curve: str) -> None:
        super().__init__()
        self.curve = curve


@dataclass(frozen=True)
class _Wanted:
    """Everything that a drawing depends on."""

    view: RunView
    curves: tuple[str, ...]
    log: bool
    smooth: float
    axis: Axis
    window: Point | None
    size: tuple[int, int]
    theme: str
    letters: bool

    def same(self, other: "_Wanted | None") -> bool:
        return other is not None and self._key() == other._key()

    def _key(self) -> tuple[object, ...]:
        view, what = self.view, (self.curves, self.log, self.smooth, self.axis, self.window)
        return view.curves, view.seams, view.flip, what, self.size, self.theme, self.letters


class _Built(Message):
    """A thread has drawn it: the lines, and the column in which the curves begin."""

    def __init__(self, wanted: _Wanted, lines: list[Text], left: int) -> None:
        super().__init__()
        self.wanted, self.lines, self.left = wanted, lines, left


class Plot(Widget):
    """The curves and the crosshair. The screen holds what is looked at, and is told what the mouse does."""

    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("move.left", "screen.chart_move(-1)", "Earlier"),
        bindings.shared("move.right", "screen.chart_move(1)", "Later"),
        bindings.shared("move.up", "screen.chart_zoom(1)", "Zoom in"),
        bindings.shared("move.down", "screen.chart_zoom(-1)", "Zoom out"),
    ]

    lettered = False
    """Whether the curves have their letters where there are colours, too."""
    _view: RunView = RunView()
    chart: Chart = CHARTS[0]
    _lens: Lens = Lens()
    _axis: Axis = Axis("tokens")
    _window: Point | None = None
    _asked: _Wanted | None = None
    _drawn: _Wanted | None = None
    _lines: tuple[Text, ...] = ()
    _left = 0
    _pressed: int | None = None

    def show(self, view: RunView, chart: Chart, lens: Lens, axis: Axis) -> None:
        before, self._view = self._view, view
        window = lens.window or extent(view)
        wanted = (chart, lens, axis, window)
        changed = wanted != (self.chart, self._lens, self._axis, self._window)
        self.chart, self._lens, self._axis, self._window = wanted
        # Its size and the theme are compared when it is drawn, which a widget that can't be seen never is.
        if changed or (view.curves, view.seams, view.flip) != (before.curves, before.seams, before.flip):
            self.refresh()

    @property
    def drawn_lines(self) -> tuple[Text, ...]:
        return self._lines

    @property
    def columns(self) -> int:
        """How many columns the curves have."""
        return max(1, self.content_size.width - self._left)

    def _wanted(self) -> _Wanted:
        size = (self.content_size.width, self.content_size.height)
        log = self._lens.log and self.chart.log
        letters = self.lettered or _letters(self.app)
        curves, smooth = self._lens.drawn(self.chart), self._lens.smooth
        return _Wanted(self._view, curves, log, smooth, self._axis, self._window, size, self.app.theme, letters)

    def render(self) -> RenderResult:
        wanted = self._wanted()
        columns, rows = wanted.size
        if columns < _LEAST_COLUMNS or rows < _LEAST_ROWS:
            return Text("no room for a chart")
        if not wanted.same(self._asked):
            self._asked = wanted
            colours = plot_colours(self.app.theme_variables)
            self.run_worker(
                lambda: self._build(wanted, colours), thread=True, group="plot", description="draw a chart"
            )
        if self._drawn is None or self._drawn.size != wanted.size:
            return Text("")
        return self._with_crosshair()

    def _build(self, wanted: _Wanted, colours: dict[str, PlotColour]) -> None:
        from bitnet_tui.plot import build, canvas  # imports plotext, which is not needed before

        columns, rows = wanted.size
        picture = drawing(
            wanted.view,
            wanted.curves,
            columns,
            rows,
            log=wanted.log,
            axis=wanted.axis,
            window=wanted.window,
            smooth=wanted.smooth,
        )
        if picture is None:
            words = "\n  Nothing to draw here." if wanted.window else "\n  Curves appear with the first metrics."
            self.post_message(_Built(wanted, [Text(words, style="dim")], columns))
            return
        several = wanted.letters and len(picture.curves) > 1
        letters = {name: letter(name) for name, _ in picture.curves} if several else {}
        text = build(picture, columns, rows, colours, letters)
        lines = list(Text.from_ansi(text, no_wrap=True).split("\n"))
        self.post_message(_Built(wanted, lines, canvas(text)))

    def on__built(self, message: _Built) -> None:
        if message.wanted is self._asked:
            self._drawn, self._lines, self._left = message.wanted, tuple(message.lines), message.left
            self.refresh()

    # -- the crosshair -----------------------------------------------------------------------------------------------

    def _with_crosshair(self) -> Text:
        column = self._column_of(self._lens.cursor)
        if column is None:
            return Text("\n", no_wrap=True, end="").join(self._lines)
        accent = Style(color=Color.parse(self.app.theme_variables["accent"]).rich_color)
        crossed = [
            _crossed(line, column, accent) if self._is_canvas(y) else line for y, line in enumerate(self._lines)
        ]
        return Text("\n", no_wrap=True, end="").join(crossed)

    def _is_canvas(self, y: int) -> bool:
        return y < len(self._lines) - 2  # below are the axis and its labels

    def _column_of(self, seen: float | None) -> int | None:
        if seen is None or self._window is None or not self._window[0] <= seen <= self._window[1]:
            return None
        left, right, at = (self._axis.place(x) for x in (*self._window, seen))
        return self._left + round((at - left) / (right - left) * (self.columns - 1)) if right > left else None

    def _seen_at(self, x: int) -> float | None:
        """The seen tokens at a column; None beside the curves."""
        if self._window is None or not self._left <= x < self._left + self.columns or self.columns < 2:
            return None
        left, right = (self._axis.place(end) for end in self._window)
        return self._axis.seen_at(left + (x - self._left) / (self.columns - 1) * (right - left))

    # -- the mouse ---------------------------------------------------------------------------------------------------

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._pressed is not None and event.button:
            if event.x != self._pressed:
                self.post_message(Dragged((event.x - self._pressed) / self.columns))
                self._pressed = event.x
            return
        self.post_message(Pointed(self._seen_at(event.x)))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        self._pressed = event.x
        self.capture_mouse()

    def on_mouse_up(self) -> None:
        self._pressed = None
        self.release_mouse()

    def on_leave(self) -> None:
        self.post_message(Pointed(None))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._scrolled(event, _WHEEL)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._scrolled(event, 1 / _WHEEL)

    def _scrolled(self, event: events.MouseEvent, factor: float) -> None:
        event.stop()
        if (seen := self._seen_at(event.x)) is not None:
            self.post_message(Zoomed(factor, seen))


def _crossed(line: Text, column: int, colour: Style) -> Text:
    """The line with the crosshair in a column, behind the curves."""
    if column >= len(line.plain) or line.plain[column] not in _EMPTY:
        return line
    crossed = Text.assemble(line[:column], ("│", colour), line[column + 1 :])
    crossed.no_wrap, crossed.end = True, ""
    return crossed


class ChartTitle(Painted):
    """A click on a curve's mark hides or shows it. One elsewhere turns to another chart, of a grid to that below."""

    _line: Line = ()
    below: str | None = None
    """The name of its chart in a grid."""

    def show(self, lines: tuple[Line, ...]) -> None:
        self._line = lines[0] if lines else ()
        super().show(lines)

    def on_click(self, event: events.Click) -> None:
        curve = toggled(self._line, event.x)
        to = turned(self._line, event.x) if self.below is None else self.below
        if curve is not None:
            self.post_message(Toggled(curve))
        elif to is not None:
            self.post_message(Turned(to))


class ChartPanel(Vertical):
    """A chart below its title."""

    def compose(self) -> ComposeResult:
        yield ChartTitle(classes="chart-title")
        yield Plot()

    @property
    def plot(self) -> Plot:
        return self.query_one(Plot)

    def show(self, view: RunView, chart: Chart, lens: Lens, axis: Axis, *, alone: bool) -> None:
        cells = self.content_size.width
        letters = _letters(self.app)
        self.query_one(ChartTitle).below = None if alone else chart.name
        self.query_one(ChartTitle).show((title(chart, view, lens, axis, cells, alone=alone, letters=letters),))
        self.plot.show(view, chart, lens, axis)


def _letters(app: App[object]) -> bool:
    return lettered(app.theme, app.console.color_system, no_color=app.no_color)
