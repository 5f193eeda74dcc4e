"""What the app keeps for this user until next time: the theme, the last target. A small file."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitnet_core import files
from bitnet_core.errors import BitnetError, explained
from bitnet_core.files.user_folders import config_folder
from bitnet_core.settings.registry import REGISTRY

_TARGET = "target"


def place() -> Path:
    """The file. NoHome if this user has no folder for it."""
    return config_folder() / "app.json"


@dataclass(frozen=True)
class Preferences:
    """What the file held when it was read, which may be anything."""

    _kept: Mapping[str, Any]

    def theme(self, *, few_colours: bool = False) -> str:
        """The name of the theme that was chosen last; empty if there is none.

        A terminal with 16 colours has a choice of its own.
        """
        name = self._kept.get(_name(few_colours=few_colours), "")
        return name if isinstance(name, str) else ""

    @property
    def target(self) -> dict[str, str]:
        """The settings of the target from which an experiment was opened last; empty if there is none."""
        found = self._kept.get(_TARGET)
        return {
            name: text
            for name, text in (found.items() if isinstance(found, dict) else ())
            if name in REGISTRY and not REGISTRY[name].secret and isinstance(text, str)
        }


def read() -> Preferences:
    """None are kept where there is no file, or none that can be read."""
    return Preferences(_kept())


def theme_origin(*, few_colours: bool = False) -> str:
    """Where the theme comes from at the next start."""
    if os.environ.get("TEXTUAL_THEME"):
        return "environment"
    return place().name if read().theme(few_colours=few_colours) else "default"


def keep_theme(name: str, *, few_colours: bool = False) -> None:
    """BitnetError says why it can't be kept."""
    _keep("The theme", _name(few_colours=few_colours), name)


def keep_target(values: Mapping[str, str]) -> None:
    """BitnetError says why they can't be kept."""
    _keep("The target", _TARGET, dict(values))


def _keep(what: str, name: str, value: object) -> None:
    path = place()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(path.with_name(f".{path.name}.lock"), mode=0o600):
            files.write_json(path, _kept() | {name: value})
    except OSError as error:
        why = explained(error, "correct its permissions")
        raise BitnetError(f"{what} is not kept for next time: {path} can't be written {why}.") from error


def _name(*, few_colours: bool) -> str:
    return "theme_16" if few_colours else "theme"


def _kept() -> dict[str, Any]:
    try:
        kept = files.read_json(place())
    except BitnetError:
        return {}
    return kept if isinstance(kept, dict) else {}
