"""The settings of an experiment as they travel: without secrets, without places and programs of this machine.

What comes back was written by whoever can write to the target: it may name no file outside the experiment, no other
target, and nothing that is not a setting.
"""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from bitnet_core import files
from bitnet_core.errors import UsageError
from bitnet_core.runs.experiment import Experiment
from bitnet_core.secrets.known import redactor, resolve_and_remember
from bitnet_core.settings.dotenv import parse, quoted
from bitnet_core.settings.kinds import Setting
from bitnet_core.settings.references import names_in
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.spending import LIMITS
from bitnet_core.text import flat, is_utf8

SETTINGS_FILE = "settings.env"
INPUTS = "inputs/"
_OF_THE_MACHINE = {"Place", "Caches", "Keys", "Notifications"}
"""A notification is a program of this machine: whoever can write to the target must not choose it."""
_STORAGE = "Storage"
_PLACES = {"KD_DATA_PATH"}
_TRAVELS = {"STORAGE_SYNC", "STORAGE_CHECKPOINTS"}
_ONCE = "command line"
"""Where a setting comes from that was said for one command."""
_ABOUT_MONEY = {*LIMITS, "KD_PRICES_FILE"}
_MOST_BYTES = 1 << 20


def settings_text(experiment: Experiment) -> bytes:
    """The settings that differ from their defaults, as a `.env`; files that they name are in `inputs/`."""
    settings = _own(experiment)
    names = {path: name for name, path in input_files(experiment).items()}
    lines = ["# The settings of this experiment, stored with it by bitnet. Keys are not among them.\n"]
    mask = redactor()
    for name, value in settings.to_record().items():
        if not _travels(name, settings) or value is None:
            continue
        given = settings.values[name]
        if isinstance(given, Path):
            if given not in names:
                continue
            value = names[given]
        text = {True: "1", False: "0"}.get(value, str(value)) if isinstance(value, bool) else str(value)
        if is_utf8(text) and not names_in(text) and mask(text) == text:
            lines.append(f"{name}={quoted(text)}\n")
    return "".join(lines).encode()


def input_files(experiment: Experiment) -> dict[str, Path]:
    """The files that settings name, such as prompts, by their names on the target."""
    found: dict[str, Path] = {}
    settings = _own(experiment)
    for name in REGISTRY:
        value = settings.values.get(name) if name not in SECRET_NAMES else None
        if not isinstance(value, Path) or not _travels(name, settings) or not files.is_file(value):
            continue
        if value in found.values():
            continue
        stored = f"{INPUTS}{value.name}"
        if stored in found:
            stored = f"{INPUTS}{name.lower()}-{value.name}"
        found[stored] = value
    return found


def _own(experiment: Experiment) -> Settings:
    """The experiment's settings as a command without `--set` has them."""
    given = experiment.settings
    once = [name for name in given.values if given.origin(name) == _ONCE and _may_travel(REGISTRY[name])]
    if not once:
        return given
    beneath = Settings({})
    with contextlib.suppress(UsageError):  # a `.env` that can't be read
        beneath = resolve_and_remember(root=experiment.root).settings
    origins = {name: origin for name, origin in given.origins.items() if name not in once}
    origins |= {name: beneath.origins[name] for name in once if name in beneath.origins}
    return Settings({**given.values, **{name: beneath.values.get(name) for name in once}}, origins)


def _travels(name: str, settings: Settings) -> bool:
    """Whether a setting means the same on another machine, and is not the default."""
    return _may_travel(REGISTRY[name]) and settings.origin(name) != "default"


def _may_travel(setting: Setting) -> bool:
    """False for secrets, for places and devices of a machine, and for the target: each reaches it in its own way."""
    of_target = setting.section.startswith(_STORAGE) and setting.name not in _TRAVELS
    of_machine = setting.section in _OF_THE_MACHINE or setting.name in _PLACES
    return not (setting.secret or setting.exported or of_target or of_machine)


@dataclass
class Arrived:
    """Settings that came from a target: those to use as they were written, and a sentence for each to look at."""

    values: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def read_settings(data: bytes, stored: Collection[str]) -> Arrived:
    """The settings in a `settings.env`. `stored` are the names of the files that came with it."""
    arrived = Arrived()
    try:
        if len(data) > _MOST_BYTES:
            raise ValueError
        written = parse(data.decode(), Path(SETTINGS_FILE)).values
    except (ValueError, UsageError):
        arrived.remarks.append("The stored settings can't be read; write them into .env yourself.")
        return arrived
    for name, text in written.items():
        setting = REGISTRY.get(name)
        if setting is None:
            arrived.remarks.append(f"{flat(name)[:60]} is not a setting of this version and was left out.")
        elif not _may_travel(setting) or names_in(text):
            arrived.remarks.append(
                f"{name} was left out: it is about another machine, or would lead away from this experiment."
            )
        elif why := _fault(setting, text, stored):
            arrived.remarks.append(f"{name} was left out: {why}.")
        else:
            arrived.values[name] = text
            leads = setting.kind == "text" and ("://" in text or text.startswith(("/", "~", "./", "../")))
            if leads or name in _ABOUT_MONEY:
                shown = f"{name}={flat(text)[:200]}"
                arrived.remarks.append(f"{shown} came with the experiment; check that it is right here.")
    return arrived


def differences(data: bytes, stored: Collection[str], experiment: Experiment) -> list[str]:
    """The settings in a `settings.env` that are not those of this experiment."""
    there = read_settings(data, stored).values
    here = parse(settings_text(experiment).decode(), Path(SETTINGS_FILE)).values
    changed = [f"{name}={flat(text)[:100]}" for name, text in there.items() if here.get(name) != text]
    return changed + [f"{name} at its default" for name in here if name not in there]


def _fault(setting: Setting, text: str, stored: Collection[str]) -> str:
    """Why a setting that came from a target can't be used, as a clause; empty if it can."""
    if setting.kind == "path" and not (text.startswith(INPUTS) and text in stored):
        return "it names a file that was not stored with it"
    try:
        setting.parse(text, Path())
    except ValueError as error:
        return str(error)
    return ""
