"""Renames, archives and deletes experiments. What runs there, or is being copied, is never touched."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError, explained
from bitnet_core.files import trees
from bitnet_core.runs.catalog import PIPELINE, STAGES, UPLOAD
from bitnet_core.runs.experiment import ARCHIVED, Experiment, is_archived, is_experiment, is_name
from bitnet_core.runs.export_run import EXPORT
from bitnet_core.runs.history import History
from bitnet_core.runs.launch import launch_lock, lock_path
from bitnet_core.runs.record import ACTIVE
from bitnet_core.secrets.known import resolve_and_remember
from bitnet_core.settings import dotenv
from bitnet_core.settings.storage import StorageOptions
from bitnet_core.storage.state import FOLDER, exclusive
from bitnet_core.storage.status import CopyStatus, copy_status
from bitnet_core.workspace.mentions import mentions, own_paths, with_moved_paths, with_relative_paths

_DELETING = ".deleting"
"""A folder of the workspace: what is in it was deleted, and is being removed."""


@dataclass(frozen=True)
class Holding:
    """What an experiment holds. `outside` are its folders elsewhere, which stay; `mentions` say who else reads it."""

    root: Path
    files: int
    bytes: int
    running: str
    copy: CopyStatus
    outside: tuple[Path, ...] = ()
    mentions: tuple[str, ...] = ()


@dataclass
class Renamed:
    """`remarks` are sentences about what still has the old name, or keeps it on purpose."""

    root: Path
    remarks: list[str] = field(default_factory=list)


def find(home: Path, name: str) -> Path:
    """The experiment of that name. UsageError if there is none, or if it is a link to a folder elsewhere."""
    root = home / name
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise UsageError(f"{name!r} is not the name of an experiment; give the name of a folder in {home}.")
    try:
        found = root.lstat()
    except FileNotFoundError:
        raise UsageError(f"{home} has no experiment {name!r}; see `bitnet experiments`.") from None
    except OSError as error:
        raise UsageError(f"{root} can't be read {explained(error, 'check its permissions')}.") from error
    if stat.S_ISLNK(found.st_mode):
        raise UsageError(f"{root} is a link; rename or remove it by hand, and its target where that is.")
    if not stat.S_ISDIR(found.st_mode) or not _is_experiment(root):
        raise UsageError(f"{root} is not an experiment; see `bitnet experiments`.")
    return root


def _is_experiment(root: Path) -> bool:
    try:
        return is_experiment(root)
    except OSError as error:
        raise UsageError(f"{root} can't be read {explained(error, 'check its permissions')}.") from error


def holding(root: Path) -> Holding:
    """What would go if it were deleted."""
    experiment = _opened(root)
    try:
        measured = trees.measure(root)
    except OSError as error:
        raise BitnetError(f"{root} can't be read {explained(error, 'check its permissions')}.") from error
    folders = (experiment.checkpoints, experiment.data, experiment.reports, experiment.logs)
    inside = root.resolve()
    outside = tuple(one for one in folders if one.is_dir() and not one.resolve().is_relative_to(inside))
    return Holding(
        root, measured.files, measured.bytes, _active(experiment), copy_status(root), outside, mentions(root)
    )


def rename(root: Path, name: str) -> Renamed:
    """Give an experiment another name. UsageError if that is not allowed or taken, or something runs in it.

    Its copy on a storage target keeps the name that it has there, and its own `.env` goes on naming the same files,
    by relative paths.
    """
    if not is_name(name) or name == ".env":
        raise UsageError(f"{name!r} is not a valid name; use up to 64 letters, digits, dots, dashes or underscores.")
    target = root.with_name(name)
    if name == root.name:
        raise UsageError(f"{root} has that name already; give another one.")
    done = Renamed(target)
    with _idle(root) as experiment, files.folder_held(root.parent):
        # The folder itself is there under the new name where case does not count.
        if os.path.lexists(target) and not os.path.samestat(target.lstat(), root.lstat()):
            raise UsageError(f"{target} exists already; choose another name.")
        others = mentions(root)
        _keep_name_of_copy(root, experiment, done.remarks)
        moved = own_paths(root)
        if moved:  # before the folder is renamed: a kill in between would leave paths that lead nowhere
            dotenv.change(root / ".env", lambda text: with_relative_paths(text, root))
        try:
            with _still(root, experiment):
                root.rename(target)
            files.fsync_folder(target.parent)
        except OSError as error:
            raise BitnetError(f"{root} can't be renamed {explained(error, 'check who may write there')}.") from error
        if moved:
            dotenv.change(target / ".env", lambda text: with_moved_paths(text, root, target))
            names = "names" if len(moved) == 1 else "name"
            done.remarks.append(f"{', '.join(moved)} in its .env {names} files in {target} now.")
    done.remarks += others
    return done


def _keep_name_of_copy(root: Path, experiment: Experiment, remarks: list[str]) -> None:
    """Write the name of the copy into the settings if it is that of the folder until now."""
    named = experiment.settings.values.get("STORAGE_NAME")
    if named or not (root / FOLDER).is_dir() or not is_name(root.name):
        return
    dotenv.change(root / ".env", lambda text: dotenv.with_value(text, "STORAGE_NAME", root.name))
    if _has_target(experiment):
        remarks.append(f"Its copy on the storage target stays {root.name} (STORAGE_NAME in its .env).")


def _has_target(experiment: Experiment) -> bool:
    with contextlib.suppress(UsageError):
        return StorageOptions.of(experiment.settings).has_target
    return False


def archive(root: Path, *, archived: bool = True) -> None:
    """Leave an experiment out of lists, or take it in again. Nothing in it changes, nor does its time.

    UsageError if something runs in one that is to be left out.
    """
    if is_archived(root) == archived:
        return
    if archived:
        refuse_what_runs(root)
    try:
        with files.folder_held(root):
            status = root.stat()
            if archived:
                files.write_text(
                    root / ARCHIVED, "Lists leave this experiment out; remove this file to see it again.\n"
                )
            else:
                (root / ARCHIVED).unlink(missing_ok=True)
            os.utime(root, ns=(status.st_atime_ns, status.st_mtime_ns))
    except OSError as error:
        raise BitnetError(f"{root} can't be changed {explained(error, 'check who may write there')}.") from error


def delete(root: Path) -> None:
    """Remove an experiment from the workspace and then from the disk. UsageError if something runs in it.

    A link in it is removed, never what it leads to.
    """
    away = root.parent / _DELETING
    with _idle(root) as experiment:
        try:
            with files.folder_held(root.parent), _still(root, experiment):
                away.mkdir(exist_ok=True)
                if not stat.S_ISDIR(away.lstat().st_mode):
                    raise UsageError(f"{away} is a link; remove it, so that nothing is moved out of the workspace.")
                gone = away / f"{root.name[:100]}-{secrets.token_hex(4)}"
                root.rename(gone)
            files.fsync_folder(root.parent)
        except OSError as error:
            raise BitnetError(f"{root} can't be deleted {explained(error, 'check who may write there')}.") from error
    failed = trees.remove(gone)
    finish_deletions(root.parent)
    if failed is not None:
        raise BitnetError(
            f"{root} is no longer an experiment, but a part of it can't be removed "
            f"{explained(failed, f'remove {gone} by hand')}."
        )


def finish_deletions(home: Path) -> list[str]:
    """Remove what deletions that were killed have left in a workspace. The names that the experiments had."""
    away, names = home / _DELETING, []
    with contextlib.suppress(OSError):
        if not away.is_symlink():
            for left in list(away.iterdir()):
                names.append(left.name.rpartition("-")[0])
                trees.remove(left)
            with files.folder_held(home):  # another deletion may be about to move something into it
                away.rmdir()
    return names


# -- nothing may be at work ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _idle(root: Path) -> Iterator[Experiment]:
    """Hold every lock of the experiment. UsageError if a stage runs in it or its copy is being made."""
    experiment = _opened(root)
    with contextlib.ExitStack() as stack:
        try:
            if experiment.logs.is_dir():
                stack.enter_context(launch_lock(experiment))
            for stage in (*STAGES, PIPELINE.name, UPLOAD.name, EXPORT):
                lock = lock_path(experiment, stage)
                if lock.is_file():
                    stack.enter_context(files.locked(lock, on_wait=partial(refuse, root, stage)))
        except OSError as error:
            if not os.path.lexists(root):
                raise files.FolderGone(root) from error
            raise BitnetError(f"{root} can't be locked {explained(error, 'check who may write there')}.") from error
        if running := _active(experiment):
            refuse(root, running)
        if (root / FOLDER).is_dir():
            stack.enter_context(exclusive(root))
        yield experiment


@contextlib.contextmanager
def _still(root: Path, experiment: Experiment) -> Iterator[None]:
    """Hold the folder to move it. UsageError if a stage began first: without logs nothing held it off."""
    with files.folder_held(root, moving=True):
        if running := _active(experiment):
            refuse(root, running)
        yield


def refuse_what_runs(root: Path) -> None:
    """UsageError if something runs in an experiment."""
    if running := _active(_opened(root)):
        refuse(root, running)


def refuse(root: Path, running: str) -> None:
    """UsageError: something runs in an experiment."""
    raise UsageError(f"{running} is running in {root}; stop it or wait until it ends.")


def _active(experiment: Experiment) -> str:
    """The id of a run that is active, an upload too; empty if there is none."""
    entries = History.read(experiment).entries
    return next((entry.run.id for entry in entries if entry.state in ACTIVE), "")


def _opened(root: Path) -> Experiment:
    """The experiment, also one whose settings are wrong; then with the usual folders."""
    with contextlib.suppress(UsageError):
        return Experiment.from_settings(resolve_and_remember(root=root).settings)
    from bitnet_core.settings.resolve import from_values

    return Experiment.from_settings(from_values({"DRIVE_ROOT": str(root.absolute())}))
