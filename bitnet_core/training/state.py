"""How far a training is, how that goes into a checkpoint and comes back, and from which checkpoint it may resume.

Everything that decides what comes next is kept: counters, cursor, activation bits, optimizer, loss scale, random
state. A resumed training is therefore the uninterrupted one, bit for bit on a CPU. It knows no loop.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from bitnet_core.errors import BitnetError, lacks_memory
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import TrainOptions
from bitnet_core.traces.examples import Example
from bitnet_core.training import checkpoints, ramp
from bitnet_core.training.batches import Sampler
from bitnet_core.training.checkpoints import Checkpoint
from bitnet_core.training.monitor import Divergence, Meter, TernaryWatch
from bitnet_core.training.schedule import Schedule
from bitnet_core.training.step import Stepper

RANDOM_START = {"STUDENT_INIT": "random", "STUDENT_INIT_LAYERS": "", "STUDENT_INIT_FIT_STEPS": 0}
_REFUSALS = ("refused", "refused_in_a_row", "rate_scale", "rolled_back")
_PLAIN = ("unmeasured", "first_loss", "last", "activations", "origin", "budget", *_REFUSALS)
"""Fields of `TrainState` that a checkpoint keeps among its counters, as they are."""
_FLIP = ("FLIP_FRACTION", "FLIP_POLICY", "FLIP_RAMP_FRACTION")
_BEFORE = {
    "A4_POLICY": "all",
    "TRAIN_ONLINE": "",
    "ON_POLICY_FRACTION": 0.0,
    "ON_POLICY_KL": "",
    "QUANT_RAMP_FRACTION": 0.0,
    **RANDOM_START,
}
"""What checkpoints of versions without these settings were trained with."""


class FirstWeights(Protocol):
    """Gives a new student weights other than random ones; what it returns is kept in every checkpoint."""

    settings: dict[str, Any]
    """What identifies them among the recipe."""

    def __call__(self, student: Student, examples: Sequence[Example], reporter: Reporter) -> dict[str, Any]:
        """Change the weights in place. Stopped when the reporter is asked to stop."""


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

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "TrainState":
        """The state at the checkpoint; what older checkpoints don't have is as at the start."""
        counters = checkpoint.counters
        state = cls(
            step=checkpoint.step,
            seen_tokens=checkpoint.seen_tokens,
            evaluations=list(checkpoint.evaluations),
            best=dict(checkpoint.best),
            meter=Meter(**counters["meter"]),
            divergence=Divergence(**counters.get("divergence", {})),
            **{name: counters[name] for name in _PLAIN if name in counters},
        )
        state.ternary.restore(counters.get("ternary"))
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


def restore(checkpoint: Checkpoint, stepper: Stepper, sampler: Sampler) -> TrainState:
    """Put student, optimizer, cursor and random state back; BitnetError for tensors that don't fit."""
    student = stepper.student
    try:
        student.load_state_dict(checkpoint.model)
        stepper.restore(checkpoint.optimizer, checkpoint.scaler)
    except (RuntimeError, ValueError, KeyError) as error:
        if lacks_memory(error):
            raise
        raise BitnetError(
            f"The checkpoint of step {checkpoint.step} does not fit the student that it describes; "
            "move it away to resume from the one before it."
        ) from error
    student.activation_bits = checkpoint.activation_bits
    if layer_bits := checkpoint.counters.get("layer_bits"):
        student.set_layer_bits(layer_bits)
    student.quantized_share = checkpoint.quantized_share
    torch.set_rng_state(checkpoint.rng["cpu"])
    if stepper.device.type == "cuda" and "cuda" in checkpoint.rng:
        torch.cuda.set_rng_state(checkpoint.rng["cuda"], stepper.device)
    sampler.restore(checkpoint.sampler)
    return TrainState.of(checkpoint)


