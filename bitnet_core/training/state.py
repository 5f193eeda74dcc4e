"""How far a training is, how that goes into a checkpoint and comes back, and from which checkpoint it may resume.

Everything that decides what comes next is kept: counters, cursor, activation bits, optimizer, loss scale, random
state. A resumed training is therefore the uninterrupted one, bit for bit on a CPU. It knows no loop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, get_type_hints

import msgspec
import torch
from torch import Tensor

from bitnet_core.errors import BitnetError, lacks_memory
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.runs.events import SettingsChanged
from bitnet_core.runs.reporter import Reporter
from bitnet_core.runs.resuming import SUPERSEDED, Changes, Reached, budget_change, changes, judge, loss_differs
from bitnet_core.settings.flip import Budget
from bitnet_core.settings.values import TrainOptions
from bitnet_core.traces.examples import Example
from bitnet_core.training import checkpoints, ramp
from bitnet_core.training.batches import Sampler
from bitnet_core.training.budget import kept_in
from bitnet_core.training.checkpoints import Checkpoint
from bitnet_core.training.monitor import Divergence, Meter, TernaryWatch
from bitnet_core.training.schedule import Schedule
from bitnet_core.training.step import Stepper

_REFUSALS = ("refused", "refused_in_a_row", "rate_scale", "rolled_back")
_PLAIN = ("unmeasured", "first_loss", "last", "activations", "origin", "budget", "changes", *_REFUSALS)
"""Fields of `TrainState` that a checkpoint keeps among its counters, as they are."""


class FirstWeights(Protocol):
    """Gives a new student weights other than random ones; what it returns is kept in every checkpoint."""

    settings: dict[str, Any]
    """What identifies them among the recipe."""

    def __call__(
        self, student: Student, examples: Sequence[Example], reporter: Reporter, folder: Path | None
    ) -> dict[str, Any]:
        """Change the weights in place. Stopped when the reporter is asked to stop.

        What is done by then may be kept in `folder`: the same call continues from there.
        """


@dataclass
class TrainState:
    """What a training has counted and measured so far."""

    step: int = 0
    """Completed optimizer steps."""
    seen_tokens: int = 0
    """Supervised completion tokens of the completed steps."""
    refused: int = 0
    """Steps that were skipped because loss or gradient was not finite."""
    refused_in_a_row: int = 0
    first_loss: float | None = None
    last: dict[str, Any] = field(default_factory=dict)
    """The figures of the last reported step."""
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    unmeasured: str | None = None
    """The evaluation that a stop cut short; it is repeated when training resumes."""
    best: dict[str, Any] = field(default_factory=dict)
    """Step and held-out loss of the best checkpoint."""
    activations: dict[str, float] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    """Where the first weights came from: the source, its hash and its layers; empty for random ones."""
    budget: dict[str, Any] = field(default_factory=dict)
    """The record of a `Budget`: the tokens to see."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    """Each time that it went on under other settings: step, seen tokens, and the values before and after."""
    rate_scale: float = 1.0
    rolled_back: bool = False
    meter: Meter = field(default_factory=Meter)
    divergence: Divergence = field(default_factory=Divergence)
    ternary: TernaryWatch = field(default_factory=TernaryWatch)

    def counters(self) -> dict[str, Any]:
        """What a checkpoint keeps of this besides its own fields."""
        return {name: getattr(self, name) for name in _PLAIN} | {
            "meter": self.meter.state(),
            "divergence": self.divergence.state(),
            "ternary": self.ternary.state(),
        }

    def take(self, changed: Changes) -> None:
        """Note that the steps to come have other settings. Another LR is not halved by what failed under the old one.

        A loss of other parts says nothing of the lowest one so far.
        """
        if not changed:
            return
        before, after = ({name: two[side] for name, two in changed.items()} for side in (0, 1))
        noted = {"step": self.step, "seen_tokens": self.seen_tokens, "before": before, "after": after}
        if self.step:  # else no step had the old ones
            self.changes = [*self.changes, noted]
        if "LR" in changed:
            self.rate_scale, self.rolled_back = 1.0, False
        if loss_differs(changed):
            self.divergence = Divergence()

    @classmethod
    def of(cls, checkpoint: Checkpoint, student: Student) -> "TrainState":
        """The state at the checkpoint; what older checkpoints don't have is as at the start.

        ValueError for what has another type, or is of another student.
        """
        counters, types = checkpoint.counters, get_type_hints(cls)
        kept = {name: counters[name] for name in _PLAIN if name in counters}
        state = cls(
            step=checkpoint.step,
            seen_tokens=checkpoint.seen_tokens,
            evaluations=list(checkpoint.evaluations),
            best=dict(checkpoint.best),
            meter=msgspec.convert(counters.get("meter", {}), Meter),
            divergence=msgspec.convert(counters.get("divergence", {}), Divergence),
            **{name: msgspec.convert(value, types[name]) for name, value in kept.items()},
        )
        state.ternary.restore(msgspec.convert(counters.get("ternary"), list[Tensor] | None), student)
        return state


def capture(
    state: TrainState,
    stepper: Stepper,
    sampler: Sampler,
    schedule: Schedule,
    tokenizer_hash: str,
    recipe: dict[str, Any],
) -> Checkpoint:
    """A checkpoint of the training as it is now. Its tensors are the student's own, not copies."""
    student, device = stepper.student, stepper.device
    rng: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        rng["cuda"] = torch.cuda.get_rng_state(device)
    return Checkpoint(
        step=state.step,
        seen_tokens=state.seen_tokens,
        activation_bits=student.activation_bits,
        config=student.config,
        tokenizer_hash=tokenizer_hash,
        model=student.state_dict(),
        **stepper.state(),
        scheduler={"step": state.step, "next_lr": schedule.rate(state.step)},
        rng=rng,
        sampler=sampler.state(),
        counters={"layer_bits": list(student.layer_bits), ramp.FIELD: student.quantized_share} | state.counters(),
        evaluations=state.evaluations,
        best=state.best,
        recipe=recipe,
    )


