"""The results: tables of the shown run, of the evaluation and the baseline, and answers side by side."""

import time
from collections.abc import Callable
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from bitnet_tui.view import reports
from bitnet_tui.view.reports import ReportReader, ReportsView
from bitnet_tui.view.watch import RunShown
from bitnet_tui.widgets.buttons import KeyBar, KeyButton
from bitnet_tui.widgets.looking import Looking
from bitnet_tui.widgets.painted import Painted


class ReportsPane(VerticalScroll, Looking[ReportsView]):
    """Draws what it has read together with the run that it is shown."""

    def __init__(self, home: Path, root: Path) -> None:
        super().__init__(id="reports", classes="pages")
        self._reader = ReportReader(root, home)
        self._reports = ReportsView()
        self._run: RunShown | None = None
        self._asked: tuple[object, ...] = ()
        """What the lines were made of: there may be many, and they tell how many minutes ago."""

    def compose(self) -> ComposeResult:
        with KeyBar(id="report-buttons"):
            yield KeyButton("Compare", "experiment.compare")
            yield KeyButton("Playground", "experiment.play")
            yield KeyButton("Save report", "experiment.report")
        yield Painted(id="reports-text")

    def looker(self) -> Callable[[], ReportsView]:
        return self._reader.read

    def draw(self, view: ReportsView) -> None:
        self._reports = view
        self._draw()

    def show(self, run: RunShown | None) -> None:
        """The run whose own tables come first."""
        self._run = run
        if self.display:
            self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        if not self.size.width:  # it is not laid out yet
            return
        cells = max(20, self.size.width - 2)
        run = self._run
        told = (run.id, run.state, run.view.tables, run.view.samples) if run else None
        if (asked := (told, self._reports, cells, int(time.time() // 60))) != self._asked:
            self._asked = asked
            self.query_one("#reports-text", Painted).show(reports.report_lines(run, self._reports, cells))
