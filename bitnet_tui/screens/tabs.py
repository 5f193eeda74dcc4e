"""What keys and buttons do in the tabs of an experiment: they act on the tab that is open."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from bitnet_core.errors import BitnetError
from bitnet_tui.labels import label
from bitnet_tui.screens.exporting import ExportingScreen
from bitnet_tui.services import config
from bitnet_tui.services.launching import Foreseen, foresee
from bitnet_tui.shell import Shell
from bitnet_tui.view import checkpoints, starting
from bitnet_tui.view.checkpoints import Saved
from bitnet_tui.view.places import Agreed
from bitnet_tui.widgets.checkpoints_pane import CheckpointsPane
from bitnet_tui.widgets.config_pane import ConfigPane
from bitnet_tui.widgets.log_pane import LogPane
from bitnet_tui.widgets.traces_pane import TracesPane

if TYPE_CHECKING:
    from bitnet_tui.widgets.run_pane import RunPane

TABS: tuple[Literal["traces", "checkpoints", "config", "log"], ...] = ("traces", "checkpoints", "config", "log")
"""Those that have keys of their own."""
_TAB_OF = {"checkpoint": "checkpoints", "traces": "traces", "config": "config", "log": "log"}
_TRAIN, _FLIP = "train", "FLIP_FRACTION"


class TabbedScreen(ExportingScreen):
    """An action of a tab works while that tab is open."""

    root: Path
    _checking = False

    @property
    def pane(self) -> "RunPane":
        from bitnet_tui.widgets.run_pane import RunPane

        return self.query_one("#run", RunPane)

    @property
    def shows_checkpoints(self) -> bool:
        return self.complete and self.pane.open == "checkpoints"

    @property
    def turning(self) -> bool:
        """Whether another tab was chosen, and is not open yet."""
        return self.complete and self.pane.turning

    def on_run_pane_opened(self) -> None:
        self.draw_export()

    @property
    def training(self) -> bool:
        """Whether the student is being trained now."""
        raise NotImplementedError

    def start_stage(self, name: str, values: Mapping[str, str] | None = None, *, agreed: bool = False) -> None:
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in _TAB_OF:
            open_now = self.complete and self.pane.open == _TAB_OF[action]
            return open_now and (parameters != ("leave",) or self._in_a_field)
        return super().check_action(action, parameters)

    async def action_collect(self) -> None:
        """Collect, whatever stage is selected, and show how that goes."""
        self.start_stage("collect")
        await self.pane.choose("live")

    def action_traces(self, what: str) -> None:
        if what != "check":
            self.query_one(TracesPane).act(what)
        elif not self._checking:
            self._checking = True
            self.notify("Checking every row of the traces…")
            work = partial(self._check, self.shell)
            self.app.run_worker(work, thread=True, group="check", description="check the traces")

    def _check(self, shell: Shell) -> None:
        from bitnet_tui.services.tracing import checked

        try:
            wrong = checked(shell.home, self.root)
        except BitnetError as error:
            wrong = str(error)
        shell.call_later(self._checked, wrong)

    def _checked(self, wrong: str) -> None:
        self._checking = False
        severity: Literal["information", "error"] = "error" if wrong else "information"
        self.app.notify(wrong or "No row breaks a rule.", title="Traces", severity=severity)

    @property
    def _in_a_field(self) -> bool:
        """Whether Escape leaves a field of the open tab."""
        if self.pane.open == "traces":
            return self.query_one(TracesPane).leaves
        return self._config.holds_keys if self.pane.open == "config" else self.query_one(LogPane).holds_keys

    # -- log -------------------------------------------------------------------------------------------------------

    def action_log(self, what: str) -> None:
        pane = self.query_one(LogPane)
        if what != "copy":
            pane.act(what)
        elif pane.text:
            self.shell.copy_text(pane.text)

    # -- config ----------------------------------------------------------------------------------------------------

    @property
    def _config(self) -> ConfigPane:
        return self.query_one(ConfigPane)

    async def action_setting(self, name: str) -> None:
        """Open the tab at a setting."""
        await self.pane.choose("config")
        self._config.go_to(name)

    def action_config(self, what: str) -> None:
        if what == "against":
            self.run_worker(partial(self._find_others, self.shell), thread=True, group="others")
        else:
            self._config.act(what)

    def _find_others(self, shell: Shell) -> None:
        shell.call_later(self._ask_against, config.others(shell.home, self.root))

    def _ask_against(self, others: list[Path]) -> None:
        from bitnet_tui.screens.picking import PickScreen

        names = ["the defaults", *(one.name for one in others)]

        def answered(place: int | None) -> None:
            if place is not None and self.on_stack:
                self._config.compare_with(cast("list[Path | None]", [None, *others])[place])

        if self.on_stack:
            self.app.push_screen(PickScreen("Compare the settings with", names), answered)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def action_checkpoint(self, what: str) -> None:
        """`resume`, `flip` or `export` the highlighted checkpoint."""
        pane = self.query_one(CheckpointsPane)
        row = pane.chosen
        problem = checkpoints.refusal(pane.view, row, what, training=self.training)
        if problem or row is None:
            pane.say("warn", problem)
        elif what == "export":
            self.ask_format(row)
        else:
            work = partial(self._foresee, self.shell, row, row.fraction if what == "flip" else "")
            self.run_worker(work, thread=True, exclusive=True, group="foresee", description="look ahead")

    def _foresee(self, shell: Shell, row: Saved, fraction: str) -> None:
        values = {"RESUME_STEP": str(row.step)} | ({_FLIP: fraction} if fraction else {})
        try:
            found = foresee(shell.home, self.root, _TRAIN, values)
            shell.call_later(self._ask_to_train, row, fraction, found, starting.refusal(found, shell.key))
        except BitnetError as error:
            shell.call_later(self._say_there, "warn", str(error))

    def _ask_to_train(self, row: Saved, fraction: str, found: Foreseen, problem: str) -> None:
        from bitnet_tui.screens.confirm import ConfirmScreen

        if problem or not self.is_active:
            self._say_there("warn", problem)
            return
        question = (
            checkpoints.flip_question(row, fraction, found.training)
            if fraction
            else checkpoints.resume_question(row, found.training)
        )
        if found.stale:
            question = (question[0], f"{starting.stale_words(found.stale)} {question[1]}", *question[2:])

        def answered(yes: bool | None) -> None:
            if yes:
                self.shell.place(self.root, Agreed).stale = found.stale
            if yes and fraction:
                work = partial(self._set_flip, self.shell, row.step, fraction)
                self.run_worker(work, thread=True, group="flip", description="set the flip")
            elif yes:
                self._train_from(row.step)

        self.app.push_screen(ConfirmScreen(*question), answered)

    def _set_flip(self, shell: Shell, step: int, fraction: str) -> None:
        problem = ""
        try:
            found = config.save(shell.home, self.root, _FLIP, fraction)
            if found.hidden_by:
                problem = f"“{label(_FLIP)}” is also set by the {found.hidden_by}, which takes precedence."
        except (BitnetError, OSError) as error:
            problem = str(error)
        shell.call_later(self._flip_set, step, problem)

    def _flip_set(self, step: int, problem: str) -> None:
        if problem:
            self._say_there("bad", problem)
        elif self.on_stack:
            self._train_from(step)

    def _train_from(self, step: int) -> None:
        self._say_there("value", f"Training {'continues' if step else 'begins again'} from step {step}.")
        self.start_stage(_TRAIN, {"RESUME_STEP": str(step)}, agreed=True)  # the question has been answered

    def _say_there(self, style: str, words: str) -> None:
        if self.on_stack:
            self.query_one(CheckpointsPane).say(style, words)
