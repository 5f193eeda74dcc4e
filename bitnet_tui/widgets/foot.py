"""The line of keys at the foot of a screen: each is shown whole; of the least needed, those that fit."""

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

from bitnet_core.text import width

_TABS = ("traces", "config", "log")
"""Those with a field, or a page of their own, that Escape leaves."""
_ALWAYS = (
    *("app.help", "help", "dismiss", "leave", "clear", "app.quit", "quit"),
    *(f"{tab}('leave')" for tab in _TABS),
)
_FIRST_TO_LEAVE = ("app.keys", "keys", "screen.move_stage(1)")
_PADDING = 3


class Foot(Footer):
    """Help shows every key, so its own stays; so do the way back and out.

    The bindings are told again after each key and each turn of a tab; the line is built again only if it differs.
    """

    _made_for = 0
    _made_of: tuple[object, ...] = ()

    def __init__(self) -> None:
        super().__init__(show_command_palette=False)

    def compose(self) -> ComposeResult:
        self._made_for = cells = self.size.width or self.app.size.width
        self._made_of = self._bound()
        keys = [one for one in super().compose() if isinstance(one, FooterKey)]
        for one in keys:  # else each is styled as a compact one first
            one.set_reactive(FooterKey.compact, self.compact)
            one._reactive_connect = None  # else the line keeps every key that it ever had
        kept: set[FooterKey] = set()
        for one in sorted(keys, key=_rank):
            if not _rank(one) or sum(map(_cells, [*kept, one])) <= cells:
                kept.add(one)
        yield from (one for one in keys if one in kept)

    def bindings_changed(self, screen: Screen[object]) -> None:
        self._bindings_ready = True
        if screen.app.app_focus and self.is_attached and screen is self.screen:
            self.call_after_refresh(self._renew)

    async def _renew(self) -> None:
        if self.is_attached and self._bound() != self._made_of:  # its screen may have been closed meanwhile
            await self.recompose()

    def _bound(self) -> tuple[object, ...]:
        """What the line is made of, once the bindings are known."""
        if not self._bindings_ready:
            return ()
        shown = [one for one in self.screen.active_bindings.values() if one.binding.show]
        return tuple((one.binding, self.app.get_key_display(one.binding), one.enabled, one.tooltip) for one in shown)

    def on_resize(self, event: events.Resize) -> None:
        if event.size.width != self._made_for:
            self.call_after_refresh(self.recompose)


def _rank(key: FooterKey) -> int:
    return 0 if key.action in _ALWAYS else 2 if key.action in _FIRST_TO_LEAVE else 1


def _cells(key: FooterKey) -> int:
    return width(f"{key.key_display}{key.description}") + _PADDING
