"""What of an experiment is stored: its files with their names on the target, in the order in which they matter.

Files with keys, locks and temporary files are left out (`left_out.py`), and so is whatever a link leads to that is
outside the experiment or is itself left out.
The settings travel as `settings.env`, without secrets.
"""

import glob
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bitnet_core.errors import explained
from bitnet_core.files import real_path
from bitnet_core.runs.catalog import UPLOAD
from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage.digest import sha256
from bitnet_core.storage.left_out import KeyFiles, is_left_out, is_ours, leads_to_keys, may_hold_keys
from bitnet_core.storage.names import fault, is_reserved
from bitnet_core.storage.steps import step_of
from bitnet_core.storage.travel import SETTINGS_FILE, input_files, settings_text
from bitnet_core.text import printable

_MAY_HOLD_KEYS = "{} is not stored: a file of this name may hold keys; give it another name."
_HOLDS_KEYS = "{} is not stored: a setting says that it holds keys; keep it outside the experiment."
_OWN_RUNS = f"{UPLOAD.name}-"
"""Uploads are about this machine, and each would change what the next one has to send."""
_DATABASE = ".sqlite"
_MOST_FILES = 200_000
ROLES = ("settings", "report", "checkpoint", "journal", "traces", "input", "run")
"""What files are for, in the order in which they are sent."""


@dataclass(frozen=True)
class LocalFile:
    """A file to store. `version` changes whenever its content may have."""

    name: str
    role: str
    path: Path
    size: int
    version: str
    content: bytes | None = field(default=None, repr=False)
    """Its bytes, if they are not in a file."""

    @property
    def grows(self) -> bool:
        """Whether it is appended to while a stage runs: what was there at the time of the snapshot is stored."""
        return self.role == "run"

    @property
    def is_database(self) -> bool:
        return self.role == "journal" and self.name.endswith(_DATABASE)


@dataclass(frozen=True)
class Snapshot:
    """The files, and a sentence for each that can't be stored."""

    files: list[LocalFile]
    left: list[str]


def version_of(status: os.stat_result) -> str:
    """What identifies the content of a file without reading it."""
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def take(experiment: Experiment) -> Snapshot:
    """Look at every file of the experiment, reading none."""
    found: dict[str, LocalFile] = {}
    left: list[str] = []
    for file in _everything(experiment, left):
        if why := fault(file.name) or ("its name ends like bitnet's own folders" if is_reserved(file.name) else ""):
            left.append(f"{printable(file.name)} is not stored: {why}; rename it.")
        elif len(found) == _MOST_FILES:
            left.append(f"{experiment.root} has more than {_MOST_FILES} files; the others are not stored.")
            break
        elif file.name in found:
            left.append(
                f"{printable(file.name)} is not stored: one that looks the same is stored; rename one of them."
            )
        else:
            found[file.name] = file
    return Snapshot(sorted(found.values(), key=_rank), left)


def _rank(file: LocalFile) -> tuple[int, int, str]:
    return ROLES.index(file.role), -(step_of(file.name) or 0), file.name


def _everything(experiment: Experiment, left: list[str]) -> Iterator[LocalFile]:
    text = settings_text(experiment)
    yield LocalFile(SETTINGS_FILE, "settings", Path(), len(text), sha256(text), text)
    keys = KeyFiles(experiment.settings)
    for name, path in input_files(experiment).items():
        if leads_to_keys(path):
            left.append(_MAY_HOLD_KEYS.format(path))
        else:
            yield from _file(_composed(name), "input", path, left, keys)
    for name, role, folder in _folders(experiment):
        yield from _below(folder, f"{name}/", role, left, real_path(folder), keys)


def _folders(experiment: Experiment) -> Iterator[tuple[str, str, Path]]:
    yield "reports", "report", experiment.reports
    yield "checkpoints", "checkpoint", experiment.checkpoints
    data = real_path(experiment.data)
    if data.name:
        for beside in sorted(data.parent.glob(f"{glob.escape(data.name)}.*")):
            if beside.is_dir() and not beside.is_symlink() and not is_left_out(beside.name):
                what = beside.name.removeprefix(data.name)
                yield f"data{what}", "journal" if what == ".journal" else "traces", beside
    yield "data", "traces", data
    yield "logs", "run", experiment.logs


def _below(folder: Path, prefix: str, role: str, left: list[str], top: Path, keys: KeyFiles) -> Iterator[LocalFile]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        left.append(f"{folder} is not stored {explained(error, 'check its permissions')}.")
        return
    for entry in found:
        name, path = f"{prefix}{_composed(entry.name)}", Path(entry.path)
        if is_left_out(entry.name) or may_hold_keys(name):
            if not is_ours(entry.name):
                left.append(_MAY_HOLD_KEYS.format(printable(name)))
            continue
        if role == "run" and entry.name.startswith(_OWN_RUNS):
            continue
        if entry.is_dir(follow_symlinks=False):
            inner = "journal" if role == "traces" and entry.name == ".journal" else role
            yield from _below(path, f"{name}/", inner, left, top, keys)
        elif entry.is_symlink() and (why := _bad_link(path, top)):
            left.append(f"{printable(name)} is not stored: {why}.")
        else:
            yield from _file(name, role, path, left, keys)


def _bad_link(path: Path, top: Path) -> str:
    """Why what a link leads to is not stored, as a clause; empty if it is."""
    try:
        target = path.resolve(strict=True)
        if not target.is_relative_to(top):
            return f"it is a link that leads out of {top}; copy what is there"
        if target.is_dir():
            return "it is a link to a folder; copy the folder"
    except (OSError, RuntimeError):  # the latter is a circle
        return "it is a link to nothing that can be read; correct it, or remove it"
    inside = target.relative_to(top).as_posix()
    hidden = not target.is_file() or is_left_out(inside) or may_hold_keys(inside)
    return f"it is a link to {printable(target.name)}, which is never stored; remove it" if hidden else ""


def _file(name: str, role: str, path: Path, left: list[str], keys: KeyFiles) -> Iterator[LocalFile]:
    try:
        status = path.stat()
        log = path.with_name(f"{path.name}-wal")
        version = version_of(status) + (version_of(log.stat()) if name.endswith(_DATABASE) and log.exists() else "")
    except FileNotFoundError:  # it was removed meanwhile
        return
    except OSError as error:
        left.append(f"{path} is not stored {explained(error, 'check its permissions')}.")
        return
    if keys.has(status):
        left.append(_HOLDS_KEYS.format(printable(name)))
    elif stat.S_ISREG(status.st_mode):
        yield LocalFile(name, role, path, status.st_size, version)


def _composed(name: str) -> str:
    """The name in NFC: some file systems give it decomposed."""
    return unicodedata.normalize("NFC", name)
