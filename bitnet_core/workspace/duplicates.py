"""A second experiment with the settings of another one and, if they are wanted, its traces and what was made of them.

A shard is never written again, only replaced, so that the file of both may be the same; so are the layers of a start
from a model, which a training takes if its settings would make the same ones. The journal of what the teacher has
answered grows, so it is copied; with it, collecting more asks only for what is missing.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError, explained
from bitnet_core.files import trees
from bitnet_core.files.trees import Measured
from bitnet_core.runs.catalog import STAGES, START_MADE
from bitnet_core.runs.copied import copied_of, has_traces
from bitnet_core.runs.experiment import Experiment, Workspace
from bitnet_core.runs.history import History
from bitnet_core.runs.launch import lock_path
from bitnet_core.runs.record import COPIED
from bitnet_core.secrets.known import resolve_and_remember
from bitnet_core.settings import dotenv
from bitnet_core.storage.left_out import is_left_out
from bitnet_core.traces import places
from bitnet_core.workspace.changes import refuse

_COLLECT, _TEACHER = "collect", "teacher"
_NEVER_WRITTEN_AGAIN = (".parquet", ".pt")
_OF_JOURNAL = (".sqlite-wal", ".sqlite-journal")
"""Files that a journal of a killed run needs."""


@dataclass(frozen=True)
class Duplicate:
    """`keys` are in the `.env` of the source and were not copied; `traces` is what was brought of them.

    `baseline`: the teacher's was brought as well, as the traces are of the same teacher. `start`: so was the student
    with which its training began, fitted to a model.
    """

    root: Path
    keys: tuple[str, ...]
    traces: Measured | None = None
    baseline: bool = False
    start: bool = False


def duplicate(source: Path, name: str, *, traces: bool = False) -> Duplicate:
    """Make an experiment beside `source`. All of it is there, or nothing.

    UsageError for a name that is malformed or taken, or if there are no traces to bring or some are being collected;
    BitnetError if they can't be read.
    """
    home = {"BITNET_HOME": str(source.parent)}
    with files.folder_watched(source):
        copied = copied_of(source, home)
        experiment = Experiment.from_settings(resolve_and_remember(home, root=source).settings)
        if traces and not has_traces(experiment):
            raise UsageError(f"{source.name} has no traces; leave out --traces, or collect them in it first.")
    made = Duplicate(source.with_name(name), copied.keys)

    def fill(folder: Path) -> None:
        nonlocal made
        target = Experiment.from_settings(resolve_and_remember(home, root=folder).settings)
        with _not_collecting(experiment), files.folder_watched(source), _copying():
            baseline = _bring_baseline(experiment, target)
            start = _bring_start(experiment, target)
            made = replace(made, traces=_bring(experiment, target), baseline=baseline, start=start)

    text = dotenv.new_text(name, copied.values)
    Workspace(source.parent).create(name, text, fill if traces else None)
    return made


@contextlib.contextmanager
def _copying() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        named = f": {error.filename}" if error.filename else ""
        raise BitnetError(
            f"The traces can't be copied{named} {explained(error, 'check its permissions, or leave the traces')}."
        ) from error


@contextlib.contextmanager
def _not_collecting(experiment: Experiment) -> Iterator[None]:
    lock = lock_path(experiment, _COLLECT)
    if not lock.is_file():
        yield
        return
    with files.locked(lock, on_wait=partial(refuse, experiment.root, _COLLECT)):
        yield


def _bring(source: Experiment, target: Experiment) -> Measured:
    """Bring the traces with their tokenizer, then what they are known by: the folder itself is the last to appear."""
    if target.data.exists():
        raise UsageError(f"{target.data} is there already, so no traces are copied into it; choose another place.")
    journal = next((one for one in places.journals(source.data) if one.is_file()), None)
    if journal is not None and not journal.is_relative_to(source.data.resolve()):
        _copy(journal.parent, places.journals(target.data)[0].parent)
    arriving = target.data.with_name(f".{target.data.name}.arriving")
    _copy(source.data.resolve(), arriving)
    arriving.rename(target.data)
    files.fsync_folder(target.data.parent)
    return trees.measure(target.data)


def _bring_baseline(source: Experiment, target: Experiment) -> bool:
    """Bring the teacher's baseline with the run that made it, unless it is missing there or outdated."""
    status = History.read(source).status(_TEACHER)
    if status.state != "done" or status.last is None:
        return False
    for at, pattern in STAGES[_TEACHER].outputs:
        getattr(target, at).mkdir(parents=True, exist_ok=True)
        for one in getattr(source, at).glob(pattern):
            _place(one, getattr(target, at) / one.name)
    run = target.logs / status.last.run.id
    _copy(status.last.run.path, run)
    (run / COPIED).touch()
    return True


def _bring_start(source: Experiment, target: Experiment) -> bool:
    """Bring the start that is made of the traces; a training that is making another one may be removing it."""
    there = [(at, one) for at, pattern in START_MADE for one in getattr(source, at).glob(pattern)]
    for at, one in there:
        getattr(target, at).mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            _place(one, getattr(target, at) / one.name)
    return target.holds(START_MADE)


def _copy(source: Path, target: Path) -> None:
    """Every file of a folder, but for locks and files that are not complete."""
    target.mkdir(parents=True)
    for one in sorted(source.iterdir()):
        if is_left_out(one.name) and not one.name.endswith(_OF_JOURNAL):
            continue
        if one.is_dir():
            _copy(one, target / one.name)
        elif one.is_file():
            _place(one, target / one.name)


def _place(source: Path, target: Path) -> None:
    if source.suffix in _NEVER_WRITTEN_AGAIN:
        with contextlib.suppress(OSError):  # another disk, or one without links
            os.link(source.resolve(), target)
            return
    with files.atomic_path(target) as written:
        shutil.copyfile(source, written)
