"""What has changed since a stage was done, in words, as far as the records tell. `history.py` says whether it has."""

from collections.abc import Iterator

from bitnet_core.runs import catalog
from bitnet_core.runs.history import Entry, History
from bitnet_core.runs.resuming import change_words
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import DataOptions

MOST_NAMED = 3
_COLLECT = "collect"


def changes(history: History, stage: str) -> tuple[str, ...]:
    """Each change that makes the stage outdated, such as `LR 0.001 → 6e-4`, the causes upstream first.

    Of the pipeline: those of all stages. Empty if nothing has changed, or if the records don't tell what: a file that
    a setting names is recorded by its name alone.
    """
    stages = catalog.STAGES if stage == catalog.PIPELINE.name else (stage,)
    found = (change for name in stages for change in _of_stage(history, name))
    return tuple(dict.fromkeys(found))


def stale_traces(history: History) -> str:
    """What has changed since the traces were collected that a training would read, in a line; else empty."""
    if DataOptions.of(history.experiment.settings).path is not None or history.status(_COLLECT).state != "outdated":
        return ""
    return changed_words(changes(history, _COLLECT)) or "a file that its settings name has changed"


def changed_words(found: tuple[str, ...]) -> str:
    """The first few changes in one line: `SEED 1 → 2, LR 0.001 → 6e-4, and 4 more`."""
    more = len(found) - MOST_NAMED
    return ", ".join([*found[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])


def _of_stage(history: History, stage: str) -> Iterator[str]:
    status = history.status(stage)
    if status.last is None:
        yield f"{stage} has not run"
    if status.last is None or status.state == "done":
        return
    if status.state != "outdated":
        yield f"the last run of {stage} has not succeeded"
        return
    for need in catalog.stage(stage).needs:
        later = history.latest(need)
        if later is not None and later.place > status.last.place and history.has_written(later):
            yield f"{need} has run again"
        elif later is not None:
            yield from _of_stage(history, need)
    yield from _settings(history, status.last)
    if not history.is_complete(stage):
        yield f"files of {stage} are missing"


def _settings(history: History, made: Entry) -> Iterator[str]:
    """The settings of a run's stage that have another value now, or are set now and did not exist then."""
    now, then = history.experiment.settings, made.record.settings
    older = Settings(then, made.record.origins)
    for name, value in catalog.deciding(made.record.stage, now, older).items():
        if name not in then:
            yield f"made before {name} existed"
        elif then[name] != value:
            yield change_words(name, then[name], value)
