"""Stopping what runs: asked first, told how long it takes, and killed if it does not end."""

from functools import partial
from pathlib import Path
from time import monotonic

from bitnet_core.errors import BitnetError
from bitnet_core.runs.catalog import PIPELINE
from bitnet_core.runs.record import STOP_SECONDS
from bitnet_core.text import duration
from bitnet_tui.labels import stage_title
from bitnet_tui.screens.base import ShellScreen
from bitnet_tui.shell import Shell
from bitnet_tui.view import stopping
from bitnet_tui.view.stage_rows import StageRow, ending_with
from bitnet_tui.view.watch import ExperimentView, ExperimentWatcher
from bitnet_tui.widgets.looking import Looking


class StoppingScreen(ShellScreen[None], Looking[ExperimentView]):
    """What it does lives on in the shell: a stop is sent, and its failure told, also once the screen is closed."""

    root: Path

    @property
    def rows_shown(self) -> tuple[StageRow, ...]:
        """The stages as they are shown."""
        raise NotImplementedError

    @property
    def chosen_stage(self) -> str:
        """The stage that keys act on."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw again what is shown."""
        raise NotImplementedError

    def action_stop(self) -> None:
        """Ask first. A run that was asked to stop and still runs after a while can be killed."""
        active = [row for row in self.rows_shown if row.active]
        if not active:
            return
        row = next((one for one in active if one.name == self.chosen_stage), active[-1])
        ends = ending_with(row, active)
        run_id, asked = row.run_id or "", self.shell.stops_sent.get(row.run_id or "")
        if asked is not None and (left := STOP_SECONDS - (monotonic() - asked)) > 0:
            self._say_stopping(run_id, left, saves=stopping.keeps(row.name, ends))
            return
        from bitnet_tui.screens.confirm import ConfirmScreen

        kill, saves = asked is not None, stopping.keeps(row.name, ends)
        names = [one.name for one in ends]
        if not kill:
            names = [row.name, *(name for name in names if name == PIPELINE.name != row.name)]
        loses = kill or not saves

        def answered(yes: bool | None) -> None:
            if yes:
                ending = {one.run_id or "" for one in ends if one.name in names}
                self._send_stop(run_id, names, ending, kill=kill, saves=saves)
            else:  # an Enter that was meant to stop it did not
                self.shell.notify_of(run_id, f"{stage_title(row.name)} keeps running.")

        texts = stopping.kill_question(row.name) if kill else stopping.question(row.name, ends)
        self.app.push_screen(ConfirmScreen(*texts, harmless=not loses), answered)

    def _say_stopping(self, run_id: str, seconds: float, *, saves: bool) -> None:
        key, left = self.shell.key("experiment.stop"), duration(seconds)
        first = "; it saves its work first" if saves else ""
        self.shell.notify_of(run_id, f"Stopping{first}. In {left}, {key} can kill it.")

    def _send_stop(self, run_id: str, names: list[str], ending: set[str], *, kill: bool, saves: bool) -> None:
        """`ending` are the ids of the runs that will end, that of the pipeline among them.

        To stop them, only the first of `names` that still runs is asked: meanwhile the pipeline may have gone on.
        """
        self.shell.confirmed |= ending
        if not kill:
            self.shell.stops_sent[run_id] = monotonic()
            self._say_stopping(run_id, STOP_SECONDS, saves=saves)
        self.redraw()
        work = partial(self._stop, self.shell, run_id, names, ending, kill=kill)
        self.app.run_worker(work, thread=True, group="stop", description="stop")

    def _stop(self, shell: Shell, run_id: str, names: list[str], ending: set[str], *, kill: bool) -> None:
        problem = ""
        try:
            runs = ExperimentWatcher(self.root, shell.home).active_runs(names)[: None if kill else 1]
            problem = "" if runs else f"{stage_title(names[0])} had already ended."
        except BitnetError as error:
            runs, problem = [], str(error)
        for run in runs:
            try:
                run.kill() if kill else run.request_stop()
            except BitnetError as error:
                problem = str(error)
        shell.call_later(self._stop_sent, run_id, ending, problem)

    def _stop_sent(self, run_id: str, ending: set[str], problem: str) -> None:
        """A stop or a kill was sent; `problem` says why it could not be, told even if this screen is closed."""
        if problem:
            self.shell.stops_sent.pop(run_id, None)
            self.shell.take_back(run_id)
            self.shell.confirmed -= ending
            self.app.notify(problem, title="Not stopped", severity="error")
        if self.on_stack:
            self.look()
