"""Actions as words, each a place to click, in as many lines as they need."""

from collections.abc import Sequence

from textual import events

from bitnet_core.text import width
from bitnet_tui.view.spans import Span
from bitnet_tui.widgets.painted import Painted

_GAP = 2
Offer = tuple[str, str, str]
"""A key, words, and an action of the screen."""


def arranged(offers: Sequence[Offer], cells: int) -> list[list[tuple[int, Offer]]]:
    """Lines of offers, each with its first cell. Two lines are about as long, so that none is left with one offer."""
    lines = _filled(offers, cells)
    while len(lines) == 2 and cells > 0 and len(shorter := _filled(offers, cells := cells - 1)) == 2:
        lines = shorter
    return lines


def _filled(offers: Sequence[Offer], cells: int) -> list[list[tuple[int, Offer]]]:
    lines: list[list[tuple[int, Offer]]] = [[]]
    left = 0
    for one in offers:
        wide = width(f"{one[0]} {one[1]}")
        if lines[-1] and left + wide > cells:
            lines.append([])
            left = 0
        lines[-1].append((left, one))
        left += wide + _GAP
    return lines


class Links(Painted):
    """Shows what it is offered."""

    _placed: Sequence[Sequence[tuple[int, Offer]]] = ()

    _offers: Sequence[Offer] = ()

    def offer(self, offers: Sequence[Offer]) -> None:
        self._offers = offers
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        self._placed = arranged(self._offers, self.content_size.width or self.screen.size.width)
        lines = []
        for placed in self._placed:
            spans: list[Span] = []
            for _left, (key, words, _action) in placed:
                spans += [Span(key, "key"), Span(f" {words}", "label"), Span(" " * _GAP)]
            lines.append(tuple(spans[:-1]))
        self.show(tuple(lines))

    async def on_click(self, event: events.Click) -> None:
        event.stop()
        at = event.get_content_offset_capture(self)
        for left, (key, words, action) in self._placed[at.y] if 0 <= at.y < len(self._placed) else ():
            if left <= at.x < left + width(f"{key} {words}"):
                await self.screen.run_action(action)
                return
