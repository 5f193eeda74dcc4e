"""Leaving the app: runs continue, and what ends with it is asked about first."""

from typing import TYPE_CHECKING

from bitnet_core.text import listed
from bitnet_tui.telling import Telling

if TYPE_CHECKING:
    from bitnet_tui.screens.confirm import ConfirmScreen


class Leaving(Telling):
    """The part of the app that ends it."""

    _question: "ConfirmScreen | None" = None

    async def action_quit(self) -> None:
        """Quit. While something works that would end as well, ask before; who then quits once more means it."""
        going = list(self.works)
        if not going or self.screen is self._question:
            self.exit()
            return
        from bitnet_tui.screens.confirm import ConfirmScreen

        title = f"Quit while {listed([one.what for one in going])}?"
        why = " ".join(dict.fromkeys(one.if_ended for one in going))
        self._question = ConfirmScreen(title, why, "Quit")
        self.push_screen(self._question, lambda yes: self.exit() if yes else None)

    def on_unmount(self) -> None:
        """End what could not report any more."""
        for one in list(self.works):
            one.end()
