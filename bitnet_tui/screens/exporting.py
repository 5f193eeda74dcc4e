"""Exporting a checkpoint from its tab: what for, how far it is, and how to use what was exported.

An export goes on when its screen or the app is closed. The screen that is opened next says what came of it.
"""

from functools import partial
from pathlib import Path
from typing import Literal

from textual.worker import get_current_worker

from bitnet_core.errors import BitnetError
from bitnet_core.runs import export_run
from bitnet_core.runs.export_run import ExportRun
from bitnet_core.runs.exports import Exported
from bitnet_tui.screens.base import ShellScreen
from bitnet_tui.services.exporting import FORMATS, Begun
from bitnet_tui.shell import Shell
from bitnet_tui.view import exports
from bitnet_tui.view.checkpoints import Saved
from bitnet_tui.widgets.checkpoints_pane import CheckpointsPane


class ExportingScreen(ShellScreen[None]):
    """The page with what to type opens where one asks for it: one may be typing something else when it ends."""

    root: Path

    @property
    def shows_checkpoints(self) -> bool:
        """Whether the tab of the checkpoints is open, and complete."""
        raise NotImplementedError

    def ask_format(self, row: Saved) -> None:
        """Ask for what to export it; what is there already comes first, and is shown with how to use it.

        A running export can be stopped here, whoever began it.
        """
        from bitnet_tui.screens.picking import PickScreen

        pane = self.query_one(CheckpointsPane)
        here = {one.kind: one for one in reversed(row.exported)}
        forms = sorted(FORMATS, key=lambda form: form not in here)
        running = pane.running_export

        def answered(place: int | None) -> None:
            if place is None:
                return
            if place == len(forms):
                self._stop_export()
                return
            form = forms[place]
            if form in here:
                self._show_page(here[form])
            else:
                self._begin_export(row, form)

        compared = pane.compared(row)
        names = [
            exports.choice(form, FORMATS[form], here.get(form), compared=here.get(form) in compared) for form in forms
        ]
        names += [exports.stop_words(running, len(self.shell.exports_waiting.get(self.root, ())))] if running else []
        self.app.push_screen(PickScreen(exports.question(row.step, row.exported), names), answered)

    def _show_page(self, exported: Exported) -> None:
        from bitnet_tui.screens.exported import ExportedScreen

        def answered(again: bool | None) -> None:
            row = self.query_one(CheckpointsPane).view.row(str(exported.step))
            if again and row is not None:
                self._begin_export(row, exported.kind, again=True)

        self.app.push_screen(ExportedScreen(exported), answered)

    def _begin_export(self, row: Saved, form: str, *, again: bool = False) -> None:
        shell, running = self.shell, self.query_one(CheckpointsPane).running_export
        begin = partial(Begun, shell.home, self.root, form, row.step, row.path, again=again)
        if running is not None:
            own = shell.exports.get(self.root)
            if own is None or own.pid != running.pid or (own.form, own.step) == (form, row.step):
                shell.notify(exports.still_words(running), severity="warning")
            else:
                shell.exports_waiting.setdefault(self.root, {})[form, row.step] = begin
                shell.notify(exports.waits_words(running, form, row.step))
            return
        _begin(shell, begin())
        self.draw_export()

    def _stop_export(self) -> None:
        self.shell.exports_waiting.pop(self.root, None)
        work = partial(_stop, self.shell, self.root)
        self.shell.run_worker(work, thread=True, group="export", description="stop an export")

    def draw_export(self) -> None:
        """Say how an export is doing that was begun here and has no record yet."""
        if (pane := self.query_one_optional(CheckpointsPane)) is not None:
            pane.tell_begun(self.shell.exports.get(self.root))

    def look_at_export(self) -> None:
        """Say how the export is doing, as its record tells."""
        if (pane := self.query_one_optional(CheckpointsPane)) is not None:
            pane.look()

    @property
    def exports_now(self) -> bool:
        """Whether an export is known to be running."""
        pane = self.query_one_optional(CheckpointsPane)
        return pane is not None and pane.running_export is not None


def _begin(shell: Shell, begun: Begun) -> None:
    shell.exports[begun.root] = begun
    shell.run_worker(partial(_run, shell, begun), thread=True, group="export", description="export a checkpoint")


def _run(shell: Shell, begun: Begun) -> None:
    worker = get_current_worker()
    try:
        found = begun.made(lambda: worker.is_cancelled)
    except (BitnetError, OSError) as error:
        found = begun.failed(str(error))
    if found is not None:
        shell.call_later(_ended, shell, begun.root, found)


def _stop(shell: Shell, root: Path) -> None:
    try:
        export_run.stop(root)
    except BitnetError as error:
        shell.call_later(shell.notify, str(error), severity="warning")
    shell.call_later(_look_again, shell, root)


def _look_again(shell: Shell, root: Path) -> list["ExportingScreen"]:
    """Have the screens of an experiment say how its export is doing. Returns those screens."""
    screens = [one for one in shell.screen_stack if isinstance(one, ExportingScreen) and one.root == root]
    for one in screens:
        if one.complete:
            one.look_at_export()
    return screens


def _ended(shell: Shell, root: Path, run: ExportRun) -> None:
    """Tell what came of an export, unless its tab is in sight and says so, and begin the one that waited for its end.

    When another one begins it is told in any case, as the tab is about that one then.
    """
    screens, waiting = _look_again(shell, root), shell.exports_waiting.get(root)
    if waiting:
        _begin(shell, waiting.pop(next(iter(waiting)))())
        for one in screens:
            one.draw_export()
    elif any(one.in_sight and one.shows_checkpoints for one in screens):
        return
    style, words = exports.notice(run)
    severity: Literal["information", "error"] = "error" if style == "bad" else "information"
    shell.notify_beside(words, title=f"Export of {root.name}", severity=severity)
