"""Experiments are folders; the workspace holds them side by side. Paths and names only: runs are in `history.py`."""

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError, explained
from bitnet_core.files.half_written import scratch_beside
from bitnet_core.files.inputs import has_to_be_waited_for, is_present
from bitnet_core.secrets.known import resolve_and_remember
from bitnet_core.settings import dotenv
from bitnet_core.settings.places import PlaceOptions
from bitnet_core.settings.resolved import Problem, Resolution, Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MARKS = ("checkpoints", "data", "reports", "logs", "data.journal", "data.projected")
"""Folders that an experiment has. A pull that was killed has brought one of them, and perhaps no other."""
ARCHIVED = ".archived"
"""A file in the folder of an experiment that lists leave out."""


class Experiment(NamedTuple):
    """The folders of one experiment. Nothing is created before `ensure`."""

    root: Path
    checkpoints: Path
    data: Path
    reports: Path
    logs: Path
    settings: Settings

    @classmethod
    def from_settings(cls, settings: Settings) -> "Experiment":
        places = PlaceOptions.of(settings)
        return cls(places.root, places.checkpoints, places.data, places.reports, places.logs, settings)

    @classmethod
    def open(cls, root: Path | str) -> "Experiment":
        """The experiment in a folder, with its settings. UsageError names every setting that is not allowed."""
        return cls.from_settings(resolve_and_remember(root=Path(root)).checked())

    @property
    def name(self) -> str:
        return self.root.name

    def holds(self, outputs: Iterable[tuple[str, str]]) -> bool:
        """Whether a file of each kind is there, given as the name of a folder and a glob pattern in it."""
        return all(any(getattr(self, at).glob(pattern)) for at, pattern in outputs)

    def ensure(self) -> None:
        """Create the missing folders. BitnetError when they can't or may not (AUTO_CREATE_DIRS) be created."""
        self.refuse_foreign_folder()
        for folder in (self.root, self.checkpoints, self.data, self.reports, self.logs):
            if folder.is_dir():
                continue
            if not PlaceOptions.of(self.settings).create:
                raise BitnetError(f"{folder} does not exist; create it, or set AUTO_CREATE_DIRS=1.")
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BitnetError(f"{folder} can't be created {explained(error, 'choose another place')}.") from error

    def refuse_foreign_folder(self) -> None:
        """UsageError for a folder that holds other files: a mistyped path must not turn it into an experiment.

        A folder named `.env` would take the place of a settings file, and its experiment could not be opened.
        """
        if self.root.name == ".env":
            raise UsageError(f"{self.root} is the name of a settings file; give --root {self.root.parent}.")
        try:
            exists, is_folder = self.root.exists(), self.root.is_dir()
            foreign = is_folder and not is_experiment(self.root) and any(self.root.iterdir())
        except OSError as error:
            raise UsageError(f"{self.root} can't be read {explained(error, 'check its permissions')}.") from error
        if exists and not is_folder:
            raise UsageError(f"{self.root} is a file, but an experiment is a folder; give --root another path.")
        if foreign:
            raise UsageError(
                f"{self.root} is not empty and is not an experiment; "
                "give --root the folder of an experiment or a new path."
            )


def settings_beside(root: Path, overrides: Mapping[str, str] | None = None) -> Resolution:
    """The settings of one experiment among others: a pipe in the place of its `.env` is not waited for.

    It counts as empty, with an error that says so.
    """
    env = root / ".env"
    if not has_to_be_waited_for(env):
        return resolve_and_remember(overrides, root=root)
    found = resolve_and_remember(overrides, root=root, instead={env.absolute(): ""})
    problem = Problem("error", f"{env} is a pipe; it is read when its own experiment is opened, and not for a list.")
    return replace(found, problems=(*found.problems, problem))


class Changes(dict[str, float]):
    """When files and folders were last changed (`last_change`): each is looked at once."""

    def __missing__(self, path: str) -> float:
        self[path] = found = last_change(path)
        return found


