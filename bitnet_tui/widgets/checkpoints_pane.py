"""The checkpoints of the experiment: a list, and buttons for what can be done with the highlighted one."""

from collections.abc import Callable
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from bitnet_core.runs.export_run import ExportRun
from bitnet_core.runs.exports import Exported
from bitnet_tui.services.exporting import Begun
from bitnet_tui.theme import paint
from bitnet_tui.view import checkpoints, exports
from bitnet_tui.view.checkpoints import CheckpointReader, CheckpointsView, Saved
from bitnet_tui.view.spans import Line
from bitnet_tui.widgets.buttons import KeyBar, KeyButton
from bitnet_tui.widgets.lists import Entries
from bitnet_tui.widgets.looking import Looking
from bitnet_tui.widgets.painted import Painted

_ABOUT_LINES, _SAID_LINES = 3, 3
_EXPORTED = "How to run it", "Run it"
"""What the button to export offers of a checkpoint that is exported; second, where there is little room."""
_WHILE_IT_RUNS = ("How to run it, or stop", "Run, stop")
"""The same while an export runs, which can be stopped there as well."""


class CheckpointsPane(Vertical, Looking[CheckpointsView]):
    """Its buttons are named after the actions of the screen."""

    def __init__(self, home: Path, root: Path) -> None:
        super().__init__(id="checkpoints")
        self._reader = CheckpointReader(root, home)
        self._drawn: tuple[Line, ...] | None = None
        self._said: tuple[str, str] | None = None
        self.view = CheckpointsView()
        self.begun: Begun | None = None
        """The last one that this app has begun."""
        self._soon = ""
        """That training runs, or comes by itself."""

    def compose(self) -> ComposeResult:
        yield Painted(id="checkpoints-heading")
        yield Entries(id="checkpoints-list", markup=False, classes="pages")
        yield Painted(id="checkpoints-about")
        with KeyBar():
            yield KeyButton("Resume from here", "checkpoints.resume", short="Resume")
            yield KeyButton("Flip from here", "checkpoints.flip", short="Flip")
            yield KeyButton("Export", "checkpoints.export", others=[_EXPORTED], id="checkpoints-export")
        yield Painted(id="checkpoints-said")

    def looker(self) -> Callable[[], CheckpointsView]:
        return self._reader.read

    def draw(self, view: CheckpointsView) -> None:
        self.view = view
        self._draw()

    def tell_coming(self, soon: str) -> None:
        """Say that training runs, or will start by itself. It is shown while there is no checkpoint."""
        if soon != self._soon:
            self._soon = soon
            self._draw()

    def on_resize(self) -> None:
        self._draw()

    def enter(self) -> None:
        """The tab was opened by its key."""
        self.screen.set_focus(self.query_one(Entries))

    def say(self, style: str, words: str) -> None:
        """What an action did. It stays, also while another tab is open."""
        self._said = style, words
        self._draw()

    def tell_begun(self, begun: Begun | None) -> None:
        """Note what this app has begun to export. What was said before is no longer shown."""
        if begun is not self.begun:
            self.begun, self._said = begun, None

    def compared(self, row: Saved | None) -> tuple[Exported, ...]:
        """Of the exports of a checkpoint, what is written and not verified yet."""
        export = self.running_export
        if row is None or export is None or row.step != export.step:
            return ()
        return tuple(one for one in row.exported if export.has_written(one.path))

    @property
    def export(self) -> ExportRun | None:
        """The export that runs or was the last: what its record tells; of one that has none, what this app knows."""
        told, begun = self.view.export, self.begun
        if begun is None or (told is not None and (told.active or told.pid == begun.pid)):
            return told
        return begun.run

    @property
    def running_export(self) -> ExportRun | None:
        """That export while it runs."""
        return self.export if self.export is not None and self.export.active else None

    @property
    def chosen(self) -> Saved | None:
        entries = self.query_one(Entries)
        place = entries.highlighted
        return None if place is None else self.view.row(entries.get_option_at_index(place).id)

    def _draw(self) -> None:
        cells = self.content_size.width - 3
        if cells <= 0:
            return
        rows = self.view.rows
        self.query_one("#checkpoints-heading", Painted).show((checkpoints.heading(cells),) if rows else ())
        lines = tuple(checkpoints.row_line(row, cells, compared=self.compared(row)) for row in rows)
        if lines != self._drawn:
            self._drawn = lines
            before, entries = self.chosen, self.query_one(Entries)
            names = [str(row.step) for row in rows]
            entries.set_options(Option(paint([text]), id=name) for text, name in zip(lines, names, strict=True))
            kept = names.index(str(before.step)) if before is not None and str(before.step) in names else 0
            entries.highlighted = kept if names else None
        self._describe()

    def _describe(self) -> None:
        cells = max(20, self.content_size.width - 2)
        for one in self.query(KeyButton):
            one.disabled = not self.view.rows
        exported = self.chosen is not None and self.chosen.exported
        words: tuple[str, ...] = _EXPORTED if exported else ("Export",)
        if self.running_export is not None:
            words = _WHILE_IT_RUNS if exported else ("Export, or stop", "Export")
        self.query_one("#checkpoints-export", KeyButton).say(*words)
        compared = self.compared(self.chosen)
        about = checkpoints.about_lines(self.view, self.chosen, cells, _ABOUT_LINES, self._soon, compared)
        self.query_one("#checkpoints-about", Painted).show(about)
        said = [self._said, exports.told(self.export) if self.export else None]
        lines = [line for one in said if one for line in checkpoints.said_lines(*one, cells, _SAID_LINES)]
        self.query_one("#checkpoints-said", Painted).show(tuple(lines[:_SAID_LINES]))

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._describe()
