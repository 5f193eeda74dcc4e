"""The messages of a run: by level, searched, followed, wrapped, copied."""

from pathlib import Path
from typing import cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from bitnet_tui.shell import Shell
from bitnet_tui.theme import paint
from bitnet_tui.view import logs
from bitnet_tui.view.logs import LogLine
from bitnet_tui.view.places import LogPlace
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.view.watch import RunShown
from bitnet_tui.widgets.buttons import KeyBar, KeyButton, box_of, key_of
from bitnet_tui.widgets.inputs import FilterInput
from bitnet_tui.widgets.lists import Entries
from bitnet_tui.widgets.painted import Painted

_FIELD_CELLS = 12


class LogPane(Vertical):
    """Keys arrive as `act`. While it follows, the newest line is in sight."""

    def __init__(self, root: Path) -> None:
        super().__init__(id="log")
        self._root, self._place = root, LogPlace()
        self._run_id = ""
        self._seen: RunView | None = None
        self._lines: tuple[LogLine, ...] = ()
        self._drawn: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        self._place = cast("Shell", self.app).place(self._root, LogPlace)
        with KeyBar(field=_FIELD_CELLS):
            yield FilterInput(self._place.search, compact=True, id="log-search")
            for what in ("level", "follow", "wrap"):
                yield KeyButton("", f"log.{what}", id=f"log-{what}")
            yield KeyButton("Next", "log.next", short="↓")
            yield KeyButton("Before", "log.before", short="↑")
            yield KeyButton("Copy", "log.copy")
        yield Entries(id="log-lines", markup=False, classes="pages")
        yield Painted(id="log-status")

    @property
    def _entries(self) -> Entries:
        return self.query_one("#log-lines", Entries)

    @property
    def _words(self) -> str:
        return self.query_one("#log-search", Input).value.strip()

    @property
    def text(self) -> str:
        """All lines that are shown, to be copied."""
        return "\n".join(one.text for one in self._lines)

    def show(self, run: RunShown | None) -> None:
        """The run whose log it is. Nothing is drawn while another tab is open."""
        if run is None or run.id != self._run_id:
            self._run_id, self._drawn = (run.id if run else ""), ()
        self._seen = run.view if run else None
        if self.display:
            self._draw()

    def on_show(self) -> None:
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def on_mount(self) -> None:
        self._label()

    def enter(self) -> None:
        """The tab was opened by its key."""
        self.screen.set_focus(self._entries)

    @property
    def holds_keys(self) -> bool:
        """Whether Escape leaves the field rather than the screen."""
        return self.query_one("#log-search").has_focus

    def act(self, what: str) -> None:
        """`search`, `next`, `before`, `level`, `follow`, `wrap` or `leave`."""
        if what == "search":
            self.screen.set_focus(self.query_one("#log-search"))
        elif what == "leave":
            self.enter()
        elif what in ("next", "before"):
            self._go(1 if what == "next" else -1)
        else:
            if what == "level":
                self._place.least = logs.next_level(self._place.least)
            elif what == "follow":
                self._place.follow = not self._place.follow
            elif what == "wrap":
                self._place.wrap = not self._place.wrap
            self._label()
            self._draw()
            self._stay_at_end()

    def _label(self) -> None:
        least = "all" if self._place.least == "debug" else f"{self._place.least}+"
        follow, wrap = (box_of(self, ticked=on) for on in (self._place.follow, self._place.wrap))
        self.query_one("#log-search", Input).placeholder = f"{key_of(self, 'log.search')} search"
        for what, label in (("level", f"{least:8}"), ("follow", f"{follow} follow"), ("wrap", f"{wrap} wrap")):
            self.query_one(f"#log-{what}", KeyButton).say(label)

    def _go(self, by: int) -> None:
        """To the next line that was found. The newest lines are then not followed."""
        place = logs.step(logs.found(self._lines, self._words), self._entries.highlighted, by)
        if place is not None:
            self._place.follow = False
            self._label()
            self._entries.highlighted = place
            self._tell()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._place.search = event.value
        self._draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.enter()
        self._go(-1 if self._entries.highlighted is None or self._place.follow else 1)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if self._place.follow and event.option_index < len(self._lines) - 1 and self._entries.has_focus:
            self._place.follow = False  # one went up to read
            self._label()
        self._tell()

    # -- drawing ---------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        cells = self._entries.size.width - 3
        if cells <= 0:
            return
        self._lines = lines = logs.lines_of(self._seen, self._place.least)
        how = (self._words, cells, self._place.wrap)
        if (lines, how) == self._drawn:
            return
        before, self._drawn = self._drawn, (lines, how)
        entries = self._entries
        if before and before[1] == how and self._continued(before[0]):
            entries.add_options(self._options(lines[entries.option_count :], how))
        else:
            at = self._number_at(before[0], entries.highlighted) if before else self._place_in_run()
            entries.set_options(self._options(lines, how))
            entries.highlighted = next((place for place, one in enumerate(lines) if one.number == at), None)
        self._stay_at_end()
        self._tell()

    def _options(self, lines: tuple[LogLine, ...], how: tuple[str, int, bool]) -> list[Option]:
        words, cells, wrap = how
        return [Option(paint(logs.drawn(one, words, cells, wrap=wrap))) for one in lines]

    def _continued(self, before: object) -> bool:
        """Whether the new lines only follow those that are drawn."""
        return isinstance(before, tuple) and bool(before) and self._lines[: len(before)] == before

    def _number_at(self, before: object, place: int | None) -> int | None:
        if place is None or not isinstance(before, tuple) or place >= len(before):
            return None
        return int(before[place].number)

    def _place_in_run(self) -> int | None:
        """The line that was highlighted when this run was shown last."""
        run, number = self._place.line
        return number if run == self._run_id else None

    def _stay_at_end(self) -> None:
        if self._place.follow and self._lines:
            self._entries.highlighted = len(self._lines) - 1
            self.call_after_refresh(self._scroll_to_end)

    def _scroll_to_end(self) -> None:
        if self._place.follow:  # one may have gone to another line meanwhile
            self._entries.scroll_end(animate=False, immediate=True)

    def _tell(self) -> None:
        status = logs.status(self._lines, self._seen, self._words, self._entries.highlighted)
        self.query_one("#log-status", Painted).show((status,))
        if (at := self._number_at(self._lines, self._entries.highlighted)) is not None:
            self._place.line = self._run_id, at
