"""What the app keeps for the next time, in the user's state folder: small records that nothing depends on."""

import contextlib
from typing import Any

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.files.user_folders import state_folder


def read(name: str) -> Any:
    """The record of that name; None if there is none, or it can't be read."""
    with contextlib.suppress(BitnetError, OSError):
        return files.read_json(state_folder() / f"{name}.json")
    return None


def write(name: str, record: dict[str, Any]) -> None:
    """Keep the record. Where it can't be written it is not kept."""
    with contextlib.suppress(BitnetError, OSError):
        files.write_json(state_folder() / f"{name}.json", record)
