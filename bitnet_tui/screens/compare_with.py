"""Asks what an experiment is to be compared with: others of the workspace, or older trainings of its own."""

import time
from functools import partial
from pathlib import Path
from typing import cast

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, OptionList
from textual.widgets.option_list import Option

from bitnet_core.results.compare import FEWEST, MOST
from bitnet_core.text import crop_middle, flat, pad
from bitnet_tui import bindings
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.shell import Shell
from bitnet_tui.theme import paint
from bitnet_tui.view.choices import Choice, choices
from bitnet_tui.view.compared import Chosen
from bitnet_tui.view.offered import way
from bitnet_tui.view.spans import Line, Span, line
from bitnet_tui.widgets.lists import Entries
from bitnet_tui.widgets.looking import Looked
from bitnet_tui.widgets.words import Words, titled

_NAME_CELLS = 30
_MARK_CELLS = 2
"""Of an entry: its mark and the blank behind it."""
_NOTHING = "There is no other experiment here, and no older training of this one."


def compare_with(shell: Shell, root: Path) -> None:
    """Ask with what to compare an experiment, and show them beside each other."""

    def chosen(found: list[Chosen] | None) -> None:
        if found:
            shell.compare([one.root for one in found], [one.run for one in found])

    shell.push_screen(CompareWithScreen(root), chosen)


class _Marked(Entries):
    """A click on a mark turns it; a click elsewhere chooses the entry."""

    async def _on_click(self, event: events.Click) -> None:
        event.prevent_default()  # Textual's own handler, which would be called next
        at, place = event.get_content_offset(self), event.style.meta.get("option")
        if at is None or at.x >= _MARK_CELLS or place is None:
            await super()._on_click(event)
        elif place < self.option_count:
            self.highlighted = place
            cast("CompareWithScreen", self.screen).action_mark()


class CompareWithScreen(DialogScreen[list[Chosen]]):
    """Returns what was chosen: what is marked and, if that is one alone, what is highlighted; None if nothing.

    What is to be compared is the first entry and marked already, and can be taken out like any other.
    """

    CSS_PATH = ["cards.tcss", "compare_with.tcss"]  # noqa: RUF012
    BINDINGS = [  # noqa: RUF012
        bindings.shared("list.mark", "mark"),
        bindings.shared("dialog.close", "dismiss", "Cancel", keys="escape"),
    ]

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self._choices: list[Choice] = []
        self._marked = {0}

    def compose(self) -> ComposeResult:
        with Vertical(classes="card compare-with"):
            name = crop_middle(flat(self._root.name), _NAME_CELLS)
            yield Words(titled(f"Compare {name} with…", way("list.mark", "marks several")), classes="title")
            yield _Marked(id="choices", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", name="dismiss")
                yield Button("Compare", id="compare", name="compare", variant="primary")

    def on_mount(self) -> None:
        self.query_one("#choices").focus()
        look = partial(choices, self._root, self.shell.home, time.time())
        self.run_worker(lambda: self.post_message(Looked(look())), thread=True, description="list what to compare")

    def on_looked(self, message: Looked) -> None:
        own = Choice(Chosen(self._root), flat(self._root.name), "this one")
        self._choices = [own, *sorted(message.view, key=lambda one: not one.nearest)]
        entries = self.query_one("#choices", OptionList)
        entries.add_options(
            [Option(paint([self._line(place)]), id=str(place)) for place in range(len(self._choices))]
        )
        if not message.view:
            entries.add_option(Option(_NOTHING, disabled=True))
        entries.highlighted = 1 if message.view else 0

    def _line(self, place: int) -> Line:
        one = self._choices[place]
        mark = Span("● " if place in self._marked else "○ ")  # seen on the colour of the highlighted row, too
        return line(mark, Span(f"{pad(crop_middle(one.name, _NAME_CELLS), _NAME_CELLS)} "), Span(one.note, "label"))

    def action_mark(self) -> None:
        entries = self.query_one("#choices", OptionList)
        place = entries.highlighted
        if place is None or place >= len(self._choices):
            return
        if place not in self._marked and len(self._marked) >= MOST:
            self.notify(f"At most {MOST} can be compared at once.", severity="warning")
            return
        self._marked ^= {place}
        entries.replace_option_prompt_at_index(place, paint([self._line(place)]))

    def on_option_list_option_selected(self) -> None:
        self.action_compare()

    def action_compare(self) -> None:
        highlighted = self.query_one("#choices", OptionList).highlighted
        places = sorted(self._marked)
        if len(places) < FEWEST and highlighted is not None and highlighted not in places:
            places.append(highlighted)
        if len(places) < FEWEST:
            self.notify("Mark two or more to compare.", severity="warning")
        else:
            self.dismiss([self._choices[place].chosen for place in places])