def restore(
    path: Path, checkpoint: Checkpoint, stepper: Stepper, sampler: Sampler, recipe: Mapping[str, Any], budget: Budget
) -> TrainState:
    """Put student, optimizer, cursor and random state back; BitnetError for tensors that don't fit.

    Where the `recipe` and the `budget` differ from the checkpoint at `path`, that is noted in the state.
    """
    student = stepper.student
    try:
        student.load_state_dict(checkpoint.model)
        stepper.restore(checkpoint.optimizer, checkpoint.scaler)
        student.set_layer_bits(checkpoint.layer_bits)
        torch.set_rng_state(checkpoint.rng["cpu"])
        if stepper.device.type == "cuda" and "cuda" in checkpoint.rng:
            torch.cuda.set_rng_state(checkpoint.rng["cuda"], stepper.device)
        sampler.restore(checkpoint.sampler)
        state = TrainState.of(checkpoint, student)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:  # each part raises its own
        if lacks_memory(error):
            raise
        raise BitnetError(
            f"The checkpoint of step {checkpoint.step} does not fit the student and the training that it describes; "
            "move it away to resume from the one before it."
        ) from error
    student.quantized_share = checkpoint.quantized_share
    state.take({**changes(checkpoint.recipe, recipe), **budget_change(kept_in(path, checkpoint), budget.tokens)})
    state.budget = budget.record()
    return state


