"""What a name on the command line or in the app stands for: an experiment, or one run of it."""

from pathlib import Path

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError, explained
from bitnet_core.results.subject import SubjectReader
from bitnet_core.runs.experiment import Experiment, is_experiment
from bitnet_core.secrets.known import resolve_and_remember


def reader_of(text: str, home: Path, here: Path | None = None) -> SubjectReader:
    """A reader of the subject that the text names.

    It is `FOLDER` or `NAME` (in the workspace `home`), either with `:RUN`; a run's folder; or a `RUN` of `here`.
    UsageError if there is no such experiment. Whether it has the run is known when it is read.
    """
    root, run = _split(text, home, here)
    return SubjectReader(lambda: experiment_in(root, home), run)


def experiment_in(root: Path, home: Path) -> Experiment:
    """The experiment in a folder of the workspace. Its results can be seen even if a setting is wrong."""
    return Experiment.from_settings(resolve_and_remember({"BITNET_HOME": str(home)}, root=root).settings)


def _split(text: str, home: Path, here: Path | None) -> tuple[Path, str]:
    if not text:
        raise UsageError("The name of an experiment is empty; give its folder, or its name in the workspace.")
    if (root := _experiment(text, home)) is not None:
        return root, ""
    folder = Path(text)
    if files.is_file(folder / "run.json") and _is_experiment(folder.absolute().parents[1]):
        return folder.absolute().parents[1], folder.name
    name, colon, run = text.rpartition(":")
    if colon and run and (root := _experiment(name, home)) is not None:
        return root, run
    if here is not None and _is_experiment(here):
        return here.absolute(), text
    _require_open(text, home)
    raise UsageError(
        f"{text} is neither an experiment in {home} nor the folder of one; "
        "give its name, its folder, or NAME:RUN for one of its runs."
    )


def _experiment(text: str, home: Path) -> Path | None:
    """A path is relative to the working folder; a mere name is first looked for in the workspace."""
    return next((place.absolute() for place in _places(text, home) if text and _is_experiment(place)), None)


def _places(text: str, home: Path) -> list[Path]:
    return [Path(text)] if "/" in text else [home / text, Path(text)]


def _require_open(text: str, home: Path) -> None:
    """BitnetError for a folder of this name that may not be entered: it may be the experiment."""
    for place in _places(text, home):
        try:
            is_experiment(place)
        except PermissionError as error:
            raise BitnetError(f"{place} can't be read {explained(error, 'check its permissions')}.") from error
        except (OSError, ValueError):
            continue


def _is_experiment(folder: Path) -> bool:
    try:
        return is_experiment(folder)
    except (OSError, ValueError):
        return False
