"""Text drawn from the lines of a view model, and redrawn only when they change."""

from textual import events, on

from bitnet_tui.remedies import in_app
from bitnet_tui.theme import paint
from bitnet_tui.view.spans import Line, Span, action_at, line
from bitnet_tui.widgets.words import Words


class Painted(Words):
    """Has the class `-empty` while there are no lines, so that a stylesheet can hide it."""

    ALLOW_SELECT = True
    _lines: tuple[Line, ...] | None = None

    def show(self, lines: tuple[Line, ...]) -> None:
        if lines != self._lines:
            self._lines = lines
            self.set_class(not lines, "-empty")
            self.update(paint(lines))

    @on(events.Click)
    async def _do_offered(self, event: events.Click) -> None:
        """Do what the clicked words offer. A line with such words is never wrapped here: its view has cut it."""
        at = event.get_content_offset(self)
        lines = self._lines or ()
        action = action_at(lines[at.y], at.x) if at is not None and 0 <= at.y < len(lines) else ""
        if action:
            event.stop()
            await self.screen.run_action(action)

    def say(self, text: str, style: str) -> None:
        """Show one sentence, or nothing if it is empty."""
        self.show((line(Span(in_app(text), style)),) if text else ())