def checkpoint_to_resume(
    folder: Path,
    student: tuple[StudentConfig, str],
    wanted: dict[str, Any],
    options: TrainOptions,
    epoch_tokens: int,
    reporter: Reporter,
) -> tuple[Path, Checkpoint] | None:
    """The newest complete checkpoint; None where there is none, or none from which the training `wanted` can go on.

    `student` is its shape and the hash of its tokenizer, `options` have the budget that is asked for.
    Raises BitnetError for a checkpoint of another student. One from which the training can't go on (`judge`) is set
    aside with the others: training on would certify a student under settings that it was not trained with.

    With `resume_step` in the options, the checkpoint of that step; BitnetError if it isn't there or the training
    can't go on from it. With 0, that of a start which was made as it is `wanted`, if there is one; the others are set
    aside.
    """
    step = options.resume_step
    if step == 0:
        made = _made_start(folder, student, wanted, options, epoch_tokens)
        _start_again(folder, reporter, made=made[0] if made else None)
        return made
    path = checkpoints.latest(folder) if step is None else checkpoints.of_step(folder, step)
    for newer in checkpoints.found(folder) if step is None else ():
        if newer == path:
            break
        why = f"{newer} {checkpoints.fault(newer)}, so it is skipped."
        reporter.alert("warning", "checkpoint_incomplete", why, "Move it away.")
    if path is None:
        return None
    checkpoint = checkpoints.load(path)
    checkpoints.require_same_student(path, checkpoint, *student)
    verdict = judge(reached(path, checkpoint), wanted, options, epoch_tokens)
    if verdict.goes_on:
        return path, checkpoint
    if step is not None:
        restore_them = "restore the old values" if verdict.barred else "choose an earlier step, raise the budget"
        raise BitnetError(
            f"Training can't go on from {path}: {verdict.why_not}; {restore_them}, "
            "or start again with `bitnet train --from 0`."
        )
    _start_again(folder, reporter, f"Training starts again after {path.name}: {verdict.why_not}")
    return None


def _made_start(
    folder: Path, student: tuple[StudentConfig, str], wanted: dict[str, Any], options: TrainOptions, epoch_tokens: int
) -> tuple[Path, Checkpoint] | None:
    """The checkpoint of step 0, if making the start again would give the same one: that takes minutes to hours."""
    path = checkpoints.path_of(folder, 0)
    if not checkpoints.is_complete(path):
        return None
    try:
        checkpoint = checkpoints.load(path)
        checkpoints.require_same_student(path, checkpoint, *student)
    except BitnetError:
        return None
    if not checkpoint.counters.get("origin") or checkpoint.counters.get("rolled_back"):
        return None
    return (path, checkpoint) if judge(reached(path, checkpoint), wanted, options, epoch_tokens).goes_on else None


def _start_again(folder: Path, reporter: Reporter, why: str = "", made: Path | None = None) -> None:
    """Set all checkpoints but the `made` start aside, and say so; without a `why` it was asked for, so no alert."""
    there = [one for one in checkpoints.found(folder) if one != made]
    if not there:
        return
    aside = checkpoints.set_aside(folder, there)
    if not why:
        reporter.log(f"Training starts again, as asked. The old checkpoints are kept in {aside}.")
        return
    reporter.alert(
        "warning",
        SUPERSEDED,
        f"{why}. The old checkpoints are kept in {aside}.",
        "To go on from them instead, move them back and restore the old values.",
    )


def reached(path: Path, checkpoint: Checkpoint) -> Reached:
    """How far the training of a checkpoint was, for `judge`."""
    flipped = 4 in checkpoint.layer_bits
    budget = kept_in(path, checkpoint)
    return Reached(checkpoint.step, checkpoint.seen_tokens, checkpoint.recipe, flipped, budget)


def keep_newer_aside(path: Path, checkpoint: Checkpoint, state: TrainState, reporter: Reporter) -> None:
    """Say from which checkpoint training resumes, and under which other settings. Newer ones are moved away."""
    reporter.log(f"Resuming from {path.name}: step {state.step}, {state.seen_tokens} tokens seen.")
    for noted in state.changes[len(checkpoint.counters.get("changes", ())) :]:
        reporter.emit(SettingsChanged(**noted))
    if newer := checkpoints.newer_than(path.parent, path):
        aside = checkpoints.set_aside(path.parent, newer)
        reporter.log(f"Newer checkpoints ({len(newer)}) are kept in {aside}.")
