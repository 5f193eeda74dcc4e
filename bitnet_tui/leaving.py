"""Leaving the app: runs continue, and what ends with it is asked about first."""

from typing import TYPE_CHECKING

from bitnet_core.text import flat
from bitnet_tui.telling import Telling

if TYPE_CHECKING:
    from bitnet_tui.screens.confirm import ConfirmScreen


class Leaving(Telling):
    """The part of the app that ends it."""

    _question: "ConfirmScreen | None" = None

    async def action_quit(self) -> None:
        """Quit. While something is exported, ask before; who then quits once more means it."""
        going = [one for one in self.exports.values() if not one.ended]
        if not going or self.screen is self._question:
            self.exit()
            return
        from bitnet_tui.screens.confirm import ConfirmScreen

        what = " and ".join(f"step {one.step} of {flat(one.root.name)}" for one in going)
        why = "Quitting ends the export. What is half-written is removed; an export that is whole stays, unverified."
        self._question = ConfirmScreen(f"Quit while {what} is exported?", why, "Quit", "Stay")
        self.push_screen(self._question, lambda yes: self.exit() if yes else None)

    def on_unmount(self) -> None:
        """End what nobody would hear of: another export or scoring begins anew."""
        for scoring in self.scorings.values():
            scoring.cancel()
        for export in self.exports.values():
            export.interrupt()
