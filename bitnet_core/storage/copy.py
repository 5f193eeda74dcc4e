"""The copy of one experiment: its place on the target that the settings name, and what this machine knows of it."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bitnet_core.errors import UsageError
from bitnet_core.runs.experiment import Experiment, is_name
from bitnet_core.settings.storage import GoogleDriveOptions, ICloudOptions, StorageOptions
from bitnet_core.storage.catalog import KINDS
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.opening import open_target
from bitnet_core.storage.patient import OnRetry, Patient
from bitnet_core.storage.state import State, exclusive, looked_at, opened
from bitnet_core.storage.target import Target
from bitnet_core.storage.under import Under


@dataclass(frozen=True)
class Copy:
    """`place` has the experiment's objects alone; `target` is the whole target."""

    place: Target
    target: Target
    state: State


@contextlib.contextmanager
def open_copy(
    experiment: Experiment,
    keys: Keys,
    *,
    on_retry: OnRetry = lambda _reason, _seconds: None,
    stop: threading.Event | None = None,
    look_only: bool = False,
) -> Iterator[Copy]:
    """The copy of an experiment, for this process alone until the context ends.

    With `look_only`, it is for anybody, and nothing is written here: what is learnt about the copy is forgotten.
    """
    name = copy_name(experiment)
    with open_target(experiment.settings, keys) as target:
        patient = Patient(target, on_retry=on_retry, stop=stop)
        place = Under(patient, f"{name}/")
        if look_only:
            with looked_at(experiment.root, place.place) as state:
                yield Copy(place, patient, state)
            return
        with exclusive(experiment.root), opened(experiment.root, place.place) as state:
            yield Copy(place, patient, state)


def copy_name(experiment: Experiment) -> str:
    """The experiment's name on the target. UsageError for one that may not be, or leads to itself."""
    name = StorageOptions.of(experiment.settings).name or experiment.name
    if not is_name(name):
        raise UsageError(
            f"{name!r} can't be an experiment's name on a target; set STORAGE_NAME to up to 64 letters, digits, "
            "dots, dashes or underscores."
        )
    _require_apart(experiment, name)
    return name


def _require_apart(experiment: Experiment, name: str) -> None:
    """UsageError if the copy's folder is, contains, or lies in a folder of the experiment: it would copy itself."""
    setting, folder = _folder_of(experiment)
    if folder is None:
        return
    copy, data = (folder / name).resolve(), experiment.data.resolve()
    # What is beside the data under its name and a dot is stored, too.
    beside = [
        one for one in (copy, *copy.parents) if one.parent == data.parent and one.name.startswith(f"{data.name}.")
    ]
    places = (experiment.root, experiment.checkpoints, data, experiment.reports, experiment.logs, *beside)
    for place in (one.resolve() for one in places):
        if _is_in(copy, place) or _is_in(place, copy):
            raise UsageError(
                f"The copy in {copy} and the experiment's folder {place} would lie in each other; "
                f"set {setting} to a folder outside the experiment, best on another disk."
            )


def _folder_of(experiment: Experiment) -> tuple[str, Path | None]:
    """The setting that names the target's folder, and the folder; None where the target is none."""
    options = KINDS[StorageOptions.of(experiment.settings).backend].options.of(experiment.settings)
    if isinstance(options, StorageOptions):
        return "STORAGE_LOCAL_DIR", options.local_folder
    if isinstance(options, ICloudOptions):
        return "ICLOUD_DRIVE_DIR", options.folder
    if isinstance(options, GoogleDriveOptions) and options.mounted:
        return "GDRIVE_PROJECT_ROOT", Path(options.mounted).expanduser()
    return "", None


def _is_in(inner: Path, outer: Path) -> bool:
    """Whether a folder is another one or lies in it, also where the two are spelt differently."""
    with contextlib.suppress(OSError):
        return any(
            one == outer or (one.exists() and outer.exists() and one.samefile(outer))
            for one in (inner, *inner.parents)
        )
    return inner.is_relative_to(outer)
