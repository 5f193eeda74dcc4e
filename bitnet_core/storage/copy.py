"""The copy of one experiment: its place on the target that the settings name, and what this machine knows of it."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from bitnet_core.errors import UsageError
from bitnet_core.runs.experiment import Experiment, is_name
from bitnet_core.settings.storage import StorageOptions, target_mark
from bitnet_core.storage.apart import require_apart, require_no_experiment
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
            require_no_experiment(place)
            with looked_at(experiment.root, place.place) as state:
                yield Copy(place, patient, state)
            return
        mark = target_mark(experiment.settings, name)
        with exclusive(experiment.root), opened(experiment.root, place.place, mark) as state:
            require_no_experiment(place)  # now, as a folder of this experiment shows what is in use
            yield Copy(place, patient, state)


def copy_name(experiment: Experiment) -> str:
    """The experiment's name on the target. UsageError for one that may not be, or leads to itself."""
    name = StorageOptions.of(experiment.settings).name or experiment.name
    if not is_name(name):
        raise UsageError(
            f"{name!r} can't be an experiment's name on a target; set STORAGE_NAME to up to 64 letters, digits, "
            "dots, dashes or underscores."
        )
    require_apart(experiment, name)
    return name
