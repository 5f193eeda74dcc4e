"""How far a training is, and how it goes into a checkpoint and comes back. It knows no loop and no files.

Everything that decides what comes next is kept: counters, cursor, activation bits, optimizer, loss scale, random
state. A resumed training is therefore the uninterrupted one, bit for bit on a CPU.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from bitnet_core.errors import BitnetError
from bitnet_core.model.student import Student
from bitnet_core.training.batches import Sampler
from bitnet_core.training.checkpoints import Checkpoint
from bitnet_core.training.monitor import Divergence, Meter, TernaryWatch
from bitnet_core.training.schedule import Schedule
from bitnet_core.training.step import Stepper


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
    rate_scale: float = 1.0
    rolled_back: bool = False
    meter: Meter = field(default_factory=Meter)
    divergence: Divergence = field(default_factory=Divergence)
    ternary: TernaryWatch = field(default_factory=TernaryWatch)

    def counters(self) -> dict[str, Any]:
        """What a checkpoint keeps of this besides its own fields."""
        return {
            "unmeasured": self.unmeasured,
            "refused": self.refused,
            "refused_in_a_row": self.refused_in_a_row,
            "first_loss": self.first_loss,
            "last": self.last,
            "meter": self.meter.state(),
            "divergence": self.divergence.state(),
            "ternary": self.ternary.state(),
            "activations": self.activations,
            "rate_scale": self.rate_scale,
            "rolled_back": self.rolled_back,
        }

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "TrainState":
        """The state at the checkpoint; what older checkpoints don't have is as at the start."""
        counters = checkpoint.counters
        state = cls(
            step=checkpoint.step,
            seen_tokens=checkpoint.seen_tokens,
            refused=counters["refused"],
            refused_in_a_row=counters["refused_in_a_row"],
            first_loss=counters["first_loss"],
            last=counters["last"],
            evaluations=list(checkpoint.evaluations),
            unmeasured=counters.get("unmeasured"),
            best=dict(checkpoint.best),
            activations=counters.get("activations", {}),
            rate_scale=counters.get("rate_scale", 1.0),
            rolled_back=counters.get("rolled_back", False),
            meter=Meter.from_state(counters["meter"]),
            divergence=Divergence(**counters.get("divergence", {})),
        )
        state.ternary.restore(counters.get("ternary"))
        return state


def capture(
    state: TrainState,
    stepper: Stepper,
    sampler: Sampler,
    schedule: Schedule,
    *,
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
        counters={"layer_bits": list(student.layer_bits)} | state.counters(),
        evaluations=state.evaluations,
        best=state.best,
        recipe=recipe,
    )


def restore(checkpoint: Checkpoint, stepper: Stepper, sampler: Sampler) -> TrainState:
    """Put student, optimizer, cursor and random state back; BitnetError for tensors that don't fit."""
    student: Student = stepper.student
    try:
        student.load_state_dict(checkpoint.model)
        stepper.restore(checkpoint.optimizer, checkpoint.scaler)
    except (RuntimeError, ValueError, KeyError) as error:
        raise BitnetError(
            f"The checkpoint of step {checkpoint.step} does not fit the student that it describes; "
            "move it away to resume from the one before it."
        ) from error
    student.activation_bits = checkpoint.activation_bits
    if layer_bits := checkpoint.counters.get("layer_bits"):
        student.set_layer_bits(layer_bits)
    torch.set_rng_state(checkpoint.rng["cpu"])
    if stepper.device.type == "cuda" and "cuda" in checkpoint.rng:
        torch.cuda.set_rng_state(checkpoint.rng["cuda"], stepper.device)
    sampler.restore(checkpoint.sampler)
    return TrainState.of(checkpoint)
