"""The settings of an experiment as they travel: without secrets, without the places of this machine."""

from pathlib import Path

from bitnet_core import files
from bitnet_core.runs.experiment import Experiment
from bitnet_core.settings.dotenv import quoted
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.text import is_utf8

SETTINGS_FILE = "settings.env"
INPUTS = "inputs/"
_OF_THE_MACHINE = {"Place", "Caches", "Keys"}
_PLACES = {"STORAGE_LOCAL_DIR", "ICLOUD_DRIVE_DIR", "RCLONE_CONFIG", "GDRIVE_PROJECT_ROOT", "KD_DATA_PATH"}


def settings_text(experiment: Experiment) -> bytes:
    """The settings that differ from their defaults, as a `.env`; files that they name are in `inputs/`."""
    names = {path: name for name, path in input_files(experiment).items()}
    lines = ["# The settings of this experiment, stored with it by bitnet. Keys are not among them.\n"]
    for name, value in experiment.settings.to_record().items():
        if not _travels(name, experiment) or value is None:
            continue
        given = experiment.settings.values[name]
        if isinstance(given, Path):
            if given not in names:
                continue
            value = names[given]
        text = {True: "1", False: "0"}.get(value, str(value)) if isinstance(value, bool) else str(value)
        if is_utf8(text) and "${" not in text:
            lines.append(f"{name}={quoted(text)}\n")
    return "".join(lines).encode()


def input_files(experiment: Experiment) -> dict[str, Path]:
    """The files that settings name, such as prompts, by their names on the target."""
    found: dict[str, Path] = {}
    for name in REGISTRY:
        value = experiment.settings.values.get(name) if name not in SECRET_NAMES else None
        if not isinstance(value, Path) or not _travels(name, experiment) or not files.is_file(value):
            continue
        if value in found.values():
            continue
        stored = f"{INPUTS}{value.name}"
        if stored in found:
            stored = f"{INPUTS}{name.lower()}-{value.name}"
        found[stored] = value
    return found


def _travels(name: str, experiment: Experiment) -> bool:
    """Whether a setting means the same on another machine, and is not the default."""
    setting = REGISTRY[name]
    of_machine = setting.section in _OF_THE_MACHINE or name in _PLACES
    return not of_machine and not setting.secret and experiment.settings.origin(name) != "default"
