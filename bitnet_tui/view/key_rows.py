"""The keys as lines: those that are set first, plain text among them marked; then the others, to be set."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bitnet_core.settings.registry import REGISTRY
from bitnet_core.text import pad
from bitnet_tui.view.paths import short
from bitnet_tui.view.spans import Line, Span, line

if TYPE_CHECKING:
    from bitnet_core.secrets.inventory import Held

_NAME_CELLS = 26
_END_CELLS = 5


def ordered(held: "Sequence[Held]") -> "tuple[Held, ...]":
    """Set before unset, provider keys before what storage needs, each by name."""
    return tuple(sorted(held, key=lambda one: (not one.origin, not one.name.endswith("_API_KEY"), one.name)))


def row(held: "Held", cells: int) -> Line:
    """One key in one line: its name, where it comes from, how it ends."""
    name = pad(held.name, _NAME_CELLS)
    if not held.origin:
        return line(Span(f"{name} ", "label"), Span("not set", "faint"))
    end = f"…{held.end}" if held.end else ""
    room = max(8, cells - _NAME_CELLS - _END_CELLS - 2)
    # Of a file's path the name will do here; the line about the marked key has all of it.
    origin = f"plain text, {held.origin.rsplit('/', 1)[-1]}" if held.plain else held.origin
    style = "warn" if held.plain else ""
    return line(f"{name} ", Span(pad(origin, room), style), Span(f" {pad(end, _END_CELLS)}", "label"))


def about(held: "Held") -> Line:
    """What the marked key is for, and the whole way to the file it stands in."""
    text = REGISTRY[held.name].help
    return line(Span(f"{text} It stands in {held.origin}, as plain text." if held.plain else text, "label"))


def forgettable(held: "Held") -> bool:
    """Whether it is in a place that we write: what the environment or a file sets is taken out there."""
    return bool(held.origin) and not held.plain and held.origin != "environment"


def summary(keyring: str, vault: Path, *, exists: bool) -> Line:
    """What takes a key here: the keyring, or the vault."""
    if keyring == "ready":
        return line(Span("Keys are kept in the OS keyring.", "label"))
    where = f"keys are kept in the vault {short(vault)}" if exists else "an encrypted vault takes the first key"
    return line(Span(f"{keyring[0].upper()}{keyring[1:]}; {where}.", "label"))


def keys_line(held: "Held | None") -> Line:
    """The keys that make sense for the marked row."""
    parts = [Span("enter", "key"), Span(" set   ", "label")]
    if held is not None and held.movable:
        parts += [Span("m", "key"), Span(" move out of .env   ", "label")]
    if held is not None and forgettable(held):
        parts += [Span("x", "key"), Span(" forget   ", "label")]
    return (*parts, Span("esc", "key"), Span(" close", "label"))
