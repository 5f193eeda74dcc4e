"""The line of keys at the foot of a screen: each is shown whole, and the least needed are left out."""

from textual import events
from textual.app import ComposeResult
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

from bitnet_core.text import width

_ALWAYS = ("app.help", "help", "dismiss", "leave", "app.quit", "quit")
_FIRST_TO_LEAVE = ("app.keys", "keys")
_PADDING = 3


class Foot(Footer):
    """Help shows every key, so its own stays; so do the way back and out."""

    _made_for = 0

    def __init__(self) -> None:
        super().__init__(show_command_palette=False)

    def compose(self) -> ComposeResult:
        self._made_for = cells = self.size.width or self.app.size.width
        keys = [one for one in super().compose() if isinstance(one, FooterKey)]
        last_first = sorted(enumerate(keys), key=lambda one: (_rank(one[1]), one[0]), reverse=True)
        for _, one in last_first:
            if sum(map(_cells, keys)) > cells and _rank(one):
                keys.remove(one)
        yield from keys

    def on_resize(self, event: events.Resize) -> None:
        if event.size.width != self._made_for:
            self.call_after_refresh(self.recompose)


def _rank(key: FooterKey) -> int:
    return 0 if key.action in _ALWAYS else 2 if key.action in _FIRST_TO_LEAVE else 1


def _cells(key: FooterKey) -> int:
    return width(f"{key.key_display}{key.description}") + _PADDING
