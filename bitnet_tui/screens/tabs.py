"""What keys and buttons do in the tabs of an experiment: they act on the tab that is open."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bitnet_tui.screens.base import ShellScreen
from bitnet_tui.services import config
from bitnet_tui.widgets.config_pane import ConfigPane
from bitnet_tui.widgets.traces_pane import TracesPane

if TYPE_CHECKING:
    from bitnet_tui.widgets.run_pane import RunPane


class TabbedScreen(ShellScreen[None]):
    """An action that is named after a tab works while that tab is open."""

    root: Path

    @property
    def pane(self) -> "RunPane":
        from bitnet_tui.widgets.run_pane import RunPane

        return self.query_one("#run", RunPane)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "config":
            open_now = bool(self.query("#run")) and self.pane.open == action
            return open_now and (parameters != ("leave",) or self._config.holds_keys)
        if action == "traces":
            open_now = bool(self.query("#run")) and self.pane.open == action
            return open_now and (parameters != ("leave",) or self.query_one(TracesPane).leaves)
        return super().check_action(action, parameters)

    def action_traces(self, what: str) -> None:
        self.query_one(TracesPane).act(what)

    @property
    def _config(self) -> ConfigPane:
        return self.query_one(ConfigPane)

    def action_config(self, what: str) -> None:
        if what == "against":
            self.run_worker(partial(self._find_others, self.shell.home), thread=True, group="others")
        else:
            self._config.act(what)

    def _find_others(self, home: Path) -> None:
        self.app.call_from_thread(self._ask_against, config.others(home, self.root))

    def _ask_against(self, others: list[Path]) -> None:
        from bitnet_tui.screens.picking import PickScreen

        names = ["the defaults", *(one.name for one in others)]

        def answered(place: int | None) -> None:
            if place is not None and self.on_stack:
                self._config.compare_with(cast("list[Path | None]", [None, *others])[place])

        if self.on_stack:
            self.app.push_screen(PickScreen("Compare the settings with", names), answered)
