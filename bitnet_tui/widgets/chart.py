"""One chart: a line of words above a plot that is drawn in a thread, and only when something has changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.color import Color
from textual.containers import Vertical
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from bitnet_core.results.axes import Label
from bitnet_core.results.series import Point
from bitnet_tui import bindings
from bitnet_tui.plot import Run, draw
from bitnet_tui.shell import Shell
from bitnet_tui.theme import lettered, plot_styles
from bitnet_tui.view.chart import BELOW, drawing
from bitnet_tui.view.chart_text import letter, shows_all, title, toggled, turned
from bitnet_tui.view.lens import CHARTS, Axis, Chart, Lens, extent
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.view.scale import Scale
from bitnet_tui.view.spans import Line
from bitnet_tui.widgets.painted import Painted

_LEAST_COLUMNS, _LEAST_ROWS = 24, 5
_NO_ROOM = "no room for a chart"
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
    """Another chart was asked for: the one before or after (-1, 1), one by its name, or the name was clicked (0)."""

    def __init__(self, to: int | str) -> None:
        super().__init__()
        self.to = to


class Toggled(Message):
    """A curve of a chart is to be hidden, or shown again; with `only`, to be shown alone."""

    def __init__(self, curve: str, chart: Chart, *, only: bool) -> None:
        super().__init__()
        self.curve, self.chart, self.only = curve, chart, only


@dataclass(frozen=True)
class _Wanted:
    """Everything that a drawing depends on."""

    view: RunView
    curves: tuple[str, ...]
    log: bool
    label: Label
    """Writes the numbers upwards."""
    smooth: float
    axis: Axis
    window: Point | None
    size: tuple[int, int]
    colours: Mapping[str, str]
    """Not the theme's name, which is known a moment before them."""
    letters: bool

    def same(self, other: "_Wanted | None") -> bool:
        return other is not None and self._key() == other._key()

    def _key(self) -> tuple[object, ...]:
        view, what = self.view, (self.curves, self.log, self.label, self.smooth, self.axis, self.window)
        return view.curves, view.seams, view.flips, what, self.size, self.colours, self.letters


@dataclass(frozen=True)
class _Drawn:
    """What a thread has drawn; without a scale, words in the place of curves, which begin at the column `left`."""

    wanted: _Wanted
    lines: tuple[Strip, ...]
    left: int = 0
    along: Scale | None = None


class _Built(Message):
    """A thread has drawn it."""

    def __init__(self, drawn: _Drawn) -> None:
        super().__init__()
        self.drawn = drawn


