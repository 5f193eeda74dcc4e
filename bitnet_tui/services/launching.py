"""Starts a stage: settings, keys, process; and what to know before. Slow (keyring, fork), so call it in a thread."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from bitnet_core.runs import launch as runs
from bitnet_core.runs.catalog import PIPELINE
from bitnet_core.runs.changes import stale_traces
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.outlook import Outlook, outlook
from bitnet_core.runs.record import ACTIVE
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.said import unsaid
from bitnet_core.teachers import stage_keys
from bitnet_tui.services.settings import require_experiment, resolved

_TRAIN = "train"


@dataclass(frozen=True)
class Launched:
    """The run that was started, and the warnings about its settings and keys."""

    run_id: str
    warnings: tuple[str, ...] = ()


class Launch(Protocol):
    """Starts a stage, with `values` of settings for this run alone."""

    def __call__(
        self, home: Path, root: Path, stage: str, values: Mapping[str, str] | None = None, /
    ) -> Launched: ...


def launch(home: Path, root: Path, stage: str, values: Mapping[str, str] | None = None) -> Launched:
    """Start a stage of the experiment at `root`. BitnetError says why it can't be started.

    Its subclass VaultLocked means that the vault must be opened first.
    """
    require_experiment(root)
    resolution = resolved(home, root, values)
    settings = resolution.checked()
    keys = stage_keys.for_stage(stage, resolution, vault_can_be_opened=True)
    run = runs.launch(settings, stage, keys.values, ["bitnet-tui", stage], resolution.env_files)
    warnings = [problem.message for problem in unsaid(resolution) if problem.severity == "warning"]
    return Launched(run.id, (*warnings, *([keys.warning] if keys.warning else [])))


@dataclass(frozen=True)
class Foreseen:
    """What starting a stage would do: the stages whose files it lacks, and what becomes of the checkpoints.

    It is `in_vain` if the stage is done and would make nothing new. `stale` is what has changed since the traces that
    a training would read were collected; empty if they are current.
    """

    stage: str
    lacking: tuple[str, ...] = ()
    training: Outlook = field(default_factory=Outlook)
    in_vain: bool = False
    stale: str = ""


def foresee(home: Path, root: Path, stage: str, values: Mapping[str, str] | None = None) -> Foreseen:
    """What `launch` would do with these arguments. BitnetError for settings with which it can't start."""
    require_experiment(root)
    settings = resolved(home, root, values).checked()
    history = History.read(Experiment.from_settings(settings))
    if stage == _TRAIN:
        found = _training(history, settings)
        in_vain = found.adds_no_step and history.status(stage).state == "done"
        return Foreseen(stage, history.lacking(stage), found, in_vain, stale_traces(history))
    if stage == PIPELINE.name and history.status(_TRAIN).state not in ("done", *ACTIVE):
        collects = history.status("collect").state != "done"
        return Foreseen(stage, (), _training(history, settings, collects_first=collects))
    return Foreseen(stage, history.lacking(stage))


def _training(history: History, settings: Settings, *, collects_first: bool = False) -> Outlook:
    ended = None if collects_first else history.diverged()
    found = outlook(history, settings, collects_first=collects_first)
    return replace(found, diverged=ended.error) if ended else found
