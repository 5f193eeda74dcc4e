"""A teacher in this process that is asked while training: its whole distribution at every supervised position.

It reads the very ids that the student reads, so the two must have one vocabulary. It knows no files and no trainer.

Shapes: B rows, T positions of a row, N supervised positions, S sequences, L positions of the longest, E the teacher's
hidden size, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from bitnet_core.traces.examples import Batch, Counts
from bitnet_core.training.whole_vocabulary import TeacherStates


def whole(batch: Batch) -> Batch:
    """The batch as a teacher in this process sees it: every supervised position counts, and needs no candidates.

    Tokens that the student wrote have no cross-entropy.
    """
    targets, count = batch.targets, len(batch.targets)
    without = replace(
        targets,
        topk_ids_NK=targets.topk_ids_NK[:, :0],
        topk_logprobs_NK=targets.topk_logprobs_NK[:, :0],
        kd_valid_N=torch.ones_like(targets.kd_valid_N),
    )
    counts = Counts(count, 0, 0) if batch.own_text else replace(batch.counts, kd=count)
    return replace(batch, targets=without, counts=counts)


@dataclass(frozen=True)
class OnlineTeacher:
    """Gives the `TeacherStates` of batches. `states` maps ids [S, L] to hidden states [S, L, E]."""

    identity: str
    """Distinguishes it from teachers with other weights."""
    states: Callable[[Tensor], Tensor]
    head_VE: Tensor
    eos_id: int
    _kept: dict[int, Tensor] = field(default_factory=dict)

    def of(self, batch: Batch, *, reverse_on_own: bool = False) -> TeacherStates:
        """What it says at the supervised positions of a batch that is still on the CPU.

        `reverse_on_own` asks for the reverse KL on text that the student wrote.
        """
        reverse = reverse_on_own and batch.own_text
        return TeacherStates(self._states(batch), self.head_VE, reverse, batch.own_text)

    def of_held_out(self, number: int, batch: Batch) -> TeacherStates:
        """The same for the batch with this number among those measured again and again: it is read once."""
        if number not in self._kept:
            self._kept[number] = self._states(batch)
        return TeacherStates(self._kept[number], self.head_VE)

    def _states(self, batch: Batch) -> Tensor:
        """Read each sequence alone, similar lengths together, and no more positions at once than the batch has."""
        ids_SL, positions_N = one_a_row(batch)
        lengths_S = (ids_SL >= 0).sum(dim=1)
        rows = lengths_S.argsort(descending=True, stable=True).tolist()
        device, most = self.head_VE.device, batch.ids_BT.numel()
        found_SLE = self.head_VE.new_zeros((*ids_SL.shape, self.head_VE.shape[1]))
        while rows:
            length = int(lengths_S[rows[0]])
            several, rows = rows[: max(1, most // length)], rows[max(1, most // length) :]
            found_SLE[several, :length] = self.states(ids_SL[several, :length].clamp(min=0).to(device))
        return found_SLE.flatten(0, 1).index_select(0, positions_N.to(device))


def one_a_row(batch: Batch) -> tuple[Tensor, Tensor]:
    """Ids [S, L] with each sequence of a batch in a row of its own, -1 behind it, and its N positions there."""
    if batch.segments_BT is None:
        return batch.ids_BT, batch.positions_N
    segments_BT = batch.segments_BT.numpy()
    fresh_BT = np.ones(segments_BT.shape, bool)
    fresh_BT[:, 1:] = segments_BT[:, 1:] != segments_BT[:, :-1]
    begins = np.flatnonzero(fresh_BT)
    run = fresh_BT.cumsum() - 1  # of each place: which stretch of one segment it is in, padding included
    real = segments_BT.ravel() >= 0
    row, place = (real[begins].cumsum() - 1)[run], np.arange(run.size) - begins[run]
    ids_SL = np.full((int(row[real].max()) + 1, int(place[real].max()) + 1), -1, np.int64)
    ids_SL[row[real], place[real]] = batch.ids_BT.numpy().ravel()[real]
    positions_N = batch.positions_N.numpy()
    return torch.from_numpy(ids_SL), torch.from_numpy(row[positions_N] * ids_SL.shape[1] + place[positions_N])
