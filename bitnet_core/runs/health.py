"""How a run is doing, in words: what is wrong and what to do about it, or that it is well and when it will be done.

Pure: a run's vitals, what it was started with and how its machine stands go in, sentences come out. The limits are
named here and nowhere else.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bitnet_core.runs.ahead import flip_step, has_flipped, last_step, reachable
from bitnet_core.runs.finding import Finding, Level
from bitnet_core.runs.report_health import NOW_OF, climbing, is_steady, not_finite, slow, spikes, spiking, usual_norm
from bitnet_core.runs.trend import (
    RISES,
    RUINED,
    comparable,
    is_late,
    is_worse,
    old,
    rises,
    since_change,
    trend,
    unsettled,
    way_since_change,
)
from bitnet_core.runs.vitals import Change, Evaluation, Plan, Vitals
from bitnet_core.text import (
    count,
    flat,
    left_words,
    number,
    percent,
    progress_words,
    roughly,
    significant,
    size,
)

SILENT, SILENT_GAPS = 120.0, 5.0
"""A run that reports nothing for two minutes, and for five times its longest silence before, has stalled."""
DEAD_SILENT = 900.0
"""After this long it is one in any case."""
MEMORY_WARN, MEMORY_BAD = 0.10, 0.04
"""The share of the machine's memory that is free when it becomes scarce, and when the run may be killed any time."""
DISK_CHECKPOINTS = 2.0
"""A new checkpoint is complete before an old one is removed, so the disk needs room for two."""
DISK_LEAST = 500e6
"""And as much for whatever else is written, while a checkpoint's size is not known."""
SHORT_OF_FLIP = 0.98
"""Steps that will see less than this share of the tokens until the flip will never reach it."""


@dataclass(frozen=True)
class Machine:
    """How the machine of a run stands, in bytes; None = not known, as for a run on another one."""

    memory_free: float | None = None
    memory: float | None = None
    disk_free: float | None = None


UNKNOWN_MACHINE = Machine()


def train_health(
    vitals: Vitals, plan: Plan, machine: Machine = UNKNOWN_MACHINE, silent: float = 0.0
) -> tuple[Finding, ...]:
    """A training that is active: what is wrong, the worst first, or one line that all is well.

    `silent` is for how many seconds it has reported nothing.
    """
    if not vitals.reports and not vitals.evaluations:
        return silence(vitals, silent) or (_beginning(vitals),)
    plan = plan.decided(vitals.budget)
    found = [
        *silence(vitals, silent),
        *not_finite(vitals),
        *machine_findings(vitals, machine),
        *_worse(vitals),
        *climbing(vitals),
        *_rising(vitals),
        *spikes(vitals.reports),
        *slow(vitals.reports),
        *_late_recovery(vitals, plan),
        *_no_flip(vitals, plan),
    ]
    if not found:
        level, verdict = _verdict(vitals)
        return (Finding(level, f"{verdict}: {_going(vitals, plan)}."),)
    return tuple(sorted(found, key=lambda one: one.level != "bad"))


def trained(vitals: Vitals, begins: str = "Done: held-out") -> tuple[Finding, ...]:
    """A training that has succeeded. The sentence `begins` with what is told of."""
    if vitals.first is None or vitals.best is None or not vitals.evaluations:
        return ()
    first, last, best = vitals.first.loss, vitals.evaluations[-1].loss, vitals.best
    lower = best.loss < last and significant(best.loss) != significant(last)
    best_at = f", best {significant(best.loss)} at step {number(best.step)}" if best.step else ", best at the start"
    at = best_at if lower else ""
    worse, (since, before) = is_worse(last, first, ended=True), way_since_change(vitals)
    if significant(first) == significant(last):
        words = f"{begins} stayed at {significant(last)}{at}"
    else:
        words = f"{begins} {'rose' if worse else 'fell'} from {significant(first)} to {significant(last)}{at}"
    if vitals.changed and (since == "rose" or (worse and since)):
        words += f"; since {_changed(vitals.changed)} it {since} from {significant(before)}"
    if not worse and since != "rose":
        return (Finding("good", f"{words}."),)
    again = "To train from the start under these settings may help."
    fewer = "A" if vitals.epochs is not None and vitals.epochs <= 1 else "Fewer epochs, a"
    return (
        Finding("warn", f"{words}.", again if since == "fell" else f"{fewer} lower LR or more answers may help."),
    )


# -- the held-out loss -----------------------------------------------------------------------------------------------


def _verdict(vitals: Vitals) -> tuple[Level, str]:
    """What a training is called that has no fault."""
    if _untold(vitals):
        return "calm", "Too early to tell"
    if unsettled(vitals):
        return "calm", "Unsettled by the flip"
    return ("calm", "Unsettled") if trend(vitals).direction == "rises" else ("good", "Healthy")


