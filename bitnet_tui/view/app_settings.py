"""What the app itself is set to, in one place: each value, where it comes from, and what changes it. Pure."""

from dataclasses import dataclass

from bitnet_core.settings.kinds import as_written
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolved import Resolution
from bitnet_core.text import UNKNOWN, crop, flat, pad
from bitnet_tui.labels import label
from bitnet_tui.view.spans import Line, Span, line

NOTICES = (
    "NOTIFY_COMMAND",
    "NOTIFY_WEBHOOK",
    "NOTIFY_WEBHOOK_FORM",
    "NOTIFY_QUIET_FROM",
    "NOTIFY_QUIET_UNTIL",
    "NOTIFY_TERMINAL",
)
_TITLE_CELLS, _VALUE_CELLS, _ORIGIN_CELLS = 22, 24, 9
"""Of the value at most, of the origin at least."""


@dataclass(frozen=True)
class AppSetting:
    """One line. `opens` is the action of the app that changes it; empty if a file does, which `about` names."""

    title: str
    value: str
    origin: str
    about: str
    opens: str = ""


def rows(found: Resolution, theme: tuple[str, str], folder: tuple[str, str], keymap: str) -> tuple[AppSetting, ...]:
    """`theme` and `folder` with their origins; `keymap` is the path of the user's own keys."""
    return (
        AppSetting("Theme", *theme, "Enter chooses another one.", "themes"),
        AppSetting(
            "Folder of experiments", *folder, "--home, or BITNET_HOME in the environment or ./.env, names it."
        ),
        AppSetting("Keys of actions", "", "", f"Enter shows them all; {keymap} gives them others.", "keymap"),
        AppSetting("API keys", "", "", "Enter shows where each is kept, and sets one.", "keys"),
        *(_notice(name, found) for name in NOTICES),
    )


def _notice(name: str, found: Resolution) -> AppSetting:
    setting = REGISTRY[name]
    if setting.secret:
        value, origin = ("•••" if name in found.secrets else ""), found.secret_origins.get(name, "")
        return AppSetting(label(name), value, origin, f"{setting.help} Enter sets it.", "keys")
    origin = found.settings.origin(name)
    origin = f"./{origin}" if origin.startswith(".env line ") else origin
    where = f"{name} in ./.env is for all experiments; an experiment's tab Config is for that one."
    return AppSetting(label(name), as_written(found.settings.values[name]), origin, f"{setting.help} {where}")


def row_line(row: AppSetting, cells: int) -> Line:
    """Title, value and origin."""
    room = max(4, min(_VALUE_CELLS, cells - _TITLE_CELLS - 2 - _ORIGIN_CELLS))
    value = pad(crop(flat(row.value) or UNKNOWN, room), room + 2)
    rest = max(4, cells - _TITLE_CELLS - room - 2)
    return line(Span(pad(row.title, _TITLE_CELLS), "label"), value, Span(crop(flat(row.origin), rest), "label"))
