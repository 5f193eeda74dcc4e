"""Only cells that change are written, and the terminal shows what Textual would have drawn."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.app import App
from textual.geometry import Region
from textual.screen import Screen
from textual.strip import Strip

from bitnet_tui.app import BitnetApp
from bitnet_tui.cells import Cells
from tests.tui.emulator import Emulator

_WIDTH, _HEIGHT = 14, 4
_STYLES = [
    None,
    *map(
        Style.parse,
        (
            "red", "bold red", "red on blue", "green on blue", "on blue", "#010203 on #040506", "#010299 on #040506",
            "color(200) on color(17)", "bright_red on bright_blue", "italic underline", "reverse",
            "default on default", "link https://a.example red",
        ),
    ),
]  # fmt: skip
_SIGNS = "ab ⣿⠁│…漢é́🙂"
_CONSOLES = [Console(color_system=name, force_terminal=True) for name in ("truecolor", "256", "standard")]


@st.composite
def strips(draw: st.DrawFn, width: int) -> Strip:
    """One of exactly this width."""
    segments: list[Segment] = []
    while left := width - sum(cell_len(one.text) for one in segments):
        text = draw(st.text(_SIGNS, min_size=1, max_size=6)) if draw(st.booleans()) else "a" * draw(st.integers(1, 9))
        text = text if cell_len(text) <= left else "b" * left
        segments.append(Segment(text, draw(st.sampled_from(_STYLES))))
    return Strip(segments, width)


@st.composite
def whole(draw: st.DrawFn) -> LayoutUpdate:
    return LayoutUpdate([[draw(strips(_WIDTH))] for _ in range(_HEIGHT)], Region(0, 0, _WIDTH, _HEIGHT))


@st.composite
def parts(draw: st.DrawFn) -> ChopsUpdate:
    """Each line has two pieces: both are drawn, or one, or none."""
    chops: list[dict[int, Strip | None]] = []
    ends, spans = [], []
    for y in range(_HEIGHT):
        cut = draw(st.integers(1, _WIDTH - 1))
        chops.append({0: draw(strips(cut)), cut: draw(strips(_WIDTH - cut))})
        ends.append([cut, _WIDTH])
        first, last = draw(st.sampled_from([(0, cut), (cut, _WIDTH), (0, _WIDTH), (0, 0)]))
        if first < last:
            spans.append((y, first, last))
    return ChopsUpdate(chops, spans or [(0, 0, _WIDTH)], ends)


@given(whole(), st.lists(st.one_of(parts(), parts(), whole()), max_size=5), st.sampled_from(_CONSOLES))
def test_the_terminal_shows_what_textual_draws(
    first: LayoutUpdate, later: list[ChopsUpdate | LayoutUpdate], console: Console
) -> None:
    cells, ours, theirs = Cells(), Emulator(), Emulator()
    for update in [first, *later]:
        theirs.write(update.render_segments(console))
        ours.write(cells.changes(update).render_segments(console))
        assert ours.cells == theirs.cells


def _one_line(text: str) -> ChopsUpdate:
    return ChopsUpdate([{0: Strip([Segment(text, Style.parse("red on blue"))])}], [(0, 0, len(text))], [[len(text)]])


def test_what_has_not_changed_is_not_written() -> None:
    cells, console = Cells(), _CONSOLES[0]
    assert "loss 2.125" in cells.changes(_one_line("loss 2.125")).render_segments(console)
    assert cells.changes(_one_line("loss 2.125")).render_segments(console) == ""
    written = cells.changes(_one_line("loss 2.124")).render_segments(console)
    assert written == "\x1b[1;10H\x1b[31;44m4\x1b[0m"


def test_an_accent_that_a_neighbour_has_put_on_a_cell_goes_with_it() -> None:
    cells, shown, console = Cells(), Emulator(), _CONSOLES[0]
    plain, accent = Strip([Segment("a")]), Strip([Segment("\u0301b")])
    beside = ChopsUpdate([{0: plain, 1: accent}], [(0, 0, 2)], [[1, 2]])
    for update in (beside, ChopsUpdate([{0: plain}], [(0, 0, 1)], [[1]])):
        shown.write(cells.changes(update).render_segments(console))
    assert [sign for sign, _ in shown.cells.values()] == ["a", "b"]


def test_the_whole_screen_is_written_whole() -> None:
    """Something else may have written to the terminal since."""
    cells, console = Cells(), _CONSOLES[0]
    update = LayoutUpdate([[Strip([Segment("abc")])]], Region(0, 0, 3, 1))
    assert {"abc" in cells.changes(update).render_segments(console) for _ in range(2)} == {True}


def test_anything_else_is_left_as_it_is() -> None:
    assert [Cells().changes(one) for one in ("text", None)] == ["text", None]


def test_the_app_writes_through_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written: list[object] = []
    monkeypatch.setattr(App, "_display", lambda _app, _screen, drawing: written.append(drawing))
    app, console = BitnetApp(tmp_path), _CONSOLES[0]
    for _ in range(2):
        app._display(Screen(), _one_line("loss 2.125"))
    assert [one.render_segments(console) != "" for one in written] == [True, False]  # type: ignore[attr-defined]
