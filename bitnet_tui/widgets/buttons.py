"""Buttons that name the key of their action, as the user has it, in bars that show of them what fits."""

from collections.abc import Sequence
from typing import cast

from textual.containers import Horizontal
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Button

from bitnet_core.text import pad, width
from bitnet_tui.actions import by_id
from bitnet_tui.shell import Shell

_ROOMY, _TIGHT = 5, 3
"""Cells beside a button's words, one of them between two buttons: with room at their sides and without."""
_FORMS = [
    (named, short, gap) for named, short in ((True, False), (True, True), (False, True)) for gap in (_ROOMY, _TIGHT)
]
"""Whether a button names its key, and has few words; and its gap. The key is first, as in every list of actions."""


class KeyButton(Button):
    """The button of an action in the table. `short` are its words where there is little room.

    It keeps room for the longest of the words in `others`, which it says at other times, so that nothing moves then.
    """

    def __init__(
        self,
        words: str,
        action: str,
        *,
        short: str = "",
        others: Sequence[tuple[str, str]] = (),
        id: str | None = None,  # noqa: A002 - textual's name
    ) -> None:
        made = by_id(action)
        name = f"app.{made.name}" if made.where == "app" else made.name
        super().__init__("", name=name, compact=True, id=id)
        self._action = action
        self.words, self.short = words, short or words
        self._others = others
        self.wanted = True
        """Whether it has something to do: else its bar leaves it out."""

    def say(self, words: str, short: str = "") -> None:
        """Show other words."""
        if (words, short or words) != (self.words, self.short):
            self.words, self.short = words, short or words
            self._refit()

    def want(self, wanted: bool) -> None:
        """Show it where it fits, or leave it out."""
        if wanted != self.wanted:
            self.wanted = wanted
            self._refit()

    def _refit(self) -> None:
        if isinstance(self.parent, KeyBar):
            self.parent.fit()

    def text(self, named: bool, short: bool) -> Content:
        """Its words, behind its key if it is `named`."""
        texts = [few if short else many for many, few in ((self.words, self.short), *self._others)]
        words = pad(texts[0], max(map(width, texts)))
        return Content.assemble((key_of(self, self._action), "bold"), f" {words}") if named else Content(words)


class KeyBar(Horizontal):
    """A row of buttons, perhaps with a field of at least `field` cells.

    It takes the longest form in which all its buttons fit. Where none does, the last ones are left out: their keys,
    the palette and Help have their actions.
    """

    def __init__(self, *children: Widget, field: int = 0, id: str | None = None) -> None:  # noqa: A002
        super().__init__(*children, id=id, classes="bar")
        self._field = field

    def on_mount(self) -> None:
        cast("Shell", self.app).keymap_signal.subscribe(self, lambda _: self.fit())
        self.fit()

    def on_unmount(self) -> None:
        cast("Shell", self.app).keymap_signal.unsubscribe(self)

    def on_resize(self) -> None:
        self.fit()

    def fit(self) -> None:
        """Choose what is shown, after the width, a key, or the words of a button have changed."""
        others = [one for one in self.children if isinstance(one, Button) and not isinstance(one, KeyButton)]
        room = self.content_size.width or self.app.size.width
        room -= self._field + sum(width(str(one.label)) + _ROOMY for one in others)
        every = list(self.query_children(KeyButton))
        buttons = [one for one in every if one.wanted]
        found = next((one for one in _FORMS if _cells(buttons, *one) <= room), _FORMS[-1])
        while buttons and _cells(buttons, *found) > room:
            buttons.pop()
        named, short, gap = found
        for button in every:
            button.display = button in buttons
            button.set_class(gap == _TIGHT, "-tight")
            relabel(button, button.text(named, short))


def _cells(buttons: Sequence[KeyButton], named: bool, short: bool, gap: int) -> int:
    return sum(one.text(named, short).cell_length + gap for one in buttons)


def key_of(widget: Widget, action: str) -> str:
    """The key to name for an action, as the user has it."""
    return cast("Shell", widget.app).key(action)


def box_of(widget: Widget, *, ticked: bool) -> str:
    """A box to tick. Of plain signs one alone would look like a letter, or a key."""
    if cast("Shell", widget.app).plain:
        return "[x]" if ticked else "[ ]"
    return "☑" if ticked else "☐"


def relabel(button: Button, label: Content | str) -> None:
    if str(button.label) != str(label):
        button.label = Content(label) if isinstance(label, str) else label
        button.refresh(layout=True)
        button._layout_updates += 1  # else Textual takes the width that it has kept of a layout since the last one