def recipe(options: TrainOptions) -> dict[str, int | float | str]:
    """What decides the student besides its data, by setting. How long it trains is not part of it."""
    return {
        "TRAIN_BATCH_SIZE": options.batch_size,
        "GRAD_ACCUM_STEPS": options.accumulate,
        "MAX_SEQ_LEN": options.max_seq_len,
        "LR": options.rate.peak,
        "SCHEDULER_ETA_MIN": options.rate.floor,
        "ADAM_BETA1": options.beta1,
        "ADAM_BETA2": options.beta2,
        "ADAM_EPS": options.eps,
        "WEIGHT_DECAY": options.weight_decay,
        "GRAD_CLIP_NORM": options.clip_norm,
        "LR_SCHEDULE": options.rate.shape,
        "FLIP_FRACTION": options.flip.fraction,
        "FLIP_POLICY": options.flip.policy,
        "QUANT_RAMP_FRACTION": options.flip.quant_ramp_fraction or 0.0,
        "FLIP_RAMP_FRACTION": options.flip.ramp_fraction if options.flip.policy == "ramp" else 0.0,
        "KD_TAU": options.loss.tau,
        "KD_WEIGHT": options.loss.kd,
        "KD_CE_WEIGHT": options.loss.ce,
        "FORMAT_LOSS_WEIGHT": options.loss.format,
        "SEED": options.seed,
        "PACK_SEQUENCES": options.pack,
        "STUDENT_QUANTIZE": options.quantize,
        "ON_POLICY_FRACTION": options.on_policy.fraction,
        "ON_POLICY_KL": options.on_policy.divergence if options.on_policy.fraction else "",
    }


def checkpoint_to_resume(
    folder: Path,
    config: StudentConfig,
    tokenizer_hash: str,
    wanted: dict[str, Any],
    reporter: Reporter,
    step: int | None,
    flip_is_ahead: Callable[[Path, Checkpoint], bool],
) -> tuple[Path, Checkpoint] | None:
    """The newest complete checkpoint; None where there is none, or none of the recipe `wanted`.

    Raises BitnetError for a checkpoint of another student. One of another recipe is set aside: training on from it
    would certify a student under settings that it was not trained with. When the flip comes is not part of the recipe
    while no layer has flipped, and none would have if the flip had been where it is wanted now (`flip_is_ahead`).

    With a `step`, the checkpoint of that step; BitnetError if it isn't there or has another recipe.
    """
    path = checkpoints.latest(folder) if step is None else checkpoints.of_step(folder, step)
    for newer in checkpoints.found(folder) if step is None else ():
        if newer == path:
            break
        reporter.alert("warning", "checkpoint_incomplete", f"{newer} is incomplete and is skipped.", "Move it away.")
    if path is None:
        return None
    checkpoint = checkpoints.load(path)
    checkpoints.require_same_student(path, checkpoint, config, tokenizer_hash)
    changed = [name for name, value in wanted.items() if checkpoint.recipe.get(name, _BEFORE.get(name)) != value]
    if 4 not in checkpoint.counters.get("layer_bits", [checkpoint.activation_bits]):
        undecided = {"A4_POLICY", *(_FLIP if flip_is_ahead(path, checkpoint) else ())}
        changed = [name for name in changed if name not in undecided]
    if changed and step is not None:
        raise BitnetError(
            f"{path} was trained with another {', '.join(changed)}; "
            "restore the old value to resume from it, or train without --from to start again."
        )
    if changed:
        aside = checkpoints.set_aside(folder, checkpoints.found(folder))
        reporter.alert(
            "warning",
            "training_superseded",
            f"{', '.join(changed)} changed since {path.name}: training starts again, "
            f"and the old checkpoints are kept in {aside}.",
            "To resume from them instead, move them back and restore the old values.",
        )
        return None
    return path, checkpoint


def keep_newer_aside(path: Path, state: TrainState, reporter: Reporter) -> None:
    """Say from which checkpoint training resumes. Newer ones are moved away, and it says where to."""
    reporter.log(f"Resuming from {path.name}: step {state.step}, {state.seen_tokens} tokens seen.")
    if newer := checkpoints.newer_than(path.parent, path):
        aside = checkpoints.set_aside(path.parent, newer)
        reporter.log(f"Newer checkpoints ({len(newer)}) are kept in {aside}.")