def _outlook(vitals: Vitals, plan: Plan) -> Iterator[str]:
    """The parts of the sentence about a training without a fault."""
    now, before = trend(vitals), vitals.before_flip
    found = now.evaluations
    measured = found or vitals.evaluations
    age = _age(measured[-1], vitals, plan) if measured and (now.direction is None or now.of_two) else ""
    since = "" if age or not measured else old(measured[-1], vitals)
    if vitals.share is not None and vitals.share < 1:
        yield f"{percent(vitals.share, 1)} of the way to ternary weights"
    elif not measured:
        yield "no held-out loss yet"
    elif not found:
        yield f"held-out was {significant(measured[-1].loss)} before the flip"
    elif before is not None and unsettled(vitals):
        yield f"held-out {significant(found[-1].loss)}{age}{since}, {significant(before.loss)} before it"
        if now.direction:
            yield f"it {'is ' if now.direction == 'level' else ''}{now.words}"
    elif now.direction in ("falls", "rises"):
        yield f"held-out {now.words}{age.replace(' at', ' by', 1)}{since}"
    else:
        yield f"held-out {'level at ' if now.direction else ''}{significant(found[-1].loss)}{age}{since}"
    if any(spiking(vitals.reports)):
        yield "one gradient spike"
    elif is_steady(vitals.reports) and not (age or since or _untold(vitals)):
        yield "gradient steady"  # left out where the line would need a second one, or it would pass for a verdict


