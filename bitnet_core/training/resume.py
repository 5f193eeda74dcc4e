"""Whether a training may resume from what is in its folder: the same student, trained by the same recipe."""

from pathlib import Path
from typing import Any

from bitnet_core.model.config import StudentConfig
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import TrainOptions
from bitnet_core.training import checkpoints
from bitnet_core.training.checkpoints import Checkpoint


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
        "FLIP_RAMP_FRACTION": options.flip.ramp_fraction if options.flip.policy == "ramp" else 0.0,
        "KD_TAU": options.loss.tau,
        "KD_WEIGHT": options.loss.kd,
        "KD_CE_WEIGHT": options.loss.ce,
        "FORMAT_LOSS_WEIGHT": options.loss.format,
        "SEED": options.seed,
        "PACK_SEQUENCES": options.pack,
        "STUDENT_QUANTIZE": options.quantize,
    }


def checkpoint_to_resume(
    folder: Path, config: StudentConfig, tokenizer_hash: str, wanted: dict[str, Any], reporter: Reporter
) -> tuple[Path, Checkpoint] | None:
    """The newest complete checkpoint; None where there is none, or none of the recipe `wanted`.

    Raises BitnetError for a checkpoint of another student. One of another recipe is set aside: training on from it
    would certify a student under settings that it was not trained with.
    """
    path = checkpoints.latest(folder)
    for newer in checkpoints.found(folder):
        if newer == path:
            break
        reporter.alert("warning", "checkpoint_incomplete", f"{newer} is incomplete and is skipped.", "Move it away.")
    if path is None:
        return None
    checkpoint = checkpoints.load(path)
    checkpoints.require_same_student(path, checkpoint, config, tokenizer_hash)
    changed = [name for name, value in wanted.items() if checkpoint.recipe.get(name) != value]
    if changed:
        aside = checkpoints.set_aside(folder)
        reporter.alert(
            "warning",
            "training_superseded",
            f"{', '.join(changed)} changed since {path.name}: training starts again, "
            f"and the old checkpoints are kept in {aside}.",
            "To resume from them instead, move them back and restore the old values.",
        )
        return None
    return path, checkpoint
