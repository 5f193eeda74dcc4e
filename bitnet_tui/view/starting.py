"""What to say before a stage is started: that it can't be yet, what it would put away, what it does otherwise."""

from collections.abc import Callable, Sequence

from bitnet_core.runs.catalog import PIPELINE, STAGES, stage
from bitnet_core.runs.outlook import Outlook
from bitnet_core.text import listed, significant
from bitnet_tui import key_names
from bitnet_tui.labels import by_label, stage_title
from bitnet_tui.remedies import in_app, offering
from bitnet_tui.services.launching import Foreseen
from bitnet_tui.view.coming import coming
from bitnet_tui.view.stage_rows import StageRow

_MOST_STEPS = 5
UNCHANGED = "Nothing was started; everything is as it was."
"""Said after a question was answered with no."""


def refusal(found: Foreseen, key: Callable[[str], str], rows: Sequence[StageRow] = ()) -> str:
    """Why the stage can't be started, and what to do; empty if it can. `key` names the key of an action.

    By the `rows` of the experiment it says what is being made, or comes by itself.
    """
    pipeline = f"{key('experiment.pipeline')} runs all stages in order"
    if found.lacking:
        titles = [stage(name).title for name in found.lacking]
        first = f"choose {titles[0]} and press {key('experiment.run')}, or " if len(titles) == 1 else ""
        leave = "leaves" if len(titles) == 1 else "leave"
        why = f"It reads what {listed(titles)} {leave}, and that is not there yet"
        soon = " ".join(filter(None, (coming(rows, *found.lacking), coming(rows, found.stage))))
        return f"{why}. {soon}" if soon else f"{why}; {first}{pipeline}."
    if found.in_vain:
        return _in_vain(found, key)
    return found.training.refused


def _in_vain(found: Foreseen, key: Callable[[str], str]) -> str:
    """That a training would add no step, and what to change so that it does."""
    step = f"training is finished at step {found.training.step:,}, and nothing has changed since"
    budget = f"to train on, raise its budget in Config ({key('experiment.config')})"
    earlier = f"or resume from an earlier checkpoint ({key('experiment.checkpoints')})"
    return f"There is nothing to do: {step}; {budget}, {earlier}."


def asks(found: Foreseen) -> bool:
    """Whether there is a `question` before a training is started."""
    return found.training.starts_again or bool(found.training.diverged or found.stale)


def question_before(found: Foreseen) -> tuple[str, str, str, str]:
    """As `question`, and about outdated traces."""
    if not found.stale:
        return question(found.training)
    stale = stale_words(found.stale)
    if not (found.training.starts_again or found.training.diverged):
        return "Train with outdated traces?", stale, "Train anyway", UNCHANGED
    what, why, yes, unchanged = question(found.training)
    return what, f"{stale} {why}", yes, unchanged


def stale_words(changed: str) -> str:
    """That the traces are outdated, and what collects them again."""
    told = f"{stage_title('collect')} is outdated: {by_label(changed)}."
    anew = f"To collect them again first, cancel and choose Run pipeline ({key_names.key('experiment.pipeline')})."
    return f"{told} Training reads the traces that are there, which were made before that. {anew}"


def question(found: Outlook) -> tuple[str, str, str, str]:
    """Whether to train again beside checkpoints, or with settings that have diverged, as the texts of a question."""
    failed = failed_words(found)
    if not found.starts_again:
        return "Train again with the same settings?", failed, "Train anyway", UNCHANGED
    why = f"Training can't go on from its checkpoints: {in_app(found.why_not)}. " if found.why_not else ""
    budget = f"raise the budget in Config ({key_names.key('experiment.config')})"
    earlier = f"or resume from an earlier one in Checkpoints ({key_names.key('experiment.checkpoints')})"
    instead = f" To go on instead, {budget}, {earlier}." if found.finished else ""
    moved = aside_words(found.aside, "The") if found.aside else "No checkpoint is moved."
    words = f"{why}{moved}{instead} {failed}".rstrip()
    return "Train again from step 0?", words, "Train again", UNCHANGED


def failed_words(found: Outlook) -> str:
    """That a training with these settings has diverged; empty if none has."""
    return f"With these settings it has failed before. {offering(found.diverged)}" if found.diverged else ""


def aside_words(steps: Sequence[int], which: str) -> str:
    """That the checkpoints of these steps are moved away."""
    named = ", ".join(map(str, steps[:_MOST_STEPS])) + (", …" if len(steps) > _MOST_STEPS else "")
    those = "that of step" if len(steps) == 1 else "those of steps"
    return f"{which} checkpoints ({those} {named}) are moved to checkpoints/superseded."


def awaited_words(name: str, rows: Sequence[StageRow]) -> str:
    """Which of the stages that run a pipeline, started beside them, waits for; empty for any other start."""
    titles = [stage_title(row.name) for row in rows if row.active and row.name in STAGES]
    if name != PIPELINE.name or not titles:
        return ""
    are, them = ("are", "them") if len(titles) > 1 else ("is", "it")
    return f"{listed(titles)} {are} already running; the pipeline waits for {them} instead of starting {them} again."


def changed_words(found: Outlook) -> str:
    """Under which other settings a training goes on, or that it is finished; empty if it goes on under the same."""
    if found.step is not None and found.finished:
        return f"Training adds no step: it is finished at step {found.step:,}."
    if found.step is None or not found.changed:
        return ""
    return f"Training continues from step {found.step:,} with {by_label(found.changed_words)}."


def worse_words(found: Outlook) -> str:
    """That a training goes on with a student that is worse than at the start, and how to begin again; else empty."""
    if found.worse is None or found.finished:
        return ""
    first, now = map(significant, found.worse)
    stop, again, there = map(key_names.key, ("experiment.stop", "checkpoints.resume", "experiment.checkpoints"))
    return (
        f"It goes on from a held-out loss of {now}, above {first} at the start; to begin again instead, stop it "
        f"({stop}) and press {again} at step 0 in Checkpoints ({there})."
    )
