"""One experiment is a folder; the workspace holds experiments side by side. Light: paths and names only."""

import re
from dataclasses import dataclass
from pathlib import Path

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.files import asset
from bitnet_core.secrets.resolving import resolve
from bitnet_core.settings.resolved import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MARKS = ("checkpoints", "data", "reports", "logs")


@dataclass(frozen=True)
class Experiment:
    """The folders of one experiment. Nothing is created before `ensure`."""

    root: Path
    checkpoints: Path
    data: Path
    reports: Path
    logs: Path
    settings: Settings

    @classmethod
    def from_settings(cls, settings: Settings) -> "Experiment":
        return cls(
            root=settings.path("DRIVE_ROOT"),
            checkpoints=settings.path("CHECKPOINTS_DIR"),
            data=settings.path("DATA_DIR"),
            reports=settings.path("REPORTS_DIR"),
            logs=settings.path("LOGS_DIR"),
            settings=settings,
        )

    @classmethod
    def open(cls, root: Path | str) -> "Experiment":
        """The experiment in a folder, with its settings. UsageError names every setting that is not allowed."""
        return cls.from_settings(resolve(root=Path(root)).checked())

    @property
    def name(self) -> str:
        return self.root.name

    def ensure(self) -> None:
        """Create what is missing, or say in a sentence why that can't be."""
        self.refuse_foreign_folder()
        for folder in (self.root, self.checkpoints, self.data, self.reports, self.logs):
            if folder.is_dir():
                continue
            if not self.settings.bool("AUTO_CREATE_DIRS"):
                raise BitnetError(f"{folder} does not exist; create it, or set AUTO_CREATE_DIRS=1.")
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BitnetError(f"{folder} can't be created ({error.strerror}); give another place.") from error

    def refuse_foreign_folder(self) -> None:
        """A folder that holds other things is not turned into an experiment by a slip of the path."""
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"{self.root} is a file; an experiment is a folder, so give --root another path.")
        if self.root.is_dir() and not is_experiment(self.root) and any(self.root.iterdir()):
            raise UsageError(
                f"{self.root} is no experiment and is not empty; give --root an experiment's folder or a new path."
            )


def is_experiment(folder: Path) -> bool:
    """An experiment is known by its `.env` or by one of its folders."""
    return (folder / ".env").is_file() or any((folder / mark).is_dir() for mark in _MARKS)


def is_name(text: str) -> bool:
    """Whether an experiment may be called so."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True)
class Workspace:
    """`BITNET_HOME`: the folder with the experiments."""

    home: Path

    def experiments(self) -> list[Path]:
        """Folders of the experiments, the one touched last first."""
        if not self.home.is_dir():
            return []
        found = [f for f in self.home.iterdir() if f.is_dir() and not f.is_symlink() and is_experiment(f)]
        return sorted(found, key=_last_touched, reverse=True)

    def create(self, name: str, env_text: str = "") -> Path:
        """Make an experiment of that name with `env_text` as its `.env`; refuse a name that is taken."""
        if not is_name(name):
            raise UsageError(f"{name!r} can't be a name; use up to 64 letters, digits, dots, dashes or underscores.")
        root = self.home / name
        if root.exists():
            raise UsageError(f"{root} exists already; choose another name or open that one.")
        try:
            root.mkdir(parents=True)
            files.write_text(root / ".env", env_text or f"# Settings of {name}; `bitnet config` lists the names.\n")
        except OSError as error:
            raise BitnetError(f"{root} can't be created ({error.strerror}); give another workspace.") from error
        return root


def _last_touched(folder: Path) -> float:
    logs = folder / "logs"
    return max(p.stat().st_mtime for p in (folder, logs) if p.exists())


def demo_env_text() -> str:
    """Settings of the demo: the whole pipeline on the embedded teacher in minutes, on two cores."""
    return asset("demo.env").read_text(encoding="utf-8")
