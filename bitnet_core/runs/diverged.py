"""Whether a training ended because it diverged, by the beginning of the error in its record."""

from bitnet_core.runs.record import RunRecord

DIVERGED, NOT_FINITE = "Training diverged", "Loss or gradient was not finite"
"""How the two errors begin: of a loss that kept climbing, and of steps that stayed not finite."""


def has_diverged(record: RunRecord) -> bool:
    """Whether the trainer itself ended this run because its loss or its steps were lost."""
    ended = record.stage == "train" and record.state == "failed"
    return ended and (record.error or "").startswith((DIVERGED, NOT_FINITE))
