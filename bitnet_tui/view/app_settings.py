"""What the app itself is set to, in one place: each value, where it comes from, and what changes it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitnet_core.settings.kinds import as_written
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolved import Resolution
from bitnet_core.text import UNKNOWN, crop, flat, pad, width
from bitnet_tui.key_names import key
from bitnet_tui.labels import label
from bitnet_tui.view.spans import Line, Span, line

if TYPE_CHECKING:
    from bitnet_core.secrets.inventory import Held

_ASKING = ("…", "")
"""Value and origin of what is being asked."""
NOTICES = (
    "NOTIFY_COMMAND",
    "NOTIFY_WEBHOOK",
    "NOTIFY_WEBHOOK_FORM",
    "NOTIFY_QUIET_FROM",
    "NOTIFY_QUIET_UNTIL",
    "NOTIFY_TERMINAL",
)
_TITLE_CELLS = 2 + max(map(width, map(label, NOTICES)))
_VALUE_CELLS, _ORIGIN_CELLS = 24, 9
"""Of the value at most, of the origin at least."""


@dataclass(frozen=True)
class AppSetting:
    """One line. `opens` is the action of the app that changes it; empty if a file does, which `about` names."""

    title: str
    value: str
    origin: str
    about: str
    opens: str = ""


def rows(
    found: Resolution,
    theme: tuple[str, str],
    folder: tuple[str, str],
    keymap: str,
    held: "Mapping[str, Held] | None",
) -> tuple[AppSetting, ...]:
    """`theme` and `folder` with their origins; `keymap` is the path of the user's own keys.

    `held` tells where each key is kept; None while that is being asked.
    """
    return (
        AppSetting("Theme", *theme, "Enter changes it.", "themes"),
        AppSetting(
            "Folder of experiments", *folder, "Set by --home, or by BITNET_HOME in the environment or in ./.env."
        ),
        AppSetting("Keys of actions", "", "", f"Enter shows them all; {keymap} says how to change them.", "keymap"),
        AppSetting("API keys", *_kept(held), "Enter shows where each is kept, and sets one.", "keys"),
        *(_notice(name, found, held) for name in NOTICES),
    )


def _kept(held: "Mapping[str, Held] | None") -> tuple[str, str]:
    """How many keys are kept, and where."""
    if held is None:
        return _ASKING
    origins = [_origin(one) for one in held.values() if one.origin]
    return f"{len(origins) or 'none'} set", ", ".join(sorted(set(origins)))


def _origin(held: "Held") -> str:
    return "plain text" if held.plain else held.origin


def _notice(name: str, found: Resolution, held: "Mapping[str, Held] | None") -> AppSetting:
    setting = REGISTRY[name]
    if setting.secret:
        one = held[name] if held is not None else None
        value, origin = _ASKING if one is None else ("•••" if one.origin else "", _origin(one))
        return AppSetting(label(name), value, origin, f"{setting.help} Enter sets it.", "keys")
    origin = found.settings.origin(name)
    origin = f"./{origin}" if origin.startswith(".env line ") else origin
    config = f"an experiment's Config tab ({key('experiment.config')})"
    where = f"{name} in ./.env is for all experiments; {config} sets it for that one."
    return AppSetting(label(name), as_written(found.settings.values[name]), origin, f"{setting.help} {where}")


def row_line(row: AppSetting, cells: int) -> Line:
    """Title, value and origin."""
    room = _room(cells)
    value = pad(crop(flat(row.value) or UNKNOWN, room), room + 2)
    rest = max(4, cells - _TITLE_CELLS - room - 2)
    return line(Span(pad(row.title, _TITLE_CELLS), "label"), value, Span(crop(flat(row.origin), rest), "label"))


def about(row: AppSetting, cells: int) -> str:
    """What changes it, after its whole value if the line had no room for that."""
    value = flat(row.value)
    return f"{value} · {row.about}" if width(value) > _room(cells) else row.about


def _room(cells: int) -> int:
    """Of the value."""
    return max(4, min(_VALUE_CELLS, cells - _TITLE_CELLS - 2 - _ORIGIN_CELLS))
