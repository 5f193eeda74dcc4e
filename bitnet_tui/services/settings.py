"""The settings as the app sees them: those of its workspace override every other source."""

from collections.abc import Mapping
from pathlib import Path

from bitnet_core.secrets.known import resolve_and_remember
from bitnet_core.settings.resolved import Resolution


def overrides(home: Path, values: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a command gets with `--set` to work in this workspace, with these values of other settings."""
    return {**(values or {}), "BITNET_HOME": str(home)}


def resolved(home: Path, root: Path | None = None, values: Mapping[str, str] | None = None) -> Resolution:
    """The settings of the experiment at `root`; without `root`, those of a new one."""
    return resolve_and_remember(overrides(home, values), root=root)