def _age(measured: Evaluation, vitals: Vitals, plan: Plan) -> str:
    """` at step 0, next at 60` of an evaluation that later steps have made old; else nothing."""
    step, every = vitals.reports[-1].step if vitals.reports else None, plan.evaluates_every
    if step is None or measured.step is None or measured.step >= step:
        return ""
    at = f" at step {number(measured.step)}"
    gap, ends = vitals.cadence.after(measured.when), last_step(vitals, plan) or math.inf
    coming = [(step // every + 1) * every] if every and every >= 1 else []
    following = min([*coming, measured.step + gap] if gap else coming, default=math.inf)
    if following <= step:  # it is being made
        return at
    if flip_step(vitals, plan) < min(following, ends):
        return f"{at}, next at the flip"
    if following < ends:
        return f"{at}, next at {number(following)}"
    return at if ends == math.inf or not (coming or gap) else f"{at}, next at the end"


def _untold(vitals: Vitals) -> bool:
    """Whether nothing has shown yet if the student learns.

    The first evaluation comes before the first step, also after a change of settings; the second one tells. Without
    held-out prompts there is none, and until the student is ternary none counts: there the gradient tells.
    """
    if not vitals.evaluations:
        return usual_norm(vitals.reports) is None
    return len(since_change(vitals)) < 2


def _worse(vitals: Vitals) -> Iterator[Finding]:
    """Whether the student is worse than before its first step, and not because of the flip."""
    first, before = vitals.first, vitals.before_flip
    if first is None or first.step or not vitals.evaluations:
        return
    last, change = vitals.evaluations[-1], vitals.changed
    if not is_worse(last.loss, first.loss, before.loss if before else None, ended=False):
        return
    since = f"{significant(first.loss)} before the first step"
    at = f"{significant(last.loss)} at step {number(last.step)}"
    ruined = last.loss > first.loss * RUINED
    advice = "LR is probably too large: stop, lower it and begin again." if ruined else "Lower LR if it stays so."
    direction, at_change = way_since_change(vitals)
    if change and direction == "fell":
        way = f"{significant(at_change)} → {significant(last.loss)}, still above {significant(first.loss)}"
        yield Finding("warn", f"Recovering since {_changed(change)}: held-out {way} at the start.")
        return
    told = not change or len(since_change(vitals)) > 1
    if change and not told:
        advice = f"The next evaluation tells whether {change.words} helps."
    words = "Ruined" if ruined else "Worse than at the start"
    yield Finding("bad" if ruined and told else "warn", f"{words}: held-out {at}, {since}.", advice)


def _changed(change: Change) -> str:
    return f"{change.words} at step {number(change.step)}"


def _rising(vitals: Vitals) -> Iterator[Finding]:
    losses = [one.loss for one in comparable(vitals)]
    times = rises(losses)
    if times < RISES:
        return
    best = vitals.best
    kept = f"stop and use the checkpoint of step {number(best.step)}, the best" if best and best.step else "stop"
    yield Finding(
        "bad" if times >= 2 * RISES else "warn",
        f"The held-out loss has risen for {times} evaluations, from {significant(losses[-1 - times])} to "
        f"{significant(losses[-1])}.",
        f"If it goes on, {kept}; or lower LR.",
        "heldout_rising",
    )


# -- the flip, and the end -------------------------------------------------------------------------------------------


def _late_recovery(vitals: Vitals, plan: Plan) -> Iterator[Finding]:
    before, begun, found = vitals.before_flip, vitals.flip_at, comparable(vitals)
    if before is None or begun is None or plan.flip is None or not found:
        return
    if unsettled(vitals) and is_late(found[-1].seen - begun, plan.flip.budget - begun):
        yield Finding(
            "warn",
            f"Not recovered from the flip: held-out {significant(found[-1].loss)}, {significant(before.loss)} "
            "before it.",
            "Next time flip earlier (FLIP_FRACTION), or layer by layer (FLIP_POLICY=ramp).",
        )


def _no_flip(vitals: Vitals, plan: Plan) -> Iterator[Finding]:
    end, flip = reachable(vitals, plan), plan.flip
    wanted = flip is not None and flip.threshold < flip.budget
    if end is None or flip is None or not wanted or has_flipped(vitals) or len(vitals.reports) < NOW_OF:
        return
    if end < SHORT_OF_FLIP * flip.threshold:
        yield Finding(
            "warn",
            f"It will never reach its flip: its {number(plan.steps)} steps end at about {count(end)} tokens, and the "
            f"flip is at {count(flip.threshold)}.",
            f"Stop, set BUDGET_TOKENS to about {count(end)} or raise TOTAL_STEPS, and go on.",
            "no_flip",
        )


def _when(vitals: Vitals, plan: Plan) -> Iterator[str]:
    """When the flip and the end are due, by the run's own estimate of the time that is left."""
    left = vitals.progress.eta_s if vitals.progress and vitals.progress.unit in ("steps", "tokens") else None
    end = reachable(vitals, plan)
    if left is None or not left:
        return
    seen = vitals.reports[-1].seen if vitals.reports else 0.0
    if end and plan.flip and not has_flipped(vitals) and seen < plan.flip.threshold <= end and seen < end:
        yield f"flip in {roughly(left * (plan.flip.threshold - seen) / (end - seen))}"
        if vitals.evaluations and _untold(vitals):
            return  # the line would need a second one
    yield f"done in {roughly(left)}"


# -- any stage -------------------------------------------------------------------------------------------------------


def silence(vitals: Vitals, silent: float, *, resumes: bool = True) -> tuple[Finding, ...]:
    """Whether a run that has reported nothing for `silent` seconds has stalled."""
    if silent < max(SILENT, min(DEAD_SILENT, SILENT_GAPS * vitals.longest_gap)):
        return ()
    level: Level = "bad" if silent >= DEAD_SILENT else "warn"
    words = f"Stalled: it has reported nothing for {roughly(silent)}."
    kept = "a stop keeps what it has saved" if resumes else "after a stop it starts from the beginning"
    return (Finding(level, words, f"Look at its log and at the machine's load; {kept}."),)


def machine_findings(vitals: Vitals, machine: Machine) -> Iterator[Finding]:
    """Memory and disk that run out."""
    if machine.memory and machine.memory_free is not None and machine.memory_free < MEMORY_WARN * machine.memory:
        level: Level = "bad" if machine.memory_free < MEMORY_BAD * machine.memory else "warn"
        uses = f"; this run has used up to {size(vitals.peak_memory)}" if vitals.peak_memory else ""
        words = f"Memory is nearly used up{uses}."
        yield Finding(level, words, "Close other programs, or go on with a smaller TRAIN_BATCH_SIZE.")
    needed = vitals.checkpoint_bytes or 0.0
    if machine.disk_free is not None and machine.disk_free < max(DISK_CHECKPOINTS * needed, DISK_LEAST):
        level = "bad" if machine.disk_free < max(needed, DISK_LEAST / 10) else "warn"
        why = f"a checkpoint takes {size(needed)}" if needed else "the next files may not fit"
        yield Finding(level, f"The disk is nearly full: {why}.", "Free space on the experiment's disk.")


def _beginning(vitals: Vitals) -> Finding:
    if vitals.progress is None:
        return Finding("calm", "Starting: reading its settings and traces.")
    return now_words(vitals)


def now_words(vitals: Vitals) -> Finding:
    """What a stage is doing now, by its newest progress."""
    progress = vitals.progress
    if progress is None:
        return Finding("calm", "Starting.")
    words = progress_words(progress.done, progress.total, flat(progress.unit)) if progress.unit else ""
    eta = roughly(progress.eta_s) if progress.eta_s else ""
    left = left_words(eta, progress.part, progress.parts, progress.first_step_in_s)
    left += " of this part" if eta and left == f"{eta} left" else ""
    told = ", ".join(filter(None, (flat(progress.label), words, left)))
    return Finding("calm", f"Now: {told or 'working'}.")


def _going(vitals: Vitals, plan: Plan) -> str:
    """How a training goes; while it does something else than steps, what that is comes first."""
    now = [flat(vitals.progress.label)] if vitals.progress and vitals.progress.label else []
    return ", ".join([*now, *_outlook(vitals, plan), *_when(vitals, plan)])
