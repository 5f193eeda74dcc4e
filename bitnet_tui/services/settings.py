"""The settings as the app sees them, in which its workspace overrides every other source."""

import os
import stat
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.files.regular import version
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
    version = _version(root)
    return _with_errors(_known(root, home, version) if version else resolved(home, root))


def experiment_beside(root: Path, home: Path) -> tuple[Experiment, str]:
    """As `experiment_at`, for one among others: it is not waited for what fills its `.env`."""
    version = _version(root)
    return _with_errors(_known(root, home, version) if version else settings_beside(root, overrides(home)))


@lru_cache(maxsize=1000)
def _known(root: Path, home: Path, _version: tuple[object, ...]) -> Resolution:
    """Settings in which nothing has changed are not resolved again: the app asks for them every second."""
    return resolved(home, root)


def _version(root: Path) -> tuple[object, ...]:
    """Differs once the settings may differ: another `.env`, or another environment. Empty if that can't be told."""
    try:
        cwd = os.getcwd()  # noqa: PTH109 - making paths takes longer than looking
        files = [_version_of(f"{folder}/.env") for folder in (root, cwd)]
    except OSError:
        return ()
    return (cwd, *files, *os.environ.items())


def _version_of(path: str) -> tuple[int, ...]:
    """OSError unless it is a regular file or there is nothing."""
    try:
        status = os.stat(path)  # noqa: PTH116 - see above
    except FileNotFoundError:
        return ()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is not a regular file")
    return version(status)


def _with_errors(resolution: Resolution) -> tuple[Experiment, str]:
    return Experiment.from_settings(resolution.settings), _errors(resolution)


def _errors(resolution: Resolution) -> str:
    return "\n".join(by_keys(problem.message) for problem in resolution.problems if problem.severity == "error")


def require_experiment(root: Path) -> None:
    """BitnetError if an experiment that was open is gone: another one must not be made in its place."""
    if not is_experiment(root):
        back = key_names.key("experiment.back")
        raise BitnetError(f"{root} is not an experiment any more; put it back, or go back to the list with {back}.")
