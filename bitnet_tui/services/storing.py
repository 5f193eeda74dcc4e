"""Tries a storage target before an experiment is made, and logs in to one: `bitnet store check` and `login`."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from bitnet_core.errors import BitnetError
from bitnet_core.process import kill_group
from bitnet_core.secrets.known import remember
from bitnet_core.settings.kinds import as_written
from bitnet_core.settings.storage import leading
from bitnet_core.storage.catalog import KINDS
from bitnet_tui.services.commands import Command, find_keys, last_sentence, objects
from bitnet_tui.services.settings import resolved

_LONGEST_TOKEN = 1 << 16
_NOTHING = "${BITNET_NOTHING:-}"
"""The text that leaves a setting unset, whatever other sources say."""
Keep = Callable[[str, str], str]
"""Keeps a key, and returns a sentence that says where."""


class _OfTarget(Command):
    """A command about the target that `values` name. `typed` are keys that are not kept yet."""

    name: ClassVar[str]
    seconds: ClassVar[float]

    def __init__(
        self,
        home: Path,
        root: Path,
        backend: str,
        values: Mapping[str, str],
        typed: Mapping[str, str],
        keep: Keep,
    ) -> None:
        self._typed = dict(typed)
        self._kind = KINDS[backend]
        self._keep = keep
        self._root = root
        super().__init__(home, ["--root", str(root), "store", self.name], values, self.seconds, self._kind.title)

    def worded(self, sentence: str) -> str:
        """As it is: the form has its own words for it, as a key is typed into its field there."""
        return sentence

    @contextlib.contextmanager
    def started(
        self, keys: Mapping[str, str], more: Sequence[str] = (), pass_fds: Sequence[int] = ()
    ) -> "Iterator[subprocess.Popen[str]]":
        self.values = self._emptied() | self.values
        with super().started(keys, more, pass_fds) as child:
            yield child

    def _emptied(self) -> dict[str, str]:
        """The target's settings that the experiment's `.env` has and `values` lacks, as they are without that `.env`.

        The command reads that file, and an empty `--set` would change nothing; a reference to nothing unsets.
        """
        own, without = resolved(self.home, self._root).settings, resolved(self.home).settings
        return {
            name: as_written(without.values[name]) or _NOTHING
            for name in leading(self._kind.backend)
            if name not in self.values and own.values[name] != without.values[name]
        }


class Check(_OfTarget):
    """One test of the target.

    A service may replace the refresh token of a login, and end the older one; so such keys are kept by `keep` first.
    """

    name, seconds = "check", 120.0

    def creating(self) -> "Check":
        """The same test, which first creates what the target lacks."""
        self.arguments.append("--create")
        return self

    def keys(self) -> dict[str, str]:
        if self._kind.login:
            for name, value in self._typed.items():
                self._keep(name, value)
        return find_keys(self.home, self._kind.keys, self.values, self._typed)


class Login(_OfTarget):
    """A login at the target's service. `show` is told the page to open and a code to type there, from this thread."""

    name, seconds = "login", 660.0

    def __init__(
        self,
        home: Path,
        root: Path,
        backend: str,
        values: Mapping[str, str],
        typed: Mapping[str, str],
        keep: Keep,
        show: Callable[[str, str], object],
    ) -> None:
        super().__init__(home, root, backend, values, typed, keep)
        self._show = show
        self._got = ""

    def run(self) -> dict[str, Any]:
        """`kept`: the sentence of `keep`. BitnetError if the login was refused or took too long, or VaultLocked.

        Called again after VaultLocked, it keeps the token that it has.
        """
        self._got = self._got or self._token()
        return {"kept": self._keep(self._kind.login, self._got)}

    def _token(self) -> str:
        names = [name for name in self._kind.keys if name != self._kind.login]
        keys = find_keys(self.home, names, self.values, self._typed)
        complaints: list[str] = []
        read_end, write_end = os.pipe()
        with os.fdopen(read_end, encoding="ascii") as given, contextlib.ExitStack() as stack:
            try:
                child = stack.enter_context(self.started(keys, ["--hand-over", str(write_end)], (write_end,)))
            finally:
                os.close(write_end)
            timer = threading.Timer(self.seconds, kill_group, (child.pid,))
            stack.callback(timer.cancel)
            timer.start()
            for prompt in objects(child, complaints):
                if isinstance(prompt.get("url"), str):
                    self._show(prompt["url"], str(prompt.get("code") or ""))
            token = given.read(_LONGEST_TOKEN)
        remember([token])
        if not token:
            said = last_sentence("".join(complaints), self.worded)
            raise BitnetError(said or f"The login at {self._kind.title} ended early; try again.")
        return token
