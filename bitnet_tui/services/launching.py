"""Starts a stage from the app: settings, keys, process. Slow (keyring, fork), so always called in a thread."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bitnet_core.runs import launch as runs
from bitnet_core.secrets.resolving import resolve_and_remember
from bitnet_core.teachers import stage_keys


@dataclass(frozen=True)
class Launched:
    """The run that was started, and what its settings gave to warn of."""

    run_id: str
    warnings: tuple[str, ...] = ()


Launch = Callable[[Path, Path, str], Launched]


def launch(home: Path, root: Path, stage: str) -> Launched:
    """Resolve, find the keys, start; `BitnetError` with the whole message when that can't be.

    Of these, `VaultLocked` asks for the vault to be opened first.
    """
    resolution = resolve_and_remember({"BITNET_HOME": str(home)}, root=root)
    settings = resolution.checked()
    keys = stage_keys.for_stage(stage, resolution)
    run = runs.launch(settings, stage, keys.values, argv=["bitnet-tui", stage])
    warnings = [problem.message for problem in resolution.problems if problem.severity == "warning"]
    return Launched(run.id, (*warnings, *([keys.warning] if keys.warning else [])))
