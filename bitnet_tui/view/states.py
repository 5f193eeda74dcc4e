"""The colours of states; a colour only repeats what the glyph says."""

from typing import NamedTuple

from bitnet_core.text import STATES


class Look(NamedTuple):
    glyph: str
    word: str
    style: str


_STYLES = {
    "new": "faint",
    **dict.fromkeys(("starting", "running"), "accent"),
    **dict.fromkeys(("done", "succeeded"), "good"),
    **dict.fromkeys(("outdated", "cancelled"), "warn"),
    **dict.fromkeys(("failed", "interrupted"), "bad"),
}
LOOKS: dict[str, Look] = {state: Look(*STATES[state], style) for state, style in _STYLES.items()}
LEGEND = ("done", "running", "outdated", "cancelled", "interrupted", "failed", "new")
LOW_QEI = Look("▼", "low QEI", "warn")
"""Of a QEI below its gate."""
ROSE = Look("▲", "held-out rose", "warn")
"""Of a held-out loss above that at the start of the training."""
RUINED = Look("✗", "ruined", "bad")
"""Of one that is far above that, and does not fall."""
BEST_KEPT = Look("◆", "best kept", "label")
"""Of a training that was stopped when its held-out loss had risen: the best checkpoint has a lower one."""
TRENDS = {
    one.glyph: one for one in (Look("↘", "falling", "good"), Look("→", "level", "label"), Look("↗", "rising", "warn"))
}
"""Where the held-out loss of a training goes."""


def look(state: str) -> Look:
    return LOOKS.get(state, Look("?", state, "warn"))
