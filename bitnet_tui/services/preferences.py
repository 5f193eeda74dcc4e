"""What the app keeps for this user until next time: the theme. A small file in the user's configuration folder."""

import os
from pathlib import Path
from typing import Any

from bitnet_core import files
from bitnet_core.errors import BitnetError, explained
from bitnet_core.files.user_folders import config_folder


def place() -> Path:
    """The file. NoHome if this user has no folder for it."""
    return config_folder() / "app.json"


def kept_theme(*, few_colours: bool = False) -> str:
    """The name of the theme that was chosen last; empty if there is none, or none that can be read.

    A terminal with 16 colours has a choice of its own.
    """
    name = _kept().get(_name(few_colours=few_colours), "")
    return name if isinstance(name, str) else ""


def theme_origin(*, few_colours: bool = False) -> str:
    """Where the theme comes from at the next start."""
    if os.environ.get("TEXTUAL_THEME"):
        return "environment"
    return place().name if kept_theme(few_colours=few_colours) else "default"


def keep_theme(name: str, *, few_colours: bool = False) -> None:
    """BitnetError says why it can't be kept."""
    path = place()
    try:
        files.write_json(path, _kept() | {_name(few_colours=few_colours): name})
    except OSError as error:
        why = explained(error, "correct its permissions")
        raise BitnetError(f"The theme is not kept for next time: {path} can't be written {why}.") from error


def _name(*, few_colours: bool) -> str:
    return "theme_16" if few_colours else "theme"


def _kept() -> dict[str, Any]:
    try:
        kept = files.read_json(place())
    except BitnetError:
        return {}
    return kept if isinstance(kept, dict) else {}