def is_experiment(folder: Path, changes: Changes | None = None) -> bool:
    """Whether the folder has an experiment's `.env` or one of its folders. OSError if it may not be entered."""
    env = f"{folder}/.env"
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        status = os.lstat(env)
        if stat.S_ISREG(status.st_mode):
            if changes is not None:
                changes[env] = status.st_mtime
            return True
    return is_present(folder / ".env") or any((folder / mark).is_dir() for mark in _MARKS)


def is_archived(folder: Path) -> bool:
    """Whether lists leave the experiment out."""
    return os.path.lexists(folder / ARCHIVED)


def is_name(text: str) -> bool:
    """Whether an experiment may have this name."""
    return _NAME.fullmatch(text) is not None


class Workspace(NamedTuple):
    """`BITNET_HOME`: the folder with the experiments."""

    home: Path

    def experiments(self) -> list[Path]:
        """The experiments' folders, the most recently changed first."""
        return self.look()[0]

    def look(self, changes: Changes | None = None) -> tuple[list[Path], dict[Path, str]]:
        """The experiments' folders, the most recently changed first, and why other folders can't be read.

        Hidden folders that can't be read are left out, and the workspace itself may be among the others. `changes`
        is told what was looked at on the way.
        """
        changes = Changes() if changes is None else changes
        found: list[Path] = []
        unreadable: dict[Path, str] = {}
        for folder in self._folders(unreadable):
            try:
                if is_experiment(folder, changes):
                    found.append(folder)
            except OSError as error:
                if not folder.name.startswith("."):
                    unreadable[folder] = unreadable_words(folder, error)
        found.sort(key=lambda folder: max(changes[str(folder)], changes[f"{folder}/logs"]), reverse=True)
        return found, unreadable

    def _folders(self, unreadable: dict[Path, str]) -> list[Path]:
        try:
            with os.scandir(self.home) as found:
                return [Path(path) for path in sorted(one.path for one in found if one.is_dir(follow_symlinks=False))]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            unreadable[self.home] = unreadable_words(self.home, error)
            return []

    def create(self, name: str, env_text: str = "", fill: Callable[[Path], object] | None = None) -> Path:
        """Make an experiment with `env_text` as its `.env`, and with what `fill` puts into the folder given to it.

        All of it is there, or nothing, even after a kill. UsageError for a name that is malformed or taken.
        """
        if not is_name(name):
            raise UsageError(
                f"{name!r} is not a valid name; use up to 64 letters, digits, dots, dashes or underscores."
            )
        root = self.home / name
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            _require_free(root)  # before long work
            with scratch_beside(root) as scratch:
                made = scratch / name
                made.mkdir()
                files.write_text(made / ".env", env_text or dotenv.new_text(name, {}))
                if fill is not None:
                    fill(made)
                with files.folder_held(self.home):  # an empty folder would be replaced by one that is renamed
                    _require_free(root)
                    made.rename(root)
            files.fsync_folder(self.home)
        except OSError as error:
            raise BitnetError(f"{root} can't be created {explained(error, 'choose another workspace')}.") from error
        return root

    def demo(self, name: str = "demo") -> tuple[Path, bool]:
        """The demo's folder, and whether it has just been created. BitnetError if it can't be."""
        root = self.home / name
        try:
            if (root / ".env").exists():
                return root, False
            return self.create(name, files.asset("demo.env").read_text(encoding="utf-8")), True
        except OSError as error:
            raise BitnetError(unreadable_words(root, error)) from error
        except UsageError:
            if (root / ".env").exists():  # another command or app has just made it
                return root, False
            raise


def _require_free(root: Path) -> None:
    if os.path.lexists(root):
        raise UsageError(f"{root} already exists; choose another name or open that experiment.")


def last_change(path: Path | str) -> float:
    """When a file or folder was last changed, in Unix seconds; 0 if there is none or it can't be seen."""
    try:
        return os.stat(path).st_mtime  # noqa: PTH116 - making a Path takes longer than looking
    except OSError:
        return 0.0


def unreadable_words(folder: Path, error: Exception) -> str:
    """What to say of an experiment, or of a folder that may be one, that can't be read."""
    place, reason = folder, str(error) or type(error).__name__
    if isinstance(error, OSError):
        place, reason = Path(error.filename or folder), error.strerror or reason
    return f"{place} can't be read ({reason}); correct its permissions, or move it away."
