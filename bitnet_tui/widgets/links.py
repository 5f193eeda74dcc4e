"""Actions as words in a line, each a place to click; what does not fit is left out at the end."""

from collections.abc import Sequence

from textual import events

from bitnet_core.text import width
from bitnet_tui.view.spans import Span
from bitnet_tui.widgets.painted import Painted

_GAP = "  "


class Links(Painted):
    """`offers` are (key, words, action of the screen)."""

    _offers: Sequence[tuple[str, str, str]] = ()

    def offer(self, offers: Sequence[tuple[str, str, str]]) -> None:
        self._offers = offers
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        spans: list[Span] = []
        left = self.content_size.width
        for key, words, _ in self._offers:
            left -= width(f"{key} {words}")
            if left < 0:
                break
            left -= len(_GAP)
            spans += [Span(key, "key"), Span(f" {words}", "label"), Span(_GAP)]
        self.show((tuple(spans[:-1]),))

    async def on_click(self, event: events.Click) -> None:
        event.stop()
        left, x = 0, event.get_content_offset_capture(self).x
        for key, words, action in self._offers:
            right = left + width(f"{key} {words}")
            if left <= x < right:
                await self.screen.run_action(action)
                return
            left = right + len(_GAP)
