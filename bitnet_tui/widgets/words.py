"""Text as it is: never read as markup, and nothing in it can control the terminal.

A text of a teacher, a server, a file or a folder is shown with `Words`, never with Textual's `Static` or `Label`:
they follow markup such as `[@click=app.quit]`. `SafeLines` then sees every line that is drawn, whatever drew it.
"""

import re

from rich.cells import cell_len
from rich.segment import Segment
from textual import events, on
from textual.color import Color
from textual.content import Content
from textual.filter import LineFilter
from textual.visual import VisualType
from textual.widgets import Static

from bitnet_core.text import printable
from bitnet_tui.theme import OFFER, paint
from bitnet_tui.view.spans import Line, Span, joined, line

_ROOMY = re.compile(r"…  (?= |$)")


class Words(Static):
    """A widget of plain text. Content that was painted is shown with its styles."""

    def __init__(
        self,
        content: str | Content = "",
        *,
        id: str | None = None,  # noqa: A002 - textual's name
        classes: str | None = None,
    ) -> None:
        super().__init__(_safe(content), id=id, classes=classes, markup=False)

    def update(self, content: VisualType = "", *, layout: bool = True) -> None:
        """Show another content. The same again is not drawn: nothing is written while nothing changes."""
        safe = _safe(content)
        if not _same(safe, self.content):
            super().update(safe, layout=layout and not self._stays_as_large(safe))

    def _stays_as_large(self, content: VisualType) -> bool:
        """Whether its size does not depend on the content, or each line is as long as before and none wraps.

        A layout takes longer than drawing a line.
        """
        if not self.styles.auto_dimensions:
            return True
        now, before = _lengths(content), _lengths(self.content)
        return now == before and bool(now) and max(now) <= self.content_size.width

    @on(events.Click)
    async def _do_offered(self, event: events.Click) -> None:
        """Do what the clicked words offer."""
        if action := event.style.meta.get(OFFER):
            event.stop()
            await self.screen.run_action(action)


def titled(title: str, *ways: Line) -> Content:
    """A dialog's title, and more quietly what its keys do."""
    told = (Span(one.text, "beside-title", one.action) for one in joined(ways, ", "))
    return paint([line(title, Span("    ", "beside-title"), *told)])


def _safe(content: VisualType) -> VisualType:
    return printable(content) if isinstance(content, str) else content


def _same(one: VisualType, other: VisualType) -> bool:
    if isinstance(one, Content) and isinstance(other, Content):
        return one.is_same(other)
    return isinstance(one, str) and isinstance(other, str) and one == other


def _lengths(content: VisualType) -> list[int]:
    """The cells of each line; empty if that can't be told."""
    return [one.cell_length for one in content.split("\n")] if isinstance(content, Content) else []


class SafeLines(LineFilter):
    """The last look at each line of each widget. It keeps the line's width, so what takes no cell is left out."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002
        if all(text.isprintable() for text, _, _ in segments):
            return segments
        return [Segment("".join(map(_safe_char, text)), style, control) for text, style, control in segments]


class Ellipses(LineFilter):
    """Where only plain signs are drawn: `…` as three dots, if there are blanks for two of them and one more.

    Its plain sign of one cell, which stands where there is no room, reads as a cut and never as going on.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002
        whole = "".join(text for text, _, _ in segments)
        if "…" not in whole:
            return segments
        whole, at, drawn = _ROOMY.sub("...", whole), 0, []
        for text, style, control in segments:
            drawn.append(Segment(whole[at : at + len(text)], style, control))
            at += len(text)
        return drawn


def _safe_char(char: str) -> str:
    return char if char.isprintable() else printable(char) * cell_len(char)
