"""The command palette: the actions that have keys on the screen below it."""

from collections.abc import Awaitable, Callable, Iterator
from typing import cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from bitnet_tui.actions import Action, keys_text
from bitnet_tui.keymap import remapped
from bitnet_tui.shell import Shell


class ActionCommands(Provider):
    """Offers the actions that the screen accepts now."""

    async def discover(self) -> Hits:
        for action in self._possible():
            yield DiscoveryHit(action.label, self._run(action), help=f"{action.tooltip}  ({keys_text(action)})")

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._possible():
            text = f"{action.label}: {action.tooltip}"
            score = matcher.match(text)
            if score > 0:
                yield Hit(score, matcher.highlight(text), self._run(action), help=keys_text(action))

    def _possible(self) -> Iterator[Action]:
        bound = {active.binding.id for active in self.screen.active_bindings.values() if active.enabled}
        keys = cast("Shell", self.app).keymap.keys
        return (action for action in remapped(keys) if action.id in bound)

    def _run(self, action: Action) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            target = self.app if action.where == "app" else self.screen
            await target.run_action(action.name)

        return run
