"""The copy lies apart from every experiment: else it would copy itself, and `gc` would remove somebody's work.

A folder that the settings name is compared with the experiment's. What a target shows tells about the others, such as
an rclone remote that is a folder of this machine.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from bitnet_core.errors import UsageError
from bitnet_core.files import real_path
from bitnet_core.runs.experiment import Experiment
from bitnet_core.settings.storage import StorageOptions
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.catalog import KINDS
from bitnet_core.storage.state import FOLDER
from bitnet_core.storage.target import Found, Target
from bitnet_core.text import printable


def require_no_experiment(place: Target) -> None:
    """UsageError if the place is the folder of an experiment in use, or a new one is not empty but holds one."""
    looked = [*place.list(f"{FOLDER}/")]
    if not looked and next(iter(place.list(manifests.FOLDER)), None) is None:
        looked = [*place.list("")]
    require_none_of_an_experiment(place, looked)


def require_none_of_an_experiment(place: Target, found: Iterable[Found]) -> None:
    """UsageError if something that is listed is never stored: the place is a folder that is in use itself."""
    for one in found:
        folders = one.key.split("/")
        if FOLDER in folders[:-1] or folders[-1] == ".env":
            raise UsageError(
                f"{place.place} can't hold a copy: {printable(one.key)[:200]} there belongs to an experiment "
                "itself; choose another place in the target's settings, or another STORAGE_NAME."
            )


def require_not_in_itself(place: Target, key: str, names: Iterable[str]) -> None:
    """UsageError if the manifest that is the newest at the place is a file of the experiment: its copy is in it."""
    for name in names:
        if name.endswith(f"/{key}"):
            raise UsageError(
                f"The copy at {place.place} lies in the experiment's own {name.partition('/')[0]}/; choose a place "
                f"outside it in the target's settings, and remove {printable(name.removesuffix(f'/{key}'))[:200]}."
            )


def require_apart(experiment: Experiment, name: str) -> None:
    """UsageError if the copy's folder is, contains, or lies in a folder of the experiment: it would copy itself."""
    setting, folder = _folder_of(experiment)
    if folder is None:
        return
    copy, data = real_path(folder / name), real_path(experiment.data)
    # What is beside the data under its name and a dot is stored, too.
    beside = [
        one for one in (copy, *copy.parents) if one.parent == data.parent and one.name.startswith(f"{data.name}.")
    ]
    places = (experiment.root, experiment.checkpoints, data, experiment.reports, experiment.logs, *beside)
    for place in map(real_path, places):
        if _is_in(copy, place) or _is_in(place, copy):
            raise UsageError(
                f"The copy in {copy} and the experiment's folder {place} would lie in each other; "
                f"set {setting} to a folder outside the experiment, best on another disk."
            )


def _folder_of(experiment: Experiment) -> tuple[str, Path | None]:
    """The setting that names the target's folder, and the folder; None where the target is none."""
    setting = KINDS[StorageOptions.of(experiment.settings).backend].folder
    given = experiment.settings.values.get(setting)
    return setting, Path(str(given)).expanduser() if given else None


def _is_in(inner: Path, outer: Path) -> bool:
    """Whether a folder is another one or lies in it, also where the two are spelt differently."""
    with contextlib.suppress(OSError):
        return any(
            one == outer or (one.exists() and outer.exists() and one.samefile(outer))
            for one in (inner, *inner.parents)
        )
    return inner.is_relative_to(outer)
