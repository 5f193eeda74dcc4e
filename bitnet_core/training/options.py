"""The settings that training reads, as one typed value. No torch here."""

from dataclasses import dataclass
from typing import cast

from bitnet_core.settings.resolved import Settings
from bitnet_core.training.flip import FlipSchedule, Policy
from bitnet_core.training.losses import LossWeights
from bitnet_core.training.schedule import Schedule, Shape


@dataclass(frozen=True)
class TrainOptions:
    """Training ends at `total_steps` completed optimizer steps or `flip.budget_tokens` seen, whichever is first."""

    total_steps: int
    batch_size: int
    accumulate: int
    max_seq_len: int
    schedule: Schedule
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip_norm: float
    flip: FlipSchedule
    loss: LossWeights
    log_interval: int
    checkpoint_interval: int
    seed: int
    pack: bool
    quantize: bool
    workers: int
    compiled: bool

    def recipe(self) -> dict[str, int | float | str]:
        """What decides the student besides its data, by setting. How long it trains is not part of it."""
        return {
            "TRAIN_BATCH_SIZE": self.batch_size,
            "GRAD_ACCUM_STEPS": self.accumulate,
            "MAX_SEQ_LEN": self.max_seq_len,
            "LR": self.schedule.peak,
            "SCHEDULER_ETA_MIN": self.schedule.floor,
            "ADAM_BETA1": self.betas[0],
            "ADAM_BETA2": self.betas[1],
            "ADAM_EPS": self.eps,
            "WEIGHT_DECAY": self.weight_decay,
            "GRAD_CLIP_NORM": self.clip_norm,
            "LR_SCHEDULE": self.schedule.shape,
            "FLIP_FRACTION": self.flip.fraction,
            "FLIP_POLICY": self.flip.policy,
            "FLIP_RAMP_FRACTION": self.flip.ramp_fraction if self.flip.policy == "ramp" else 0.0,
            "KD_TAU": self.loss.tau,
            "KD_WEIGHT": self.loss.kd,
            "KD_CE_WEIGHT": self.loss.ce,
            "FORMAT_LOSS_WEIGHT": self.loss.format,
            "SEED": self.seed,
            "PACK_SEQUENCES": self.pack,
            "STUDENT_QUANTIZE": self.quantize,
        }

    @classmethod
    def from_settings(cls, settings: Settings) -> "TrainOptions":
        return cls(
            total_steps=settings.int("TOTAL_STEPS"),
            batch_size=settings.int("TRAIN_BATCH_SIZE"),
            accumulate=settings.int("GRAD_ACCUM_STEPS"),
            max_seq_len=settings.int("MAX_SEQ_LEN"),
            schedule=Schedule(
                settings.float("LR"),
                settings.float("SCHEDULER_ETA_MIN"),
                settings.int("SCHEDULER_TMAX"),
                cast(Shape, settings.text("LR_SCHEDULE")),
            ),
            betas=(settings.float("ADAM_BETA1"), settings.float("ADAM_BETA2")),
            eps=settings.float("ADAM_EPS"),
            weight_decay=settings.float("WEIGHT_DECAY"),
            clip_norm=settings.float("GRAD_CLIP_NORM"),
            flip=FlipSchedule(
                settings.int("BUDGET_TOKENS"),
                settings.float("FLIP_FRACTION"),
                cast(Policy, settings.text("FLIP_POLICY")),
                settings.float("FLIP_RAMP_FRACTION"),
            ),
            loss=LossWeights(
                settings.float("KD_TAU"),
                settings.float("KD_CE_WEIGHT"),
                settings.float("FORMAT_LOSS_WEIGHT"),
                settings.float("KD_WEIGHT"),
            ),
            log_interval=settings.int("LOG_INTERVAL"),
            checkpoint_interval=settings.int("CHECKPOINT_INTERVAL"),
            seed=settings.int("SEED"),
            pack=settings.bool("PACK_SEQUENCES"),
            quantize=settings.bool("STUDENT_QUANTIZE"),
            workers=settings.int("NUM_WORKERS"),
            compiled=settings.bool("TORCH_COMPILE"),
        )
