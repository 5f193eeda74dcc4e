"""Where the packaged files (prompts, demo settings) are, in a checkout and in an installed wheel; and the cache."""

import os
from pathlib import Path

import platformdirs

_PACKAGE = Path(__file__).parent
_ASSETS = _PACKAGE / "assets" if (_PACKAGE / "assets").is_dir() else _PACKAGE.parent / "assets"


def asset(*parts: str) -> Path:
    """Path of one packaged file, such as `asset("demo.env")`."""
    return _ASSETS.joinpath(*parts)


def cache_folder() -> Path:
    """$BITNET_CACHE, or the user's cache folder for this program."""
    chosen = os.environ.get("BITNET_CACHE", "").strip()
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("bitnet-tui", appauthor=False))
