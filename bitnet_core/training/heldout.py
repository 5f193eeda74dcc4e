"""How well a student does on traces it is not trained on. Always in fp32, so that figures compare across devices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bitnet_core.model.student import Student
from bitnet_core.settings.values import LossWeights
from bitnet_core.traces.examples import Counts, Example, batches_in_order, collate
from bitnet_core.training.losses import distill_loss
from bitnet_core.training.monitor import a4_health

_MOST_TOKENS = 20_000  # enough for an estimate within a hundredth of a nat


@dataclass(frozen=True)
class HeldOut:
    """Means over held-out supervised positions; `agreement` is the share whose top-1 token is the teacher's."""

    loss: float
    kl: float
    ce: float
    agreement: float
    tokens: int

    def metrics(self) -> dict[str, Any]:
        return {
            "heldout_loss": self.loss,
            "heldout_kl": self.kl,
            "heldout_ce": self.ce,
            "heldout_agreement": self.agreement,
            "heldout_tokens": self.tokens,
        }


def choose(examples: Sequence[Example]) -> list[Example]:
    """The first examples that fit into the token limit, at least one."""
    kept: list[Example] = []
    tokens = 0
    for example in examples:
        tokens += example.supervised
        if kept and tokens > _MOST_TOKENS:
            break
        kept.append(example)
    return kept


def measure(
    student: Student,
    examples: Sequence[Example],
    weights: LossWeights,
    batch_size: int,
    check_stop: Callable[[], None] = lambda: None,
) -> tuple[HeldOut, dict[str, float]]:
    """Losses on the examples and the state of A4 activations (`a4_health`), at the student's present activation bits.

    `check_stop` is called before each batch and may raise.
    """
    student.eval()
    try:
        found = measure_losses(student, examples, weights, batch_size, check_stop)
        first = collate(examples[:1]).to(student.output_weight.device)
        return found, a4_health(student, first.ids_BT)
    finally:
        student.train()


@torch.no_grad()
def measure_losses(
    student: Student,
    examples: Sequence[Example],
    weights: LossWeights,
    batch_size: int,
    check_stop: Callable[[], None] = lambda: None,
) -> HeldOut:
    """Losses on the examples at the student's present activation bits."""
    device = student.output_weight.device
    batches = list(batches_in_order(examples, batch_size))
    counts = sum((batch.counts for batch in batches), Counts(0, 0, 0))
    sums_5 = torch.zeros(5, device=device)
    with student.held_weights():
        for batch in batches:
            check_stop()
            here = batch.to(device)
            hidden_ND = student(here.ids_BT).flatten(0, 1).index_select(0, here.positions_N)
            sums_5 += torch.stack(distill_loss(hidden_ND, student.output_weight, here.targets, weights, counts))
    loss, kl, ce, _format, agreement = sums_5.tolist()
    return HeldOut(loss, kl, ce, agreement, counts.ce)
