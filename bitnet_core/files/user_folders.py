"""The folders of this user: home, configuration, state and cache. Some accounts and containers have none."""

import os
from pathlib import Path

from bitnet_core.errors import BitnetError

_PROGRAM = "bitnet-tui"


class NoHome(BitnetError):
    """This user has no home folder: neither HOME nor the system's list of users names one that is absolute."""


def expanded(text: str | Path) -> Path:
    """The path with `~` or `~name` replaced. NoHome when there is no such folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise NoHome(
            f"{text} begins with a home folder that is unknown here; set HOME or write the path out."
        ) from None


def config_folder() -> Path:
    """Where the user's configuration is. NoHome says which variables give it a place."""
    return _own("user_config_path", "BITNET_VAULT, XDG_CONFIG_HOME or HOME", "the vault")


def state_folder() -> Path:
    """Where logs and locks of this user are."""
    return _own("user_state_path", "XDG_STATE_HOME or HOME", "state such as locks and allowed addresses")


def cache_folder() -> Path:
    """$BITNET_CACHE, or the user's cache folder for this program."""
    chosen = os.environ.get("BITNET_CACHE", "").strip()
    return (
        expanded(chosen) if chosen else _own("user_cache_path", "BITNET_CACHE, XDG_CACHE_HOME or HOME", "the cache")
    )


def _own(kind: str, variables: str, what: str) -> Path:
    import platformdirs  # slow, and reading settings needs only `expanded`

    try:
        found: Path = getattr(platformdirs, kind)(_PROGRAM, appauthor=False)
    except RuntimeError:
        found = Path("~")
    if not found.is_absolute():  # what some versions return when there is no home folder
        for name in (f"XDG_{kind.split('_')[1].upper()}_HOME", "HOME"):
            if value := os.environ.get(name, "").strip():
                raise NoHome(f"{name}={value} gives no place for {what}; it must be an absolute path.")
        raise NoHome(f"This user has no home folder, so there is no place for {what}; set {variables}.")
    return found
