"""An experiment on another machine: which ones a target holds, and opening one in a new folder from there alone."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bitnet_core import files
from bitnet_core.errors import UsageError, explained
from bitnet_core.files.regular import read_bounded
from bitnet_core.runs.experiment import Experiment, is_name
from bitnet_core.secrets import addresses
from bitnet_core.settings import dotenv
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.storage import SECTIONS, StorageOptions, target_mark
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.identity import experiment_id
from bitnet_core.storage.manifest import Published
from bitnet_core.storage.newest import Newest, NothingThere, newest_state
from bitnet_core.storage.pull import Incomplete, OnBytes, Pull, Pulled
from bitnet_core.storage.state import FOLDER, exclusive, opened
from bitnet_core.storage.target import Target
from bitnet_core.storage.travel import SETTINGS_FILE, Arrived, read_settings
from bitnet_core.storage.under import Under
from bitnet_core.teachers.profiles import PROVIDERS

_OF_ALL_TARGETS = {"STORAGE_BACKEND", "STORAGE_NAME", "STORAGE_SYNC", "STORAGE_CHECKPOINTS"}
_MARK = "opening"
"""A file in `.storage` while an experiment is being opened: the id of the experiment."""


def names_on(target: Target) -> list[str]:
    """The names of the experiments that a target holds."""
    found = set()
    for one in target.list(""):
        name, _, rest = one.key.partition("/")
        if is_name(name) and manifests.counter_of(rest) is not None:
            found.add(name)
    return sorted(found)


def only_name(target: Target) -> str:
    """The name of the only experiment on a target. UsageError names all of them if there are several."""
    found = names_on(target)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"{target.place} holds no experiment; `bitnet store push` stores one.")
    raise UsageError(
        f"{target.place} holds {len(found)} experiments; name one of them, as {target.name}:NAME: {_listed(found)}."
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


@dataclass
class Opened:
    """What opening an experiment did."""

    root: Path
    pulled: Pulled
    files: int
    remarks: list[str] = field(default_factory=list)
    is_newest: bool = True


class Opening:
    """Opens the experiment `name` of a target in the folder of `experiment`, which has no settings of its own yet."""

    def __init__(
        self,
        experiment: Experiment,
        target: Target,
        name: str,
        *,
        on_bytes: OnBytes = lambda _name, _done, _size: None,
        stop: threading.Event | None = None,
    ) -> None:
        self._experiment = experiment
        self._root = experiment.root
        self._name = name
        self._target = target
        self._place = Under(target, f"{name}/")
        self._on_bytes = on_bytes
        self._stop = stop

    def run(self, on_start: Callable[[int, int], object] = lambda _files, _bytes: None) -> Opened:
        """Bring everything, then write `.env`; `on_start` is told the size. UsageError for a folder in use.

        Incomplete names files that the target has lost; the same call brings them once they are there again.
        """
        require_free(self._root)
        try:
            newest = newest_state(self._place)
        except NothingThere:
            raise self._unknown_name() from None
        published = newest.published
        with self._marked(published):
            mark = target_mark(self._experiment.settings, self._name)
            with opened(self._root, self._place.place, mark) as state:
                # What an earlier attempt put there may be replaced; what was changed since is somebody's work.
                pull = Pull(
                    self._experiment, self._place, state, published,
                    lacking=newest.lacking, on_bytes=self._on_bytes, stop=self._stop,
                )  # fmt: skip
                wanted = published.manifest.files
                on_start(len(wanted), sum(one.size for one in wanted))
                try:
                    pulled = pull.run(wanted)
                except Incomplete as error:
                    error.remarks = self._remarks(newest)
                    raise
            remarks = self._remarks(newest)
        return Opened(self._root, pulled, len(wanted), remarks, is_newest=not newest.warning)

    def _unknown_name(self) -> UsageError:
        names = names_on(self._target)
        there = f"it holds {_listed(names)}" if names else "it holds none; `bitnet store push` stores one"
        return UsageError(f"{self._target.place} has no experiment {self._name}; {there}.")

    @contextlib.contextmanager
    def _marked(self, published: Published) -> Iterator[None]:
        """Hold the folder, marked as one where an experiment is being opened, until that is done."""
        mark, wanted = self._root / FOLDER / _MARK, published.manifest.experiment
        try:
            mark.parent.mkdir(parents=True, exist_ok=True)
            begun = read_bounded(mark, 64).decode(errors="replace").strip() if mark.exists() else ""
            if begun and begun != wanted:
                raise UsageError(f"Another experiment is being opened in {self._root}; give a folder of its own.")
            files.write_text(mark, f"{wanted}\n")
        except OSError as error:
            raise UsageError(f"{self._root} can't be written {explained(error, 'choose another folder')}.") from error
        with exclusive(self._root):
            yield
            mark.unlink(missing_ok=True)

    def _remarks(self, newest: Newest) -> list[str]:
        """Write the settings; returns what must be told, however the rest went, and each time."""
        return [*filter(None, [newest.warning]), *self._write_settings(newest.published)]

    def _write_settings(self, published: Published) -> list[str]:
        """Write `.env` unless there is one; returns sentences about settings to look at or not taken over."""
        path = self._root / ".env"
        by_name = published.manifest.by_name()
        arrived = Arrived()
        if SETTINGS_FILE in by_name:
            with contextlib.suppress(OSError):
                data = read_bounded(self._root / FOLDER / SETTINGS_FILE, 1 << 20)
                arrived = read_settings(data, by_name)
        if os.path.lexists(path):  # an earlier attempt wrote it, and may not have told
            return arrived.remarks
        usual = {name: one.base_url for name, one in PROVIDERS.items() if one.base_url}
        addresses.note_arrived(arrived.values, f"{self._name} from {self._target.place}", usual)
        lines = [f"# Settings of {self._name}, opened from {self._target.name}; `bitnet config` lists the names.\n"]
        lines += [f"{name}={dotenv.quoted(text)}\n" for name, text in arrived.values.items()]
        lines.append("\n# Where its copy is.\n")
        lines += [
            f"{name}={dotenv.quoted(text)}\n" for name, text in _of_target(self._experiment.settings, self._name)
        ]
        dotenv.write(path, "".join(lines), private=True)
        return arrived.remarks


def require_free(folder: Path) -> None:
    """UsageError unless the folder is new, empty, or one where opening an experiment was interrupted."""
    try:
        found = {one.name for one in folder.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{folder} can't be read {explained(error, 'choose another folder')}.") from error
    if (folder / FOLDER / _MARK).is_file() or (found <= {FOLDER} and not experiment_id(folder)):
        return
    raise UsageError(
        f"{folder} is not empty; give a new folder, or bring what is new into an experiment with `bitnet store pull`."
    )


def _of_target(settings: Settings, name: str) -> Iterator[tuple[str, str]]:
    """The settings with which this machine reaches the target, without secrets."""
    backend = StorageOptions.of(settings).backend
    yield "STORAGE_BACKEND", backend
    yield "STORAGE_NAME", name
    for one in REGISTRY.values():
        value = settings.values.get(one.name) if not one.secret else None
        of_target = one.section in SECTIONS[backend] and one.name not in _OF_ALL_TARGETS
        if of_target and value is not None and settings.origin(one.name) != "default":
            yield one.name, str(int(value) if isinstance(value, bool) else value)
