"""The keys as lines of text: first those that are set, with those in plain text marked, then the others."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.text import capital, crop, pad
from bitnet_tui.key_names import key
from bitnet_tui.labels import title
from bitnet_tui.remedies import in_app
from bitnet_tui.view.spans import Line, Span, line, short

if TYPE_CHECKING:
    from bitnet_core.secrets.inventory import Held

NO_VAULT = "a new vault with a passphrase"
"""The keeper of keys where there is neither a keyring nor a vault yet."""
THE_VAULT = "the vault"
_LABEL_CELLS = 26
_NAME_CELLS = max(map(len, SECRET_NAMES))
_END_CELLS = 5
_ORIGIN_CELLS = 24


def ordered(held: "Sequence[Held]") -> "tuple[Held, ...]":
    """Set before unset, providers' keys before those of storage, then by label."""
    return tuple(
        sorted(held, key=lambda one: (not one.origin, not one.name.endswith("_API_KEY"), title(one.name).lower()))
    )


def row(held: "Held", cells: int) -> Line:
    """One key: its label, where it comes from, its last characters, and its name where there is room."""
    name = pad(crop(title(held.name), _LABEL_CELLS), _LABEL_CELLS)
    wide = cells >= _LABEL_CELLS + _ORIGIN_CELLS + _END_CELLS + _NAME_CELLS + 3
    told = (Span(f" {held.name}", "label"),) if wide else ()
    room = _ORIGIN_CELLS if wide else max(8, cells - _LABEL_CELLS - _END_CELLS - 2)
    if not held.origin:
        return line(Span(f"{name} ", "label"), Span(pad("not set", room + _END_CELLS + 1), "label"), *told)
    end = f"…{held.end}" if held.end else ""
    # Only the file's name fits here; `about` shows the whole path.
    origin = f"plain text, {held.origin.rsplit('/', 1)[-1]}" if held.plain else held.origin
    style = "warn" if held.plain else ""
    return line(
        f"{name} ", Span(pad(crop(origin, room), room), style), Span(f" {pad(end, _END_CELLS)}", "label"), *told
    )


def about(held: "Held", allowed: Sequence[str] = ()) -> Line:
    """The key's name, what it is for, the path of the `.env` that holds it, and the addresses that it was allowed."""
    text = in_app(REGISTRY[held.name].help)
    if held.plain:
        text += f" It is plain text in {held.origin}."
    if allowed:
        text += f" It was allowed to go to {' and '.join(allowed)}."
    return line(Span(f"{held.name}  ", "faint"), Span(text, "label"))


def deletable(held: "Held") -> bool:
    """Whether it is in the keyring or the vault. A key from the environment or a file must be removed there."""
    return bool(held.origin) and not held.plain and held.origin != "environment"


def why_not_movable(held: "Held") -> str:
    """Why `m` can't move a key out of a `.env`."""
    if not held.origin:
        return f"{held.name} is not set."
    return f"{held.name} {'refers to an environment variable' if held.plain else 'does not come from a .env'}."


def keeper(keyring: str, vault: Path | None) -> str:
    """Where a new key goes, in words; `vault` is the one that is there already."""
    return "the OS keyring" if keyring == "ready" else THE_VAULT if vault else NO_VAULT


def summary(keyring: str, vault: Path | None) -> Line:
    """Where a new key is kept: in the keyring or the vault, None if there is none yet."""
    if keyring == "ready":
        return line(Span("Keys are kept in the OS keyring.", "label"))
    where = f"keys are kept in the vault {short(vault)}" if vault else "the first key goes into an encrypted vault"
    return line(Span(f"{capital(keyring)}; {where}.", "label"))


def offers(held: "Held | None", allowed: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    """Key, words and action of what can be done with the highlighted row; `allowed` are its addresses."""
    found = [("keys.set", "set", "set")]
    if held is not None and held.movable:
        found.append(("keys.move", "move out of .env", "move"))
    if held is not None and deletable(held):
        found.append(("keys.delete", "delete", "delete"))
    if allowed:
        found.append(("keys.disallow", "take back", "disallow"))
    return [(key(name), words, action) for name, words, action in found]
