"""A step's candidates in the student's tokens, and their mass (DESIGN §6, Projection).

The steps of `project` that move mass: each candidate becomes its first student sub-token, the observed candidate
takes the stream's real token, candidates that became one token are added up. Mass that finds no token goes to Other.
Shapes: R rows (student tokens with candidates), K candidates a row, N steps of the teacher.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitnet_core.tokenizer.mass import log_sum_exp, settle
from bitnet_core.tokenizer.steps import Completion
from bitnet_core.traces.align import Alignment
from bitnet_core.traces.answer import CheckedAnswer

Int32 = npt.NDArray[np.int32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


@dataclass
class Candidates:
    """Candidates of R student tokens; -1 and -inf are padding."""

    numbers_RK: Int32
    """The teacher token that each candidate comes from."""
    ids_RK: Int32
    logprobs_RK: Float64
    other_R: Float64
    teacher_logprobs_RK: Float64
    """As the teacher gave them, with those that the student has no token for."""
    unmapped: int
    """How many the student has no token for."""


def map_candidates(answer: CheckedAnswer, first_ids: Int32, alignment: Alignment) -> Candidates:
    """Each row's candidates as student tokens; those without one give their mass to Other.

    `first_ids` has the first student sub-token of each teacher token. A last column is left free for a token that was
    sampled outside the list.
    """
    step_R = alignment.step_R
    numbers_RK = np.pad(answer.steps.tops_NK[step_R], ((0, 0), (0, 1)), constant_values=-1)
    ids_RK = np.where(numbers_RK >= 0, first_ids[numbers_RK], -1).astype(np.int32)
    teacher_RK = np.pad(answer.mass.logprobs_NK[step_R], ((0, 0), (0, 1)), constant_values=-np.inf)
    other_R = answer.mass.other_N[step_R].copy()
    lost_RK = (ids_RK < 0) & (numbers_RK >= 0)
    logprobs_RK = teacher_RK
    if lost_RK.any():
        logprobs_RK = np.where(lost_RK, -np.inf, teacher_RK)
        part = np.flatnonzero(lost_RK.any(axis=1))
        other_R[part] = settle(logprobs_RK[part]).other_N
    return Candidates(numbers_RK, ids_RK, logprobs_RK, other_R, teacher_RK, unmapped=int(lost_RK.sum()))


def place_observed(
    rows: Candidates, steps: Completion, first_ids: Int32, ids_R: Int32, alignment: Alignment, whole_R: Bool
) -> Bool:
    """Give the observed candidate the stream's real token `ids_R`, in place; returns the rows whose token changed.

    A student token that ends inside the teacher's first token takes that token's whole mass. A longer one takes the
    product over the steps it spans; what the first step had beyond that goes to Other. A token sampled outside the
    list stays a part of Other, unless the student token is not the whole of it (`whole_R`) or other candidates of the
    row have become that token too: then it gets a place of its own.
    """
    step_R = alignment.step_R
    sampled_R = steps.sampled_N[step_R]
    at_RK = rows.numbers_RK == sampled_R[:, None]
    listed_R = at_RK.any(axis=1)
    column_R = np.where(listed_R, at_RK.argmax(axis=1), rows.ids_RK.shape[1] - 1)
    changed_R: Bool = first_ids[sampled_R] != ids_R
    shared_R = ~listed_R & (rows.ids_RK == ids_R[:, None]).any(axis=1)
    part = np.flatnonzero(changed_R | shared_R | (~listed_R & ~whole_R))
    if not len(part):
        return changed_R
    columns = column_R[part]
    # A token outside the list can't have more mass than Other.
    outside = np.minimum(steps.logprobs_N[step_R[part]], rows.other_R[part])
    mass = np.where(listed_R[part], rows.teacher_logprobs_RK[part, columns], outside)
    summed_N = np.concatenate([[0.0], np.cumsum(np.minimum(steps.logprobs_N, 0.0))])
    for place, row in enumerate(part.tolist()):
        first, last = int(step_R[row]), int(alignment.last_step_R[row])
        if last > first:
            covered = _logprob_of_prefix(steps, last, int(alignment.tail_R[row]))
            mass[place] += summed_N[last] - summed_N[first + 1] + covered
    rows.ids_RK[part, columns] = ids_R[part]
    rows.logprobs_RK[part, columns] = mass
    settled = settle(rows.logprobs_RK[part])
    rows.logprobs_RK[part] = settled.logprobs_NK
    rows.other_R[part] = settled.other_N
    return changed_R


def _logprob_of_prefix(steps: Completion, row: int, length: int) -> float:
    """Log-probability that a step's token begins with the first `length` bytes of the sampled one.

    All of its bytes: the sampled token's own logprob. Fewer: the sum over the candidates that begin with them.
    """
    spellings = steps.table.spellings
    sampled = int(steps.sampled_N[row])
    data = spellings[sampled]
    if length == len(data):
        return min(0.0, float(steps.logprobs_N[row]))
    prefix = data[:length]
    logprobs = {sampled: float(steps.logprobs_N[row])}
    tops: Sequence[int] = steps.tops_NK[row].tolist()
    logprobs |= {
        top: logprob for top, logprob in zip(tops, steps.top_logprobs_NK[row].tolist(), strict=True) if top >= 0
    }
    return min(0.0, log_sum_exp([value for top, value in logprobs.items() if spellings[top].startswith(prefix)]))


def merge_equal(rows: Candidates) -> int:
    """Add up candidates that became the same student token, in place; returns how many were added to another."""
    ids_RK = rows.ids_RK
    sorted_RK = np.sort(ids_RK, axis=1)
    twice_R = ((sorted_RK[:, 1:] == sorted_RK[:, :-1]) & (sorted_RK[:, 1:] >= 0)).any(axis=1)
    part = np.flatnonzero(twice_R)
    if not len(part):
        return 0
    ids, logprobs = ids_RK[part], rows.logprobs_RK[part]
    order = np.argsort(ids, axis=1, kind="stable")
    ids, logprobs = np.take_along_axis(ids, order, axis=1), np.take_along_axis(logprobs, order, axis=1)
    new = np.ones_like(ids, np.bool_)
    new[:, 1:] = ids[:, 1:] != ids[:, :-1]
    begins = np.flatnonzero(new.ravel())
    flat = logprobs.ravel()
    highest = np.maximum.reduceat(flat, begins)
    sizes = np.diff(np.append(begins, flat.size))
    safe = np.where(np.isfinite(highest), highest, 0.0)
    total = safe + np.log(np.maximum(np.add.reduceat(np.exp(flat - np.repeat(safe, sizes)), begins), 1e-300))
    # A candidate that shares its token with no other stays bit for bit.
    merged = np.where(sizes == 1, highest, np.where(np.isfinite(highest), total, -np.inf))
    out = np.full(flat.shape, -np.inf)
    out[begins] = merged
    out_ids = np.where(new, ids, -1)
    rows.ids_RK[part] = out_ids
    rows.logprobs_RK[part] = np.where(out_ids >= 0, out.reshape(ids.shape), -np.inf)
    return int((~new & (ids >= 0)).sum())


def sort_by_logprob(rows: Candidates) -> None:
    """Most likely first, padding last, in place."""
    falling = rows.logprobs_RK[:, 1:] <= rows.logprobs_RK[:, :-1]
    part = np.flatnonzero(~falling.all(axis=1))
    if len(part):
        order = np.argsort(-rows.logprobs_RK[part], axis=1, kind="stable")
        rows.ids_RK[part] = np.take_along_axis(rows.ids_RK[part], order, axis=1)
        rows.logprobs_RK[part] = np.take_along_axis(rows.logprobs_RK[part], order, axis=1)
