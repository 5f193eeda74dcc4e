"""The user's own keys: a small file that gives actions other keys, and what is wrong with it in sentences.

`keys.toml` in the user's configuration folder has a line `"experiment.run" = "f5"` for each action that is to have
other keys, or a list of keys. A line that can't be used is left out, and the others count.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from textual.keys import Keys, _character_to_key

from bitnet_core.errors import BitnetError, explained
from bitnet_core.files.toml_file import read_toml
from bitnet_core.files.user_folders import config_folder
from bitnet_core.text import crop, flat
from bitnet_tui.actions import ACTIONS, Action

_MOST_BYTES = 1 << 16
_MOST_PROBLEMS = 20
_MODIFIERS = ("ctrl", "alt", "shift", "super")
_NAMED = {key.value for key in Keys} | {"question_mark", "full_stop", "comma", "plus", "minus", "slash"}
_FIXED = frozenset(("tab", "shift+tab", "enter", "space", "escape", "ctrl+p", "ctrl+c"))
_MOVING = _FIXED | {"up", "down", "left", "right", *"hjkl"}
"""Keys that lists, charts and dialogs take before any action."""
_EVERYWHERE = frozenset(("app", "move"))
"""Places whose keys work beside those of any other."""


class Keymap(NamedTuple):
    """The keys of actions by their ids, as Textual writes them, and the sentences about what is not used."""

    keys: Mapping[str, str] = MappingProxyType({})
    problems: tuple[str, ...] = ()


def place() -> Path:
    """The file, which need not exist. NoHome if this user has no folder for it."""
    return config_folder() / "keys.toml"


def read() -> Keymap:
    """The file's keys; none and no problem if there is no file."""
    try:
        path = place()
        return checked(read_toml(path, _MOST_BYTES))
    except FileNotFoundError:
        return Keymap()
    except OSError as error:
        return Keymap(problems=(f"{path} can't be read {explained(error, 'correct it, or move it away')}.",))
    except ValueError as error:
        return Keymap(problems=(f"{path} is not TOML ({flat(str(error))}); correct it, or move it away.",))
    except BitnetError as error:
        return Keymap(problems=(str(error),))


def checked(wanted: Mapping[str, object], actions: tuple[Action, ...] = ACTIONS) -> Keymap:
    """What of the wanted keys can be used, and why the rest can't."""
    import difflib  # not needed before the first screen

    problems: list[str] = []
    usable: dict[str, str] = {}
    known = {action.id for action in actions}
    # `experiment.run = …` without quotes is a table of TOML.
    for name, value in _flat(wanted):
        if name not in known and len(problems) >= _MOST_PROBLEMS:
            problems.append("")  # looking for what was meant takes milliseconds
        elif name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else "the app's Keys dialog lists them all."
            problems.append(f"{crop(flat(name), 60)} is not an action; {hint}")
        elif (keys := _keys(value)) is None:
            shown = crop(flat(str(value)), 40)
            problems.append(f"{name} has no usable key ({shown}); give it a key such as f5, ctrl+x or ?.")
        elif name.startswith("field.") and any(len(key) == 1 for key in _plain(value)):
            problems.append(f"{name} works while you type; give it a key that is not a character, such as ctrl+n.")
        elif taken := sorted(_reserved(name) & set(keys) - set(_of(name, actions).keys.split(","))):
            problems.append(f"{name} can't have {taken[0]}, which moves in lists and dialogs; give it another key.")
        else:
            usable.update(dict.fromkeys(_together(name, actions), ",".join(keys)))
    while clash := _clash(usable, actions):
        one, other, key = clash
        for name in {*_together(one, actions), *_together(other, actions)}:
            usable.pop(name, None)
        problems.append(f"{one} and {other} would both be on {key}; give one of them another key.")
    if more := len(problems) - _MOST_PROBLEMS:
        problems[_MOST_PROBLEMS:] = [f"{more:,} more can't be used; correct those above first."] if more > 0 else []
    return Keymap(usable, tuple(problems))


def remapped(keys: Mapping[str, str], actions: tuple[Action, ...] = ACTIONS) -> tuple[Action, ...]:
    """The actions with the user's keys."""
    return tuple(one._replace(keys=keys.get(one.id, one.keys)) for one in actions)


def _flat(wanted: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    for name, value in wanted.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _keys(value: object) -> tuple[str, ...] | None:
    given = value if isinstance(value, list) else [value]
    names = [_name(one) for one in given]
    return tuple(dict.fromkeys(name for name in names if name)) if names and all(names) else None


def _name(value: object) -> str:
    """Textual's name of a key; empty if it is none."""
    if not isinstance(value, str) or not value:
        return ""
    *modifiers, key = value.split("+") if len(value) > 1 else [value]
    if any(one not in _MODIFIERS for one in modifiers) or not key:
        return ""
    if len(key) == 1:
        return "+".join([*modifiers, _character_to_key(key)]) if key.isprintable() and not key.isspace() else ""
    return value if key in _NAMED or value in _NAMED else ""


def _plain(value: object) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list) else [value])]


def _reserved(name: str) -> frozenset[str]:
    """The keys that the action can't have. Actions that move may share the keys that move."""
    return _FIXED if name.startswith("move.") else _MOVING


def _meet(one: Action, other: Action) -> bool:
    return one.where == other.where or bool(_EVERYWHERE & {one.where, other.where})


def _of(name: str, actions: Iterable[Action]) -> Action:
    return next(one for one in actions if one.id == name)


def _together(name: str, actions: tuple[Action, ...]) -> list[str]:
    """The action and those of its screen that share its keys, such as run and resume: one key for all of them."""
    own = _of(name, actions)
    return [one.id for one in actions if (one.where, one.keys) == (own.where, own.keys)]


def _clash(usable: Mapping[str, str], actions: tuple[Action, ...]) -> tuple[str, str, str] | None:
    """Two actions that would be on one key where they meet, and are not meant to be; one of them was remapped."""
    for one, other in combinations(actions, 2):
        together = (one.where, one.keys) == (other.where, other.keys)
        if together or usable.keys().isdisjoint((one.id, other.id)) or not _meet(one, other):
            continue
        meant = set(one.keys.split(",")) & set(other.keys.split(","))
        keys = [set(usable.get(action.id, action.keys).split(",")) for action in (one, other)]
        if shared := sorted((keys[0] & keys[1]) - meant):
            return one.id, other.id, shared[0]
    return None
