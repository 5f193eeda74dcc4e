"""Exporting a checkpoint from its tab: what for, how far it is, and how to use what was exported.

An export goes on when its screen is closed; the next screen of the experiment says what came of it.
"""

from functools import partial
from pathlib import Path
from typing import Literal

from bitnet_core.errors import BitnetError
from bitnet_core.runs.exports import Exported
from bitnet_core.text import flat
from bitnet_tui.screens.base import ShellScreen
from bitnet_tui.services.exporting import FORMATS, Export
from bitnet_tui.shell import Shell
from bitnet_tui.view import exports
from bitnet_tui.view.checkpoints import Saved
from bitnet_tui.widgets.checkpoints_pane import CheckpointsPane
from bitnet_tui.works import Work

_IF_ENDED = "An export that is stopped removes what is half-written; a finished one stays, but is not verified."


class ExportingScreen(ShellScreen[None]):
    """The page with what to type opens where one asks for it: one may be typing something else when it ends."""

    root: Path
    _told_of_export: tuple[str, str] | None = None

    @property
    def shows_checkpoints(self) -> bool:
        """Whether the tab of the checkpoints is open, and complete."""
        raise NotImplementedError

    def ask_format(self, row: Saved) -> None:
        """Ask for what to export it; what is there already comes first, and is shown with how to use it."""
        from bitnet_tui.screens.picking import PickScreen

        here = {one.kind: one for one in reversed(row.exported)}
        forms = sorted(FORMATS, key=lambda form: form not in here)

        def answered(place: int | None) -> None:
            if place is None:
                return
            form = forms[place]
            if form in here:
                self._show_page(here[form])
            else:
                self._begin_export(row, form)

        compared = self.query_one(CheckpointsPane).compared(row)
        names = [
            exports.choice(form, FORMATS[form], here.get(form), compared=here.get(form) in compared) for form in forms
        ]
        self.app.push_screen(PickScreen(exports.question(row.step, row.exported), names), answered)

    def _show_page(self, exported: Exported) -> None:
        from bitnet_tui.screens.exported import ExportedScreen

        def answered(again: bool | None) -> None:
            row = self.query_one(CheckpointsPane).view.row(str(exported.step))
            if again and row is not None:
                self._begin_export(row, exported.kind, again=True)

        self.app.push_screen(ExportedScreen(exported), answered)

    def _begin_export(self, row: Saved, form: str, *, again: bool = False) -> None:
        shell, before = self.shell, self.shell.exports.get(self.root)
        if before is not None and not before.ended:
            shell.notify(f"The export of step {before.step} is still running.", severity="warning")
            return
        shell.exports[self.root] = export = Export(
            shell.home, self.root, form, row.step, row.path, before=row.exported, again=again
        )
        self._told_of_export = None
        self.draw_export()
        shell.run_worker(partial(_run, shell, export), thread=True, group="export", description="export a checkpoint")

    def draw_export(self) -> None:
        """Say how the export is doing; what came of it has been seen once its tab is in sight."""
        export = self.shell.exports.get(self.root)
        if export is None or (pane := self.query_one_optional(CheckpointsPane)) is None:
            return
        pane.export = export
        written = bool(pane.compared(pane.view.row(str(export.step))))
        said = (
            exports.ended(*export.said)
            if export.ended
            else exports.running(export.step, export.form, export.seconds, written=written)
        )
        if said != self._told_of_export:
            self._told_of_export = said
            pane.say(*said)
        if export.ended and self.is_active and self.shows_checkpoints:
            del self.shell.exports[self.root]

    def export_ended(self) -> None:
        if (pane := self.query_one_optional(CheckpointsPane)) is not None:
            pane.look()
        self.draw_export()


def _run(shell: Shell, export: Export) -> None:
    what = f"step {export.step} of {flat(export.root.name)} is being exported"
    try:
        with shell.at_work(Work(what, _IF_ENDED, export.interrupt, export.root)):
            path, how = export.exported()
        style = "good" if how == "verified" else "warn"
        words = f"Exported step {export.step}, {how}: {flat(path.name)}"
    except (BitnetError, OSError) as error:
        style, words = "bad", str(error)
    shell.call_later(_ended, shell, export, (style, words))


def _ended(shell: Shell, export: Export, said: tuple[str, str]) -> None:
    """What came of it is told where the tab can't be seen."""
    export.ended, export.said = True, said
    screens = [one for one in shell.screen_stack if isinstance(one, ExportingScreen) and one.root == export.root]
    seen = any(one.in_sight and one.shows_checkpoints for one in screens)
    for one in screens:
        if one.complete:
            one.export_ended()
    if not seen:
        severity: Literal["information", "error"] = "error" if said[0] == "bad" else "information"
        shell.notify_beside(said[1], title=f"Export of {export.root.name}", severity=severity)
