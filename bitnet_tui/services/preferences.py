"""What the app keeps for this user until next time: the theme. A small file in the user's configuration folder."""

from pathlib import Path

from bitnet_core import files
from bitnet_core.errors import BitnetError, explained
from bitnet_core.files.user_folders import config_folder


def place() -> Path:
    """The file. NoHome if this user has no folder for it."""
    return config_folder() / "app.json"


def kept_theme() -> str:
    """The name of the theme that was chosen last; empty if there is none, or none that can be read."""
    try:
        kept = files.read_json(place())
    except BitnetError:
        return ""
    name = kept.get("theme") if isinstance(kept, dict) else ""
    return name if isinstance(name, str) else ""


def keep_theme(name: str) -> None:
    """BitnetError says why it can't be kept."""
    path = place()
    try:
        files.write_json(path, {"theme": name})
    except OSError as error:
        why = explained(error, "correct its permissions")
        raise BitnetError(f"The theme is not kept for next time: {path} can't be written {why}.") from error
