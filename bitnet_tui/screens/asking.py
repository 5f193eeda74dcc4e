"""What an experiment's screen asks in dialogs: with what to compare it, as what to save its report, what to fetch."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.runs.catalog import stage
from bitnet_tui.screens.base import ShellScreen
from bitnet_tui.services.benchmarks import Benchmark
from bitnet_tui.shell import Shell
from bitnet_tui.view import benchmarks
from bitnet_tui.view.watch import RunShown


class AskingScreen(ShellScreen[None]):
    """The dialogs are imported when they are opened."""

    root: Path

    @property
    def run_shown(self) -> RunShown | None:
        """The run that is shown."""
        raise NotImplementedError

    def start_stage(self, name: str, values: Mapping[str, str] | None = None) -> None:
        raise NotImplementedError

    def action_compare_with(self) -> None:
        """Ask with what, and show it beside this one."""
        from bitnet_tui.screens.compare_with import compare_with

        compare_with(self.shell, self.root)

    def action_save_report(self) -> None:
        """Ask as what, and write the report of the training that is shown, or else of the newest one."""
        from bitnet_tui.screens.picking import PickScreen
        from bitnet_tui.services.reporting import FORMATS, save_report

        run = self.run_shown
        shown = run.id if run is not None and run.stage in ("train", "eval") and run.position > 1 else ""
        shell = self.shell

        def answered(place: int | None) -> None:
            if place is not None:
                kind = list(FORMATS)[place]
                shell.notify(f"Writing the report as {kind.upper()}…")
                work = partial(self._save_report, shell, partial(save_report, shell.home, self.root, kind, shown))
                shell.run_worker(work, thread=True, group="report", description="write a report")

        names = [f"{kind.upper():6}{what}" for kind, what in FORMATS.items()]
        self.app.push_screen(PickScreen("Save the report as", names), answered)

    @staticmethod
    def _save_report(shell: Shell, write: Callable[[], str]) -> None:
        """Its end is told even if the screen is closed."""
        try:
            shell.call_later(partial(shell.notify, write(), title="Report"))
        except BitnetError as error:
            shell.call_later(partial(shell.notify, str(error), title="No report", severity="error"))

    def ask_to_fetch(
        self, name: str, values: Mapping[str, str] | None, lacking: tuple[Benchmark, ...], late: str
    ) -> None:
        """Ask whether to fetch what a stage lacks; it starts when that is here. `late` as in `ask_on_top`."""
        from bitnet_tui.screens.benchmarks import get
        from bitnet_tui.screens.confirm import ConfirmScreen

        if self.shell.getting is not None:
            self.notify("Benchmarks are still being fetched; start it when they have arrived.", severity="warning")
            return

        shell, what = self.shell, f"{stage(name).title} of {self.root.name}"

        def start() -> None:
            if self.on_stack:
                self.start_stage(name, values)
            else:
                why = "its experiment was closed meanwhile; open it and start it there."
                shell.notify(f"{what} was not started: {why}", severity="warning")

        def answered(yes: bool | None) -> None:
            if yes and self.shell.getting is None:
                get(self.shell, [one.name for one in lacking], start)

        self.ask_on_top(ConfirmScreen(*benchmarks.question(lacking)), answered, late)

    def action_benchmarks(self) -> None:
        from bitnet_tui.screens.benchmarks import BenchmarksScreen

        self.app.push_screen(BenchmarksScreen(self.root))
