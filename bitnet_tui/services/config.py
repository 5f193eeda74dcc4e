"""Changes one setting in an experiment's `.env`, and says before what that would do. For a thread: it reads files."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.files.models import kind_of
from bitnet_core.files.user_folders import expanded
from bitnet_core.runs.effects import Effects, effects
from bitnet_core.runs.experiment import Experiment, Workspace
from bitnet_core.runs.history import History
from bitnet_core.runs.outlook import Outlook, outlook
from bitnet_core.runs.record import ACTIVE
from bitnet_core.secrets.known import redactor, resolve_and_remember
from bitnet_core.settings import dotenv
from bitnet_core.settings.contradictions import Contradiction, contradiction
from bitnet_core.settings.kinds import as_written
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolved import Resolution, Settings
from bitnet_tui.remedies import by_keys
from bitnet_tui.services.settings import overrides, require_experiment, resolved

OF_THE_PLACE = ("BITNET_HOME", "DRIVE_ROOT")
"""They say which experiment this is."""
_INPUTS = frozenset(one.name for one in REGISTRY.values() if one.kind == "path" and one.name.endswith("_FILE"))
"""Files that a stage reads, and none writes."""


@dataclass(frozen=True)
class Preview:
    """What saving `text` as the value of `name` would do. With `errors` it can't be saved."""

    name: str = ""
    text: str = ""
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    effects: Effects = field(default_factory=Effects)
    hidden_by: str = ""
    """The origin of a value that takes precedence over what is saved, or instead of what is unset."""
    conflict: Contradiction | None = None
    """Why the value does not fit together with other settings."""
    same: bool = False
    """Whether it is what counts now; for an empty text, whether the `.env` does not set it."""


def others(home: Path, root: Path) -> list[Path]:
    """The workspace's other experiments, the most recently changed first."""
    here = root.absolute()
    return [one for one in Workspace(home).experiments() if one.absolute() != here]


def next_training(settings: Settings) -> Outlook:
    """What a training with these settings would do. Nothing can be told while one runs, which goes on saving."""
    try:
        history = History.read(Experiment.from_settings(settings))
        return Outlook() if history.status("train").state in ACTIVE else outlook(history, settings)
    except BitnetError:  # it is told where the settings or the runs are shown
        return Outlook()


def preview(home: Path, root: Path, name: str, text: str) -> Preview:
    """What saving `text` would do; with an empty one the setting is unset. BitnetError if that can't be told."""
    require_experiment(root)
    if problem := _refusal(name, text):
        return Preview(name, text, (problem,))
    now = resolved(home, root)
    then, told = _edited(home, root, now, _edit(name, text))
    wrong = contradiction(then.settings) if not told("error") else None
    origin, file = then.settings.origin(name), dotenv.read_text(_file(now))

    return Preview(
        name,
        text,
        told("error"),
        (*told("warning"), *_missing(name, then.settings)),
        effects(History.read(Experiment.from_settings(now.settings)), then.settings),
        origin if origin in ("environment", "command line") or (not text and origin != "default") else "",
        wrong if wrong is not None and name in str(wrong) else None,
        then.settings.values[name] == now.settings.values[name] if text else _edit(name, "")(file) == file,
    )


def _missing(name: str, settings: Settings) -> tuple[str, ...]:
    """A warning that a file which a setting names is not here; it may still arrive before a stage reads it."""
    value = settings.values[name]
    path = value if isinstance(value, Path) else expanded(str(value or ""))
    reads = (
        name in _INPUTS if isinstance(value, Path) else REGISTRY[name].names_model and kind_of(str(value)) != "hub"
    )
    if not value or not reads or os.path.lexists(path):
        return ()
    return (f"{name}: {path} is not here yet, and a stage that reads it would end.",)


def save(home: Path, root: Path, name: str, text: str) -> Preview:
    """Write the value into the experiment's `.env`, whose other lines stay as they are. Returns what that did.

    UsageError with the registry's sentence for a value that is not allowed.
    """
    found = preview(home, root, name, text)
    if found.errors:
        raise UsageError("\n".join(found.errors))
    dotenv.change(_file(resolved(home, root)), _edit(name, text))
    return found


def save_storage(home: Path, root: Path, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Write what differs between two groups of settings about storage. Returns a sentence on what counts now.

    What is only in `before` is unset. UsageError with the registry's sentences for what is not allowed.
    """
    require_experiment(root)
    now = resolved(home, root)
    gone = [name for name in before if name not in after]
    fresh = {name: value for name, value in after.items() if before.get(name) != value}
    for name, value in fresh.items():
        if problem := _refusal(name, value):
            raise UsageError(problem)

    def edit(text: str) -> str:
        text = dotenv.without(text, names=gone) if gone else text
        for name, value in fresh.items():
            text = dotenv.with_value(text, name=name, value=value)
        return text

    then, told = _edited(home, root, now, edit)
    if wrong := told("error"):
        raise UsageError("\n".join(wrong))
    dotenv.change(_file(now), edit)
    hidden = [name for name in (*fresh, *gone) if then.settings.origin(name) in ("environment", "command line")]
    if hidden:
        return f"Saved, but {hidden[0]} is also set by the {then.settings.origin(hidden[0])}, which takes precedence."
    return (
        "The storage target is saved." if after else "Nothing more is sent from now on; the copy stays where it is."
    )


def _edited(
    home: Path, root: Path, now: Resolution, edit: Callable[[str], str]
) -> tuple[Resolution, Callable[[str], tuple[str, ...]]]:
    """The settings with an edited `.env`, and what the edit makes wrong with them, by severity."""
    then = resolve_and_remember(overrides(home), root=root, instead={_file(now): edit(dotenv.read_text(_file(now)))})
    known, mask = {problem.message for problem in now.problems}, redactor()
    fresh = [one for one in then.problems if one.message not in known]

    def told(severity: str) -> tuple[str, ...]:
        return tuple(mask(by_keys(_short(one.message, now))) for one in fresh if one.severity == severity)

    return then, told


def _refusal(name: str, text: str) -> str:
    """Why a text can't be saved in place whatever the settings are; empty if it may be."""
    if REGISTRY[name].secret:
        return f"{name} is a key, and keys are kept outside the settings; the API keys screen sets it."
    if name in OF_THE_PLACE:
        return f"{name} says which experiment this is; open another one instead."
    if "${" in text:
        return f"{name}: references such as ${{HOME}} must be written in the .env itself; open it in your editor."
    return ""


def _edit(name: str, text: str) -> Callable[[str], str]:
    if not text:
        return partial(dotenv.without, names=[name])
    return partial(dotenv.with_value, name=name, value=text)


def _short(message: str, found: Resolution) -> str:
    """The experiment's own file is named without its folder."""
    path = _file(found)
    return message.replace(f"({path} line", "(.env line").replace(f"({os.path.relpath(path)} line", "(.env line")


def _file(found: Resolution) -> Path:
    return Path(as_written(found.settings.values["DRIVE_ROOT"])) / ".env"