class Plot(Widget):
    """The curves and the crosshair. The screen holds what is looked at, and is told what the mouse does."""

    ALLOW_SELECT = False  # a drag moves the curves
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
    _drawn: _Drawn | None = None
    _pressed: int | None = None

    def show(self, view: RunView, chart: Chart, lens: Lens, axis: Axis) -> None:
        before, self._view = self._view, view
        window = lens.window or extent(view)
        wanted = (chart, lens, axis, window)
        changed = wanted != (self.chart, self._lens, self._axis, self._window)
        self.chart, self._lens, self._axis, self._window = wanted
        # Its size and the colours are compared when it is drawn, which a widget that can't be seen never is.
        if changed or (view.curves, view.seams, view.flips) != (before.curves, before.seams, before.flips):
            self.refresh()

    @property
    def drawn_lines(self) -> tuple[str, ...]:
        return tuple(strip.text for strip in self._drawn.lines) if self._drawn else ()

    @property
    def column_share(self) -> float:
        """The share of what is looked at that a column shows."""
        drawn = self._drawn
        if drawn is None or drawn.along is None or drawn.wanted.window is None:
            return 1 / max(1, self.content_size.width)
        left, right = map(drawn.wanted.axis.place, drawn.wanted.window)
        return (drawn.along.value(1) - drawn.along.low) / (right - left)

    def _wanted(self) -> _Wanted:
        size = (self.content_size.width, self.content_size.height)
        log = self._lens.log and self.chart.log
        letters = self.lettered or with_letters(self.app)
        curves, smooth = self._lens.drawn(self.chart), self._lens.smooth
        colours = self.app.theme_variables
        return _Wanted(
            self._view, curves, log, self.chart.label, smooth, self._axis, self._window, size, colours, letters
        )

    def render_lines(self, crop: Region) -> list[Strip]:
        wanted = self._wanted()
        columns, rows = wanted.size
        if columns >= _LEAST_COLUMNS and rows >= _LEAST_ROWS and not wanted.same(self._asked):
            self._asked = wanted
            styles, plain = plot_styles(wanted.colours), cast("Shell", self.app).plain
            self.run_worker(
                lambda: self._build(wanted, styles, without_dots=plain),
                thread=True,
                group="plot",
                description="draw a chart",
            )
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        columns, rows = self.content_size
        look = self.visual_style.rich_style
        if columns < _LEAST_COLUMNS or rows < _LEAST_ROWS:
            return Strip([Segment(_NO_ROOM[:columns] if y == 0 else "", look)])
        if self._drawn is None or self._drawn.wanted.size != (columns, rows) or y >= len(self._drawn.lines):
            return Strip.blank(columns, look)
        return self._crossed(y).apply_style(look)

    def _build(self, wanted: _Wanted, styles: Mapping[str, Style], *, without_dots: bool) -> None:
        picture = drawing(
            wanted.view,
            wanted.curves,
            *wanted.size,
            log=wanted.log,
            label=wanted.label,
            axis=wanted.axis,
            window=wanted.window,
            smooth=wanted.smooth,
        )
        if picture is None:
            words = "  Nothing to draw here." if wanted.window else "  Curves appear with the first metrics."
            if wanted.view is Plot._view:  # nothing was shown yet
                words = "  Reading the curves…"
            self.post_message(_Built(_Drawn(wanted, (Strip([]), Strip([Segment(words, Style(dim=True))])))))
            return
        several = wanted.letters and len(picture.curves) > 1
        letters = {name: letter(name) for name, _ in picture.curves} if several else {}
        rows = draw(picture, letters, without_dots=without_dots)
        lines = tuple(_strip(row, styles) for row in rows)
        self.post_message(_Built(_Drawn(wanted, lines, picture.left, picture.x)))

    def on__built(self, message: _Built) -> None:
        if message.drawn.wanted is self._asked:
            self._drawn = message.drawn
            self.refresh()

    # -- the crosshair -----------------------------------------------------------------------------------------------

    def _crossed(self, y: int) -> Strip:
        """A line, with the crosshair behind the curves."""
        if self._drawn is None:
            return Strip([])
        strip, column = self._drawn.lines[y], self._column_of(self._lens.cursor)
        if column is None or y >= len(self._drawn.lines) - BELOW or strip.text[column] != " ":
            return strip
        accent = Style(color=Color.parse(self.app.theme_variables["accent"]).rich_color)
        before, after = strip.crop(0, column), strip.crop(column + 1, strip.cell_length)
        return Strip.join((before, Strip([Segment("│", accent)]), after))

    def _column_of(self, seen: float | None) -> int | None:
        if self._drawn is None or self._drawn.along is None or self._window is None or seen is None:
            return None
        within = self._window[0] <= seen <= self._window[1]
        return self._drawn.left + self._drawn.along.cell(self._drawn.wanted.axis.place(seen)) if within else None

    def _seen_at(self, x: int) -> float | None:
        """The seen tokens at a column, or the nearest that are looked at; None beside the curves."""
        if self._drawn is None or self._drawn.along is None or self._window is None:
            return None
        column = x - self._drawn.left
        if not 0 <= column < self._drawn.along.cells:
            return None
        seen = self._drawn.wanted.axis.seen_at(self._drawn.along.value(column))
        return min(self._window[1], max(self._window[0], seen))

    # -- the mouse ---------------------------------------------------------------------------------------------------

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._pressed is not None and event.button:
            if event.x != self._pressed:
                self.post_message(Dragged((event.x - self._pressed) * self.column_share))
                self._pressed = event.x
            return
        self.post_message(Pointed(self._seen_at(event.x)))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        self._pressed = event.x
        self.capture_mouse()

    def on_mouse_up(self) -> None:
        self._pressed = None
        self.release_mouse()

    async def on_click(self, event: events.Click) -> None:
        if event.chain == 2:
            await self.screen.run_action("whole")

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


def _strip(row: Sequence[Run], styles: Mapping[str, Style]) -> Strip:
    return Strip([Segment(signs, styles.get(colour)) for signs, colour in row], sum(len(signs) for signs, _ in row))


class ChartTitle(Painted):
    """A click on a curve hides or shows it, a double one shows it alone. One elsewhere turns to another chart.

    In a grid that is the one below it.
    """

    _line: Line = ()
    _chart: Chart = CHARTS[0]
    _alone = True

    def tell(self, words: Line, chart: Chart, *, alone: bool = True) -> None:
        """Show the line of this chart, which is shown alone or in a grid."""
        self._line, self._chart, self._alone = words, chart, alone
        self.show((words,))

    async def on_click(self, event: events.Click) -> None:
        if shows_all(self._line, event.x):
            await self.screen.run_action("whole")
            return
        curve = toggled(self._line, event.x)
        to = turned(self._line, event.x) if self._alone else self._chart.name
        if curve is not None and event.chain < 3:
            self.post_message(Toggled(curve, self._chart, only=event.chain == 2))
        elif curve is None and to is not None:
            self.post_message(Turned(to))


class ChartPanel(Vertical):
    """A chart below its title. Only one that is `focusable` takes the focus."""

    def __init__(self, *, focusable: bool = False) -> None:
        super().__init__()
        self._focusable = focusable

    def compose(self) -> ComposeResult:
        yield ChartTitle(classes="chart-title")
        plot = Plot()
        plot.can_focus = self._focusable
        yield plot

    @property
    def plot(self) -> Plot:
        return self.query_one(Plot)

    def show(self, view: RunView, chart: Chart, lens: Lens, axis: Axis, *, alone: bool) -> None:
        cells = self.content_size.width
        letters = with_letters(self.app)
        words = title(chart, view, lens, axis, cells, alone=alone, letters=letters)
        self.query_one(ChartTitle).tell(words, chart, alone=alone)
        self.plot.show(view, chart, lens, axis)


def with_letters(app: App[object]) -> bool:
    """Whether curves have letters in this terminal and theme."""
    plain = cast("Shell", app).plain
    return plain or lettered(app.theme, app.console.color_system, no_color=app.no_color)
