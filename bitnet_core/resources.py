"""Where the packaged files (prompts, demo settings) are, in a checkout and in an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).parent
_ASSETS = _PACKAGE / "assets" if (_PACKAGE / "assets").is_dir() else _PACKAGE.parent / "assets"


def asset(*parts: str) -> Path:
    """Path of one packaged file, such as `asset("demo.env")`."""
    return _ASSETS.joinpath(*parts)
