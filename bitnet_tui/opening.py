"""Opening what the app shows over the table of experiments. A screen is imported when it is first opened."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from bitnet_tui.loading import leaves_first, load
from bitnet_tui.shell import Shell

if TYPE_CHECKING:
    from bitnet_core.secrets.places import VaultLocked
    from bitnet_tui.screens.guide.base import Made


class Opening(Shell):
    """The part of the app that opens screens."""

    def _open(self, then: Callable[[], None], *modules: str) -> None:
        """Open a screen as soon as these modules are there, which takes a while before the app had a rest.

        Other keys wait for it, as in the queue of the app. Nothing is opened if something else was meanwhile.
        """
        if all(name in sys.modules for name in modules):
            then()
            return
        shown = self.screen

        async def load_and_open() -> None:
            await load(leaves_first(modules))
            if self.screen_stack and self.screen is shown:
                then()

        self.call_later(load_and_open)

    def open_experiment(self, root: Path, first: str | None = None, at: str | None = None) -> None:
        show = partial(self.show_experiment, root, first, at)
        self._open(show, "bitnet_tui.screens.experiment", "bitnet_tui.widgets.run_pane")

    def show_experiment(self, root: Path, first: str | None = None, at: str | None = None) -> None:
        """As `open_experiment`, at once."""
        from bitnet_tui.screens.experiment import ExperimentScreen

        self.last_opened = root
        screen = ExperimentScreen(root.absolute(), first, at)
        if self.screen.has_class("welcome"):
            self.switch_screen(screen)
        else:
            self.push_screen(screen)

    def go_home(self) -> None:
        while len(self.screen_stack) > 1:
            self.pop_screen()

    def go_to(self, root: Path) -> None:
        self.go_home()
        self.open_experiment(root)

    def compare(self, roots: Sequence[Path], runs: Sequence[str] = ()) -> None:
        from bitnet_tui.screens.compare import CompareScreen
        from bitnet_tui.view.compared import Chosen

        pairs = zip_longest(roots, runs[: len(roots)], fillvalue="")
        self.push_screen(CompareScreen([Chosen(Path(root).absolute(), run) for root, run in pairs]))

    def open_playground(self, root: Path) -> None:
        self._open(partial(self._show_playground, root), "bitnet_tui.screens.playground")

    def _show_playground(self, root: Path) -> None:
        from bitnet_tui.screens.playground import PlaygroundScreen

        self.push_screen(PlaygroundScreen(root.absolute()))

    def new_experiment(self, source: Path | None = None) -> None:
        self._open(partial(self._show_guide, source), "bitnet_tui.screens.guide.screen")

    def _show_guide(self, source: Path | None) -> None:
        from bitnet_tui.screens.guide.screen import NewExperimentScreen

        def made(found: "Made | None") -> None:
            if found is not None:
                self.open_experiment(found.root, found.start or None)

        self.push_screen(NewExperimentScreen(source), made)

    def unlock_vault(self, locked: "VaultLocked", why: str, answered: Callable[[bool | None], None]) -> None:
        from bitnet_tui.screens.vault import VaultScreen

        self.push_screen(VaultScreen(locked.path, why, new=not locked.is_there), answered)

    def open_dialog(self, name: str) -> None:
        self._open(partial(self._show_dialog, name), f"bitnet_tui.screens.{name}")

    def _show_dialog(self, name: str) -> None:
        if name == "themes":
            from bitnet_tui.screens.themes import ThemesScreen

            self.push_screen(ThemesScreen(self.theme))
        elif name == "keymap":
            from bitnet_tui.screens.keymap import KeymapScreen

            self.push_screen(KeymapScreen(self.keymap))
        else:
            from bitnet_tui.screens.keys import KeysScreen

            self.push_screen(KeysScreen(getattr(self.screen, "root", None)))
