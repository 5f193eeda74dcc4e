"""The settings in which experiments differ: those that decide a result first."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from bitnet_core.results.subject import EVAL, TRAIN, Subject
from bitnet_core.runs.catalog import STAGES
from bitnet_core.secrets.known import redactor
from bitnet_core.settings.kinds import as_written, with_thousands
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES, SECTIONS, in_sections
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.unused import unused, unused_of_start
from bitnet_core.text import flat

_ORDER = (TRAIN, "collect", "teacher", EVAL, "dryrun")
"""What decides a training is told before what decides how it was measured."""
_PLACES = ("Place", "Caches", "Keys", *(section for section in SECTIONS if section.startswith("Storage")))
IN_THE_MIDDLE = " → "
"""Between the values of a setting that was changed in the middle of a training."""
_LEFT_OUT = {*in_sections(*_PLACES), *SECRET_NAMES}
"""Settings that do not make two experiments different: where each lies and where its copy is kept."""


@dataclass(frozen=True)
class Difference:
    """One setting with its value in each subject, as a `.env` has it; `stage` has its result decided by it.

    A value that was changed in the middle of a training is `6e-4 → 3e-4`.
    """

    name: str
    values: tuple[str, ...]
    stage: str = ""


def deciding_stage(name: str) -> str:
    """The first stage whose result the setting decides; empty if it decides none."""
    return next((stage for stage in _ORDER if name in STAGES[stage].settings), "")


def settings_of(subject: Subject) -> dict[str, Any]:
    """Every setting as the run that it matters to had it: of the stage that it decides, else of the training.

    What a run of an older version did not know had no effect on it, which is what a default is for.
    """
    now = subject.experiment.settings.to_record()
    records = {stage: run.record.settings for stage, run in subject.runs.items()}
    defaults = _defaults()
    return {name: records.get(deciding_stage(name) or TRAIN, now).get(name, defaults[name]) for name in now}


@cache
def _defaults() -> dict[str, Any]:
    return from_values({}).to_record()


def differences(subjects: Sequence[Subject]) -> tuple[Difference, ...]:
    """The settings that are not the same in all subjects, in the order in which they matter.

    One that has no effect in any of them is left out: another version's default may differ where it was not set. So
    is one of a start that has an effect in too few: that of the start itself tells the difference.
    """
    mask = redactor()
    records = [settings_of(one) for one in subjects]
    idle = frozenset.intersection(*map(unused, records))
    values = [{name: written(value) for name, value in record.items()} for record in records]
    for one, subject in zip(values, subjects, strict=True):
        one |= _changed_in_the_middle(subject)
    names = (name for name in _in_order() if name not in idle)
    pairs = ((name, [one.get(name, written(None)) for one in values]) for name in names)
    without = [unused_of_start(record) for record in records]
    return tuple(
        Difference(name, tuple(map(mask, each)), deciding_stage(name))
        for name, each in pairs
        if len({value for value, idle_here in zip(each, without, strict=True) if name not in idle_here}) > 1
    )


def _changed_in_the_middle(subject: Subject) -> dict[str, str]:
    """The settings that decide a training and that its runs had one after the other, with all their values."""
    records = [run.record.settings for run in subject.counting]
    found: dict[str, str] = {}
    for name in STAGES[TRAIN].settings if len(records) > 1 else ():
        values = [written(one[name]) for one in records if name in one]
        turns = [value for value, _ in itertools.groupby(values)]
        if len(turns) > 1:
            found[name] = IN_THE_MIDDLE.join(turns)
    return found


def changed_from_defaults(subject: Subject) -> tuple[tuple[str, str, str], ...]:
    """Name, value and default of the settings with another value that has an effect, as people read them.

    The most important come first.
    """
    defaults, values = _defaults(), settings_of(subject)
    idle = unused(values)
    names = (name for name in _in_order() if name not in idle)
    pairs = ((name, written(values.get(name)), written(defaults.get(name))) for name in names)
    return tuple((name, shown(value), shown(default)) for name, value, default in pairs if value != default)


def written(value: Any) -> str:
    """The value as a `.env` has it, on one line and safe to show."""
    text = as_written(value)
    return flat(text) if text else "unset"


def shown(value: str) -> str:
    """A value of a `Difference` as people read it: `60000 → 90000` as `60,000 → 90,000`."""
    return IN_THE_MIDDLE.join(map(with_thousands, value.split(IN_THE_MIDDLE)))


def _in_order() -> Iterable[str]:
    names = [name for name in REGISTRY if name not in _LEFT_OUT]
    places = {stage: place for place, stage in enumerate(_ORDER)}
    return sorted(names, key=lambda name: places.get(deciding_stage(name), len(_ORDER)))
