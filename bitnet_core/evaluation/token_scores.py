"""A student's probabilities at each token of traces, to find where it errs. `traces/scores.py` keeps them in a file.

Its KL is the coarse KL of `imitation`, token by token, at the student's present activation bits.
Shapes: N supervised positions (n in one chunk), K candidates, T of the student's own, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from bitnet_core.evaluation.imitation import coarse
from bitnet_core.model.chunks import positions_at_a_time
from bitnet_core.model.student import Student
from bitnet_core.tokenizer.arrays import Array
from bitnet_core.traces.examples import Example, Targets, collate
from bitnet_core.traces.scores import SCORED_CANDIDATES, TokenScores

_BATCH = 8
_TOGETHER = 64
"""Sequences among which similar lengths are put into one batch, and whose scores are in memory at a time."""


@torch.no_grad()
def token_scores(
    student: Student, examples: Sequence[Example], on_progress: Callable[[int], None] = lambda _done: None
) -> Iterator[tuple[int, TokenScores]]:
    """Each example's prompt_idx and scores, in order. `on_progress` gets how many are done, and may raise."""
    with student.held_weights():
        for first in range(0, len(examples), _TOGETHER):
            group = [examples[place] for place in range(first, min(len(examples), first + _TOGETHER))]
            order = sorted(range(len(group)), key=lambda place: group[place].length)
            found: dict[int, TokenScores] = {}
            for start in range(0, len(order), _BATCH):
                on_progress(first + start)
                places = order[start : start + _BATCH]
                found |= zip(places, _batch_scores(student, [group[place] for place in places]), strict=True)
            for place, example in enumerate(group):
                yield example.sequence.prompt_idx, found[place]
    on_progress(len(examples))


def _batch_scores(student: Student, examples: list[Example]) -> Iterator[TokenScores]:
    batch = collate(examples).to(student.output_weight.device)
    hidden_ND = student(batch.ids_BT).flatten(0, 1).index_select(0, batch.positions_N)
    targets = batch.targets.at_least_one_candidate()
    chunk = positions_at_a_time(student.config.vocab_size, hidden_ND.device.type)
    parts = [
        _chunk_scores(student.logits(hidden_ND[start : start + chunk]).float(), targets.rows(start, start + chunk))
        for start in range(0, len(targets), chunk)
    ]
    joined = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    ends = np.cumsum([example.supervised for example in examples])[:-1]
    for columns in zip(*(np.split(column, ends) for column in joined), strict=True):
        yield TokenScores(*columns)


def _chunk_scores(z_nV: Tensor, rows: Targets) -> list[Array]:
    """The fields of TokenScores for a chunk of positions; overwrites `z_nV`."""
    lse_n = z_nV.logsumexp(dim=1).double()
    observed_n = z_nV.gather(1, rows.observed_N[:, None]).squeeze(1) - lse_n
    top_nT, top_ids_nT = z_nV.topk(min(SCORED_CANDIDATES, z_nV.shape[1]), dim=1)
    valid_nK, kl_n, student_nK, tail_n = coarse(z_nV, lse_n, rows)
    columns = (
        torch.where(rows.kd_valid_N, kl_n, torch.nan),
        observed_n,
        tail_n,
        torch.where(valid_nK, student_nK, -torch.inf),
    )
    kept = [column.float().cpu().numpy() for column in columns]
    return [*kept, top_ids_nT.int().cpu().numpy(), (top_nT - lse_n[:, None]).float().cpu().numpy()]
