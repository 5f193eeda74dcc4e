"""How well a student does on traces it is not trained on. Always in fp32, so that figures compare across devices."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from bitnet_core.model.student import Student
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import LossWeights
from bitnet_core.traces.dataset import TraceSequence
from bitnet_core.traces.examples import Counts, Example, batches_in_order, collate
from bitnet_core.training.heldout_size import ENOUGH_PROMPTS, MOST_TOKENS, HeldOut
from bitnet_core.training.losses import distill_loss
from bitnet_core.training.monitor import a4_health
from bitnet_core.training.online import OnlineTeacher, whole


def choose(examples: Sequence[Example]) -> list[Example]:
    """The first examples that fit into the token limit, at least one."""
    kept: list[Example] = []
    tokens = 0
    for example in examples:
        tokens += example.supervised
        if kept and tokens > MOST_TOKENS:
            break
        kept.append(example)
    return kept


def size(sequences: Sequence[TraceSequence]) -> HeldOut:
    """How much is held out."""
    found: set[str] = set()
    for sequence in sequences:
        found.add(sequence.sequence_hash)
        if len(found) == ENOUGH_PROMPTS:
            break
    return HeldOut(len(sequences), len(found))


@torch.no_grad()
def measure(
    student: Student,
    examples: Sequence[Example],
    weights: LossWeights,
    batch_size: int,
    reporter: Reporter | None = None,
    *,
    teacher: OnlineTeacher | None = None,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Held-out figures (fields of `Metric`), and the state of A4 activations (`a4_health`).

    The figures are means over supervised positions, at the student's present activation bits. `heldout_loss` is KL
    and CE with their weights: the best checkpoint and the flip's shock rest on it, and the format loss, a mean over
    few positions, would decide them by noise. `heldout_agreement` is the share of positions whose most likely token
    is the teacher's. `reporter` is told which batch is measured, and may stop it. With a `teacher`, the KL is over
    the whole vocabulary; the same examples must be measured each time, because what it says of them is kept.
    """
    device = student.output_weight.device
    weights = replace(weights, format=0.0)
    batches = list(batches_in_order(examples, batch_size))
    if teacher:
        batches = [whole(batch) for batch in batches]
    counts = sum((batch.counts for batch in batches), Counts(0, 0, 0))
    sums_5 = torch.zeros(5, device=device)
    student.eval()
    try:
        with student.held_weights():
            for number, batch in enumerate(batches):
                if reporter:
                    reporter.check_stop()
                    reporter.meanwhile(f"scoring held-out traces, {number + 1} of {len(batches)} batches")
                said = teacher.of_held_out(number, batch) if teacher else None
                here = batch.to(device)
                hidden_ND = student(here.ids_BT).flatten(0, 1).index_select(0, here.positions_N)
                parts = distill_loss(hidden_ND, student.output_weight, here.targets, weights, counts, teacher=said)
                sums_5 += torch.stack(parts)
        activations = a4_health(student, collate(examples[:1]).to(device).ids_BT)
    finally:
        student.train()
    loss, kl, ce, _format, agreement = sums_5.tolist()
    figures = {"heldout_loss": loss, "heldout_kl": kl, "heldout_ce": ce, "heldout_agreement": agreement}
    return figures | {"heldout_tokens": counts.ce}, activations
