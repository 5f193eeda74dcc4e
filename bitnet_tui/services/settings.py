"""The settings as the app sees them, in which its workspace overrides every other source."""

from collections.abc import Mapping
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.runs.experiment import Experiment, is_experiment, settings_beside
from bitnet_core.secrets.known import resolve_and_remember
from bitnet_core.settings.resolved import Resolution
from bitnet_tui import key_names
from bitnet_tui.remedies import by_keys


def overrides(home: Path, values: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a command gets with `--set` to work in this workspace, with these values of other settings."""
    return {**(values or {}), "BITNET_HOME": str(home)}


def resolved(home: Path, root: Path | None = None, values: Mapping[str, str] | None = None) -> Resolution:
    """The settings of the experiment at `root`; without `root`, those of a new one."""
    return resolve_and_remember(overrides(home, values), root=root)


def own(home: Path) -> str:
    """Where the app has its workspace from."""
    found = resolve_and_remember(None).settings
    if Path(str(found.values["BITNET_HOME"])).absolute() != home.absolute():
        return "command line"
    return found.origin("BITNET_HOME")


def experiment_at(root: Path, home: Path) -> tuple[Experiment, str]:
    """The experiment in this folder, and the errors in its settings (empty if there are none)."""
    resolution = resolved(home, root)
    return Experiment.from_settings(resolution.settings), _errors(resolution)


def experiment_beside(root: Path, home: Path) -> tuple[Experiment, str]:
    """As `experiment_at`, for one among others: it is not waited for what fills its `.env`."""
    resolution = settings_beside(root, overrides(home))
    return Experiment.from_settings(resolution.settings), _errors(resolution)


def _errors(resolution: Resolution) -> str:
    return "\n".join(by_keys(problem.message) for problem in resolution.problems if problem.severity == "error")


def require_experiment(root: Path) -> None:
    """BitnetError if an experiment that was open is gone: another one must not be made in its place."""
    if not is_experiment(root):
        back = key_names.key("experiment.back")
        raise BitnetError(f"{root} is not an experiment any more; put it back, or go back to the list with {back}.")
