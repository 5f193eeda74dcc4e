"""Keys as sentences, buttons and lists name them: by their signs, and as the user has them.

It knows no Textual, so that view models can name a key.
"""

from collections.abc import Mapping

from bitnet_tui.actions import ACTIONS, Action, Where, by_id

_SHOWN = {
    "delete": "del",
    "question_mark": "?",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "escape": "esc",
    "slash": "/",
    "full_stop": ".",
    "greater_than_sign": ">",
    "comma": ",",
    "less_than_sign": "<",
    "plus": "+",
    "equals_sign": "=",
    "minus": "-",
}


def offers(where: Where, remapped: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Key, word and action of what the screen's footer has no room for."""
    rows = [one for one in ACTIONS if one.where == where and not one.footer and one.keys != "escape"]
    found = tuple((first_key(one.id, remapped), one.label.lower(), one.name) for one in rows)
    own = by_id("app.settings")
    return (*found, (first_key(own.id, remapped), own.label.lower(), f"app.{own.name}"))


def shown(key: str) -> str:
    """A key of Textual as it is shown."""
    return _SHOWN.get(key, key)


def first_key(name: str, remapped: Mapping[str, str]) -> str:
    """The key to name for an action, as it is shown; `remapped` has the user's own keys."""
    keys = remapped.get(name) or by_id(name).keys
    first = keys.split(",")[0]
    return shown(first)


_own: Mapping[str, str] = {}


def use(keys: Mapping[str, str]) -> None:
    """From now on sentences name these keys of the user, by the ids of actions: one process has one user."""
    global _own
    _own = keys


def key(name: str) -> str:
    """The key to name for an action in a sentence, as the user has it."""
    return first_key(name, _own)


def keys_text(action: Action) -> str:
    """Its keys as they are shown: `? f1`."""
    return " ".join(map(shown, action.keys.split(",")))
