"""Which settings name files of an experiment by their path: its own, and those of the experiments beside it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.runs.experiment import Workspace
from bitnet_core.settings import dotenv
from bitnet_core.settings.registry import SECRET_NAMES


def mentions(root: Path) -> tuple[str, ...]:
    """A sentence for each experiment beside this one whose `.env` names a file or folder in it."""
    others = sorted(other for other in Workspace(root.parent).experiments() if other != root)
    found = ((other, [name for name, _ in _naming(other, root)]) for other in others)
    return tuple(
        f"{other.name} reads files of {root.name}: {', '.join(names)} in {other / '.env'}."
        for other, names in found
        if names
    )


def own_paths(root: Path) -> tuple[str, ...]:
    """The settings in its own `.env` that name something in its folder by an absolute path."""
    return tuple(name for name, text in _naming(root, root) if text.startswith("/"))


def with_moved_paths(text: str, old: Path, new: Path) -> str:
    """The text of a `.env` in which absolute paths below the old folder lie below the new one."""
    for name, value in dotenv.parse(text, new / ".env").values.items():
        if name not in SECRET_NAMES and value.startswith("/") and Path(value).is_relative_to(old.absolute()):
            text = dotenv.with_value(text, name, str(new.absolute() / Path(value).relative_to(old.absolute())))
    return text


def _naming(owner: Path, root: Path) -> Iterator[tuple[str, str]]:
    """The settings of `owner`, with their texts, that are a path in `root`. A `.env` that can't be read has none."""
    path = owner / ".env"
    with contextlib.suppress(BitnetError):
        if path.is_file():
            for name, text in dotenv.read_dotenv(path).values.items():
                # A relative path begins at the folder of its `.env`.
                if name not in SECRET_NAMES and "/" in text and _is_in(owner / text, root):
                    yield name, text


def _is_in(path: Path, root: Path) -> bool:
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        return path.resolve().is_relative_to(root.resolve())
    return False
