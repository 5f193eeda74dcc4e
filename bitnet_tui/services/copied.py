"""Keeps what was copied in a file, for terminals that take no text into their clipboard."""

from pathlib import Path

from bitnet_core import files
from bitnet_core.files.user_folders import state_folder
from bitnet_core.files.writable import writing


def keep(text: str) -> Path:
    """The file with the text, readable by its owner alone. BitnetError says why it can't be written."""
    path = state_folder() / "copied.txt"
    with writing(path, "free space there"):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, text.encode(errors="replace"), 0o600)
    return path
