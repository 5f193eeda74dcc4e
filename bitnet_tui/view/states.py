"""The states of stages and runs: one glyph each (colour only repeats what the glyph says), one word, one style."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    glyph: str
    word: str
    style: str


# Narrow in every terminal, none with an emoji form, told apart without colour.
LOOKS: dict[str, Look] = {
    "new": Look("·", "new", "faint"),
    "starting": Look("◦", "starting", "accent"),
    "running": Look("▸", "running", "accent"),
    "done": Look("✓", "done", "good"),
    "succeeded": Look("✓", "done", "good"),
    "outdated": Look("↻", "outdated", "warn"),
    "failed": Look("✗", "failed", "bad"),
    "cancelled": Look("■", "stopped", "warn"),
    "interrupted": Look("!", "interrupted", "bad"),
}
LEGEND = ("done", "running", "outdated", "cancelled", "interrupted", "failed", "new")
ACTIVE = ("starting", "running")
RESUMABLE = ("cancelled", "interrupted")


def look(state: str) -> Look:
    return LOOKS.get(state, Look("?", state, "warn"))
