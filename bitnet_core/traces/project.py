"""Teacher space -> student space, for any student tokenizer.

The student reads the whole completion as its own tokenizer cuts it. Where one of its tokens starts with a teacher
token, it carries that step's candidates. Each candidate becomes its first student sub-token, the observed one takes
the stream's real token, and candidates that became the same token are added up. Mass that finds no token goes to
Other. Where cuts and vocabularies agree, the candidates stay bit for bit.

Works on whole completions as arrays. It must not know files or providers.
Shapes: C student tokens, R of them with candidates, K candidates a row, N steps of the teacher.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitnet_core.tokenizer.arrays import Bool, Float64, Int32
from bitnet_core.tokenizer.mass import log_sum_exp, settle
from bitnet_core.tokenizer.refused import Refused
from bitnet_core.tokenizer.steps import Completion
from bitnet_core.traces.align import Alignment, TeacherCut, align
from bitnet_core.traces.answer import CheckedAnswer, Rejected
from bitnet_core.traces.struct import structural_bytes, structural_tokens
from bitnet_core.traces.vocabulary import Vocabulary


@dataclass(frozen=True)
class Projection:
    """A completion of C student tokens, R of which carry candidates: at most K, most likely first, then padding."""

    completion_ids_C: Int32
    is_struct_C: Bool
    stream_pos_R: Int32
    step_idx_R: Int32
    topk_ids_RK: Int32
    topk_logprobs_RK: Float64
    counts_R: Int32
    """_Candidates of each row."""
    other_R: Float64
    recut: int
    """Rows whose student token is not the first sub-token of the teacher's."""
    merged: int
    """_Candidates that became the same student token as another one of their step."""
    unmapped: int
    """_Candidates that the student's vocabulary can't spell; their mass is in Other."""
    stream_bytes: int
    """Bytes of text that the student's tokens stand for."""

    def __len__(self) -> int:
        return len(self.stream_pos_R)


def project(answer: CheckedAnswer, finish_reason: str, vocabulary: Vocabulary) -> Projection:
    """Project one completion; with a `finish_reason` of "stop" the stream ends in the student's end token.

    Raises Rejected if the student can't read the completion.
    """
    tokenizer, cut = vocabulary.tokenizer, TeacherCut.of(answer)
    try:
        ids = tokenizer.encode_bytes(answer.text)
    except Refused as error:
        raise Rejected(error.status) from error
    lengths_C = vocabulary.lengths(np.array(ids, np.int32))
    alignment = align(lengths_C, cut)
    struct = structural_tokens(structural_bytes(answer.text), lengths_C.tolist())
    if cut.ends:
        alignment = alignment.with_end(position=len(ids), step=len(answer.steps) - 1)
    if cut.ends or finish_reason == "stop":
        ids.append(tokenizer.eos_id)
        struct.append(False)
    completion_ids_C = np.array(ids, np.int32)

    first_ids = vocabulary.first_ids(shared=answer.shares_vocabulary)
    position_R = alignment.position_R
    whole_R = cut.step_bytes_N[alignment.step_R] == alignment.tail_R
    rows = _map_candidates(answer, first_ids, alignment)
    recut_R = _place_observed(rows, answer.steps, first_ids, completion_ids_C[position_R], alignment, whole_R)
    if (rows.ids_RK < 0).all(axis=1).any():
        raise Rejected("unknown_candidates")
    merged = _merge_equal(rows)
    _sort_by_logprob(rows)
    return Projection(
        completion_ids_C=completion_ids_C,
        is_struct_C=np.array(struct, np.bool_),
        stream_pos_R=position_R.astype(np.int32),
        step_idx_R=alignment.step_R.astype(np.int32),
        topk_ids_RK=rows.ids_RK,
        topk_logprobs_RK=rows.logprobs_RK,
        counts_R=(rows.ids_RK >= 0).sum(axis=1).astype(np.int32),
        other_R=rows.other_R,
        recut=int(recut_R[position_R < len(lengths_C)].sum()),
        merged=merged,
        unmapped=rows.unmapped,
        stream_bytes=int(lengths_C.sum()),
    )


# -- candidates ------------------------------------------------------------------------------------------


@dataclass
class _Candidates:
    """_Candidates of R student tokens; -1 and -inf are padding."""

    numbers_RK: Int32
    """The teacher token that each candidate comes from."""
    ids_RK: Int32
    logprobs_RK: Float64
    other_R: Float64
    teacher_logprobs_RK: Float64
    """As the teacher gave them, with those that the student has no token for."""
    unmapped: int
    """How many the student has no token for."""


def _map_candidates(answer: CheckedAnswer, first_ids: Int32, alignment: Alignment) -> _Candidates:
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
    return _Candidates(numbers_RK, ids_RK, logprobs_RK, other_R, teacher_RK, unmapped=int(lost_RK.sum()))


def _place_observed(
    rows: _Candidates, steps: Completion, first_ids: Int32, ids_R: Int32, alignment: Alignment, whole_R: Bool
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


def _merge_equal(rows: _Candidates) -> int:
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


def _sort_by_logprob(rows: _Candidates) -> None:
    """Most likely first, padding last, in place."""
    falling = rows.logprobs_RK[:, 1:] <= rows.logprobs_RK[:, :-1]
    part = np.flatnonzero(~falling.all(axis=1))
    if len(part):
        order = np.argsort(-rows.logprobs_RK[part], axis=1, kind="stable")
        rows.ids_RK[part] = np.take_along_axis(rows.ids_RK[part], order, axis=1)
        rows.logprobs_RK[part] = np.take_along_axis(rows.logprobs_RK[part], order, axis=1)
