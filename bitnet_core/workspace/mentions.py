"""Which settings name files of an experiment by their path: its own, and those of the experiments beside it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.files.user_folders import NoHome, expanded
from bitnet_core.runs.experiment import Workspace
from bitnet_core.settings import dotenv
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES


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
    return tuple(name for name, text in _naming(root, root) if _expanded(text).is_absolute())


def with_relative_paths(text: str, root: Path) -> str:
    """The text of the `.env` in a folder, in which absolute paths below it begin at it, wherever it is.

    Those of settings that may also be something else, such as a model's name, begin where a command is started, so
    they stay as they are.
    """
    for name, path in _absolute(text):
        if path.is_relative_to(root.absolute()) and name in REGISTRY and REGISTRY[name].kind == "path":
            text = dotenv.with_value(text, name, f"./{path.relative_to(root.absolute())}")
    return text


def with_moved_paths(text: str, old: Path, new: Path) -> str:
    """The text of a `.env` in which absolute paths below the old folder lie below the new one."""
    for name, path in _absolute(text):
        if path.is_relative_to(old.absolute()):
            text = dotenv.with_value(text, name, str(new.absolute() / path.relative_to(old.absolute())))
    return text


def _absolute(text: str) -> list[tuple[str, Path]]:
    """The settings in the text of a `.env` that name an absolute path."""
    values = dotenv.parse(text, Path(".env")).values
    named = [(name, _expanded(value)) for name, value in values.items() if name not in SECRET_NAMES]
    return [(name, path) for name, path in named if path.is_absolute()]


def _naming(owner: Path, root: Path) -> Iterator[tuple[str, str]]:
    """The settings of `owner`, with their texts, that are a path in `root`. A `.env` that can't be read has none."""
    path = owner / ".env"
    with contextlib.suppress(BitnetError):
        if path.is_file():
            for name, text in dotenv.read_dotenv(path).values.items():
                # A relative path begins at the folder of its `.env`.
                if name not in SECRET_NAMES and "/" in text and _is_in(owner / _expanded(text), root):
                    yield name, text


def _expanded(text: str) -> Path:
    """The path with its `~` replaced, if that is a home folder that is known."""
    try:
        return expanded(text)
    except NoHome:
        return Path(text)


def _is_in(path: Path, root: Path) -> bool:
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        return path.resolve().is_relative_to(root.resolve())
    return False
