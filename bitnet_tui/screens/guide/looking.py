"""What a screen looks up, in threads and by commands: one of each group at a time, and the latest one counts."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from bitnet_core.errors import BitnetError
from bitnet_tui.screens.keyed import KeyedScreen
from bitnet_tui.services.commands import Command

_Result = TypeVar("_Result")


class LookupScreen(KeyedScreen[_Result], Generic[_Result]):
    """A screen that shows what it looks up, as soon as that is known."""

    _looks: dict[str, object]
    _commands: dict[str, Command]

    def look(
        self,
        group: str,
        work: Callable[[], Any],
        then: Callable[[Any], object],
        otherwise: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Call `work` in a thread, and `then` with its result.

        Not if another look of the group has begun meanwhile, or it was dropped.
        """
        self._looks[group] = token = object()
        shell = self.shell

        def run() -> None:
            result, problem = None, ""
            try:
                result = work()
            except (BitnetError, OSError) as error:
                problem = str(error)
            shell.call_later(self._looked, group, token, then, otherwise, result, problem)

        self.app.run_worker(run, thread=True, group=f"guide-{group}", description=f"look up: {group}")

    def _looked(
        self,
        group: str,
        token: object,
        then: Callable[[Any], object],
        otherwise: Callable[[str], object],
        result: Any,
        problem: str,
    ) -> None:
        if self._looks.get(group) is not token or not self.on_stack:
            return
        del self._looks[group]
        self._commands.pop(group, None)
        if problem:
            otherwise(problem)
        else:
            then(result)

    def ask(
        self,
        group: str,
        command: Command,
        then: Callable[[Any], object],
        otherwise: Callable[[str], object] = lambda _: None,
    ) -> None:
        """As `look`, for a command: the one before it in its group is ended."""
        self.drop(group)
        self._commands[group] = command
        self.look(group, command.run, then, otherwise)

    def drop(self, group: str) -> None:
        """End what the group asks; its result is ignored."""
        self._looks.pop(group, None)
        command = self._commands.pop(group, None)
        if command is not None:
            command.cancel()
