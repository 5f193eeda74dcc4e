"""Makes, renames, archives, deletes and fetches experiments, by `bitnet experiments …` and `bitnet open`.

Slow, so call it in a thread.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs.experiment import Workspace
from bitnet_core.storage.catalog import KINDS
from bitnet_tui.services.commands import Command, Followed, find_keys
from bitnet_tui.services.drafts import Kept

_CHANGE_SECONDS = 600.0


def change(home: Path, action: str, names: Sequence[str], *options: str) -> dict[str, Any]:
    """Do it, and return what the command answers. BitnetError says why it can't be done."""
    arguments = ["experiments", action, *options, *names]
    return Command(home, arguments, {}, _CHANGE_SECONDS, f"bitnet experiments {action}").run()


def names_in(home: Path) -> frozenset[str]:
    """The names that are taken in a workspace."""
    return frozenset(path.name for path in home.iterdir()) if home.is_dir() else frozenset()


def make(home: Path, name: str, text: str, source: Path | None = None) -> Path:
    """Make an experiment with this `.env`, and with the traces of `source` if it is given; its folder."""
    if source is None:
        return Workspace(home).create(name, text)
    change(home, "duplicate", (source.name, name), "--traces")
    files.write_text(home / name / ".env", text)
    return home / name


def rename(home: Path, root: Path, name: str) -> dict[str, Any]:
    """Rename an experiment; the draft of its duplicate follows."""
    done = change(home, "rename", (root.name, name))
    old, new = Kept(home, root).path, Kept(home, root.with_name(name)).path
    with contextlib.suppress(OSError, BitnetError):
        old.rename(new)
    return done


class Fetch(Followed):
    """Opens an experiment from a target, `BACKEND` or `BACKEND:NAME`, under a name of its own if one is given.

    `values` are settings of the target that are set nowhere else. `show` hears how far it has come, in this thread.
    """

    def __init__(
        self, home: Path, target: str, name: str, values: Mapping[str, str], show: Callable[[str], object]
    ) -> None:
        backend = target.partition(":")[0]
        if backend not in KINDS:
            raise UsageError(f"{backend!r} is not a kind of storage target; it is one of {', '.join(KINDS)}.")
        folder = [str(home / name)] if name else []
        super().__init__(home, ["open", target, *folder], values, 0.0, f"bitnet open {target}")
        self._kind = KINDS[backend]
        self._show = show

    def keys(self) -> dict[str, str]:
        return find_keys(self.home, self._kind.keys, self.values | {"STORAGE_BACKEND": self._kind.backend}, {})

    def run(self) -> dict[str, Any]:
        """Its answer; `root` is the new experiment. BitnetError if it failed or was cancelled, or VaultLocked."""
        answers, complaint, code = self.followed(self._show)
        last = answers[-1] if answers else {}
        if "root" not in last:
            raise BitnetError(
                complaint
                or f"It ended early (exit code {code}); what has arrived is kept, so open it again to go on."
            )
        return last
