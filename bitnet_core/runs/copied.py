"""What a new experiment takes over of another one's settings, so that they mean the same in its folder."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.runs.catalog import STAGES
from bitnet_core.runs.experiment import Experiment
from bitnet_core.secrets.known import resolve_and_remember
from bitnet_core.settings import dotenv
from bitnet_core.settings.kinds import as_path
from bitnet_core.settings.references import names_in
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES

_NOT_COPIED = ("Place", "Keys")
"""Sections whose settings are one experiment's own, or this user's."""


@dataclass(frozen=True)
class Copied:
    """Settings for another one, the keys in the `.env`, which are not copied, and where its traces are, if any.

    Where there are traces, the start that was made of them is in the folder `checkpoints`.
    """

    values: dict[str, str]
    keys: tuple[str, ...] = ()
    traces: Path | None = None
    checkpoints: Path | None = None


def copied_of(root: Path, overrides: Mapping[str, str]) -> Copied:
    """What the `.env` of an experiment says, without its places and its name on a target. UsageError if unreadable.

    References are replaced by what they stand for, and relative paths by absolute ones: both would mean something
    else in another folder.
    """
    path = root / ".env"
    written = dotenv.read_dotenv(path).values if files.is_file(path) else {}
    settings = resolve_and_remember(overrides, root=root).settings
    values = {
        name: _text(name, text, settings.values.get(name), root)
        for name, text in written.items()
        if name in REGISTRY and name not in SECRET_NAMES and REGISTRY[name].section not in _NOT_COPIED
    }
    values.pop("STORAGE_NAME", None)
    keys = tuple(sorted(name for name in written if name in SECRET_NAMES))
    kept = {name: text for name, text in values.items() if text}
    experiment = Experiment.from_settings(settings)
    traces = None
    with contextlib.suppress(BitnetError):  # settings can be copied from where traces can't be read
        traces = experiment.data if has_traces(experiment) else None
    return Copied(kept, keys, traces, experiment.checkpoints)


def has_traces(experiment: Experiment) -> bool:
    """Whether traces have been collected in it. BitnetError if its data can't be read."""
    return all(files.matching(getattr(experiment, at), pattern) for at, pattern in STAGES["collect"].outputs)


def _text(name: str, text: str, value: object, root: Path) -> str:
    if names_in(text):
        text = "" if value is None else str(int(value)) if isinstance(value, bool) else str(value)
    if text and REGISTRY[name].kind == "path":
        with contextlib.suppress(ValueError):
            return str(as_path(text, root))
    return text
