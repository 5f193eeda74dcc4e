"""Whether a training ended because it diverged. Its record tells, by how the trainer's sentence begins."""

from bitnet_core.runs.record import RunRecord

DIVERGED, NOT_FINITE = "Training diverged", "Loss or gradient was not finite"
"""How the sentences of the two begin: a loss that kept climbing, and steps that stayed not finite."""


def has_diverged(record: RunRecord) -> bool:
    """Whether the trainer itself ended this run, as going on was of no use."""
    ended = record.stage == "train" and record.state == "failed"
    return ended and (record.error or "").startswith((DIVERGED, NOT_FINITE))
