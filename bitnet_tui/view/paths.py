"""Paths as they are shown: relative to the home folder."""

from pathlib import Path


def short(path: Path) -> str:
    home, path = Path.home(), path.absolute()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
