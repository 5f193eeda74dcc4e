"""Teacher space -> student space, for any student tokenizer (DESIGN §6).

What the teacher said is sound or not whoever the student is (`heard`); the student then reads the whole completion as
its own tokenizer cuts it (`project`). Where a student token starts with a teacher token it carries that step's
candidates, each as its first student sub-token; where both cuts and vocabularies agree, bit for bit. Whole
completions are arrays here, so that millions of steps take minutes. Pure: knows no files and no providers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bitnet_core.tokenizer.steps import Completion, Settled, fault_of, log_sum_exp, settle
from bitnet_core.tokenizer.student import NoToken, StudentTokenizer
from bitnet_core.traces.struct import structural_bytes, structural_tokens
from bitnet_core.traces.vocabulary import Vocabulary

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


class Rejected(Exception):
    """The sequence can't be used; `reason` is a short code that is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Heard:
    """What the teacher said, usable for any student."""

    steps: Completion
    """With tokens as they really were."""
    before: Mapping[int, bytes]
    """Bytes of tokens that the server did not report, by the step that they stand before."""
    text: bytes
    same: bool
    """Whether all tokens are of the student's own vocabulary."""


@dataclass(frozen=True)
class Projection:
    """A completion of C student tokens, R of which carry candidates: at most K, most likely first, then padding."""

    completion_ids_C: Int32
    is_struct_C: npt.NDArray[np.bool_]
    stream_pos_R: Int32
    step_idx_R: Int32
    topk_ids_RK: Int32
    topk_logprobs_RK: Float64
    counts_R: Int32
    other_R: Float64
    clamped: int
    """Steps whose mass was above 1 - 1e-6 and was scaled down."""
    recut: int
    """Rows whose student token is not the first sub-token of the teacher's."""
    merged: int
    """Candidates that became the same student token as another one of their step."""
    unmapped: int
    """Candidates that the student's vocabulary can't spell; their mass is in Other."""
    stream_bytes: int
    """Bytes of text that the stream's tokens stand for."""

    def __len__(self) -> int:
        return len(self.stream_pos_R)


@dataclass(frozen=True)
class _Parts:
    """The completion's bytes in pieces: one a step, and one for the bytes before a step that held some back."""

    lengths_P: Int64
    step_P: Int64
    """Of unreported bytes: -1."""
    spelled_N: Int64
    """Bytes of each step's token."""
    ends: bool


def heard(completion: Completion, vocabulary: Vocabulary, before: Mapping[int, bytes] | None = None) -> Heard:
    """Hold the teacher's steps against each other.

    `before`: bytes that stand before a step's token and belong to none, where that is known already. Raises Rejected
    with a code for steps that can't be used; never leaves one out.
    """
    reason = fault_of(completion)
    if reason is not None:
        raise Rejected(reason)
    same = vocabulary.is_of(completion)
    if before is None:
        completion, before = _held_back(completion, vocabulary.tokenizer if same else None)
    text = _whole_text(completion, before)
    if not text:
        raise Rejected("empty_completion")
    spellings = completion.table.spellings
    if not all(spellings[number] for number in completion.sampled_N[:-1].tolist()):
        raise Rejected("control_token")
    return Heard(completion, before, text, same)


def project(said: Heard, finish_reason: str, vocabulary: Vocabulary, settled: Settled | None = None) -> Projection:
    """Project one completion. `finish_reason` "stop" means that the teacher chose to end.

    `settled`: the masses, where they are known already. Raises Rejected where the student can't read the completion.
    """
    parts = _parts(said)
    tokenizer = vocabulary.tokenizer
    try:
        ids = tokenizer.encode_bytes(said.text)
    except NoToken as error:
        raise Rejected("byte_without_token") from error
    lengths_C = vocabulary.lengths(np.array(ids, np.int32))
    position_R, step_R, last_R, tail_R = _aligned(lengths_C, parts)
    struct = structural_tokens(structural_bytes(said.text), lengths_C.tolist())
    if parts.ends or finish_reason == "stop":
        if parts.ends:
            final = len(said.steps) - 1
            position_R = np.append(position_R, len(ids))
            step_R, last_R, tail_R = np.append(step_R, final), np.append(last_R, final), np.append(tail_R, 0)
        ids.append(tokenizer.eos_id)
        struct.append(False)
    completion_ids_C = np.array(ids, np.int32)
    settled = settle(said.steps.top_logprobs_NK) if settled is None else settled
    firsts = vocabulary.firsts(same=said.same)
    rows = _rows(said.steps, firsts, settled, step_R)
    whole_R = parts.spelled_N[step_R] == tail_R
    recut = _observe(rows, said.steps, firsts, completion_ids_C[position_R], step_R, last_R, tail_R, whole_R)
    if (rows.ids_RK < 0).all(axis=1).any():
        raise Rejected("unknown_candidates")
    merged = _merge(rows)
    _order(rows)
    return Projection(
        completion_ids_C=completion_ids_C,
        is_struct_C=np.array(struct, np.bool_),
        stream_pos_R=position_R.astype(np.int32),
        step_idx_R=step_R.astype(np.int32),
        topk_ids_RK=rows.ids_RK,
        topk_logprobs_RK=rows.logprobs_RK,
        counts_R=(rows.ids_RK >= 0).sum(axis=1).astype(np.int32),
        other_R=rows.other_R,
        clamped=int(settled.clamped_N.sum()),
        recut=int(recut[position_R < len(lengths_C)].sum()),
        merged=merged,
        unmapped=rows.unmapped,
        stream_bytes=int(lengths_C.sum()),
    )


# -- the teacher's cut -----------------------------------------------------------------------------------


def _whole_text(completion: Completion, before: Mapping[int, bytes]) -> bytes:
    """The completion's bytes, those included that belong to no reported token."""
    spellings = completion.table.spellings
    if not before:
        return completion.text()
    return b"".join(
        before.get(row, b"") + spellings[number] for row, number in enumerate(completion.sampled_N.tolist())
    )


def _held_back(completion: Completion, own: StudentTokenizer | None) -> tuple[Completion, dict[int, bytes]]:
    """The completion with its tokens as they really were, and the bytes that were said before some of them.

    llama.cpp holds a token back while the text ends inside a character, and reports the last token of the
    character with all its bytes and no step for those before. `own`: the teacher's tokenizer, where it is known.
    """
    before: dict[int, bytes] = {}
    changed_N = completion.sampled_N.copy()
    spellings = completion.table.spellings
    for row, number in enumerate(completion.sampled_N.tolist()):
        last = _really(completion, row, number, own)
        if last is not None:
            changed_N[row] = last
            before[row] = spellings[number].removesuffix(spellings[last])
    return (replace(completion, sampled_N=changed_N), before) if before else (completion, before)


def _parts(said: Heard) -> _Parts:
    """Its tokens in bytes; an end without bytes is taken off."""
    spellings = said.steps.table.spellings
    spelled = [len(spellings[number]) for number in said.steps.sampled_N.tolist()]
    spelled_N = np.array(spelled, np.int64)
    ends = spelled[-1] == 0
    body = spelled[:-1] if ends else spelled
    if not said.before:
        return _Parts(np.array(body, np.int64), np.arange(len(body)), spelled_N, ends)
    lengths: list[int] = []
    steps: list[int] = []
    for row, length in enumerate(body):
        if row in said.before:
            lengths.append(len(said.before[row]))
            steps.append(-1)
        lengths.append(length)
        steps.append(row)
    return _Parts(np.array(lengths, np.int64), np.array(steps, np.int64), spelled_N, ends)


def _really(completion: Completion, row: int, number: int, own: StudentTokenizer | None) -> int | None:
    """The number of the token that was sampled, where it is said with the bytes of others before it."""
    table = completion.table
    index, data = table.ids[number], table.spellings[number]
    if index < 0 or len(data) < 2 or data.isascii():
        return None
    for other in completion.tops_NK[row].tolist():
        if other >= 0 and other != number and table.ids[other] == index and _is_end(table.spellings[other], data):
            return int(other)
    if own is not None and index < own.vocab_size and index not in own.special_ids:
        known = own.token_bytes(index)
        if _is_end(known, data):
            return table.number(index, known)
    return None


def _is_end(part: bytes, whole: bytes) -> bool:
    return 0 < len(part) < len(whole) and whole.endswith(part)


def _aligned(lengths_C: Int64, parts: _Parts) -> tuple[Int64, Int64, Int64, Int64]:
    """Of each student token that starts with a reported teacher token: its position, the step it starts with, the
    step it ends in, and how many bytes of that one it covers. None of the steps between is unreported."""
    starts_P = np.concatenate([[0], np.cumsum(parts.lengths_P)])
    ends_C = np.cumsum(lengths_C)
    begins_C = ends_C - lengths_C
    first_C = np.searchsorted(starts_P[:-1], begins_C)
    found_C = starts_P[np.minimum(first_C, len(starts_P) - 1)] == begins_C
    last_C = np.searchsorted(starts_P, ends_C) - 1
    holes_P = np.concatenate([[0], np.cumsum(parts.step_P < 0)])
    whole_C = holes_P[last_C + 1] == holes_P[np.minimum(first_C, len(holes_P) - 1)]
    position_R = np.flatnonzero(found_C & whole_C)
    last_R = last_C[position_R]
    tail_R = ends_C[position_R] - starts_P[last_R]
    return position_R, parts.step_P[first_C[position_R]], parts.step_P[last_R], tail_R


# -- candidates ------------------------------------------------------------------------------------------


@dataclass
class _Rows:
    """Candidates of R student tokens; -1 and -inf where there is none."""

    numbers_RK: Int32
    """The teacher's token that a candidate is from."""
    ids_RK: Int32
    logprobs_RK: Float64
    other_R: Float64
    told_RK: Float64
    """The candidates' masses before those without a token of the student's gave theirs to Other."""
    unmapped: int


def _rows(steps: Completion, firsts: Int32, settled: Settled, step_R: Int64) -> _Rows:
    """Of each row, in the student's tokens; what it has none for gives its mass to Other.

    A column more than there are candidates: a token sampled outside of them may need it.
    """
    numbers_RK = np.pad(steps.tops_NK[step_R], ((0, 0), (0, 1)), constant_values=-1)
    ids_RK = np.where(numbers_RK >= 0, firsts[numbers_RK], -1).astype(np.int32)
    told_RK = np.pad(settled.logprobs_NK[step_R], ((0, 0), (0, 1)), constant_values=-np.inf)
    other_R = settled.other_N[step_R].copy()
    lost_RK = (ids_RK < 0) & (numbers_RK >= 0)
    logprobs_RK = told_RK
    if lost_RK.any():
        logprobs_RK = np.where(lost_RK, -np.inf, told_RK)
        part = np.flatnonzero(lost_RK.any(axis=1))
        other_R[part] = settle(logprobs_RK[part]).other_N
    return _Rows(numbers_RK, ids_RK, logprobs_RK, other_R, told_RK, unmapped=int(lost_RK.sum()))


def _observe(
    rows: _Rows,
    steps: Completion,
    firsts: Int32,
    ids_R: Int32,
    step_R: Int64,
    last_R: Int64,
    tail_R: Int64,
    whole_R: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Give the observed candidate the stream's real token; which rows that changed.

    Shorter than the teacher's token, or another cut of it, the token takes its whole mass; longer, it takes the
    product over the steps that it spans, and what the first one had beyond that goes to Other. A token sampled
    outside the list gets a place of its own where the student's token is not the `whole` of it, or stands in the row
    for others already.
    """
    sampled_R = steps.sampled_N[step_R]
    at_RK = rows.numbers_RK == sampled_R[:, None]
    listed_R = at_RK.any(axis=1)
    column_R = np.where(listed_R, at_RK.argmax(axis=1), rows.ids_RK.shape[1] - 1)
    changed_R: npt.NDArray[np.bool_] = firsts[sampled_R] != ids_R
    kin_R = ~listed_R & (rows.ids_RK == ids_R[:, None]).any(axis=1)
    special = np.flatnonzero(changed_R | kin_R | (~listed_R & ~whole_R))
    if not len(special):
        return changed_R
    columns = column_R[special]
    observed = rows.told_RK[special, columns]
    # Sampled outside the list: its mass is a part of Other until it gets a place of its own.
    outside = np.minimum(steps.logprobs_N[step_R[special]], rows.other_R[special])
    mass = np.where(listed_R[special], observed, outside)
    own_N = np.minimum(steps.logprobs_N, 0.0)
    summed_N = np.concatenate([[0.0], np.cumsum(own_N)])
    for place, row in enumerate(special.tolist()):
        first, last = int(step_R[row]), int(last_R[row])
        if last > first:
            mass[place] += summed_N[last] - summed_N[first + 1] + _covering(steps, last, int(tail_R[row]))
    rows.ids_RK[special, columns] = ids_R[special]
    rows.logprobs_RK[special, columns] = mass
    settled = settle(rows.logprobs_RK[special])
    rows.logprobs_RK[special] = settled.logprobs_NK
    rows.other_R[special] = settled.other_N
    return changed_R


def _covering(steps: Completion, row: int, tail: int) -> float:
    """Log-probability that a step says the `tail` first bytes it said: its token's own when they are all of
    it, else that of every candidate that begins with them."""
    spellings = steps.table.spellings
    number = int(steps.sampled_N[row])
    data = spellings[number]
    if tail == len(data):
        return min(0.0, float(steps.logprobs_N[row]))
    said = data[:tail]
    found = {number: float(steps.logprobs_N[row])}
    tops: Sequence[int] = steps.tops_NK[row].tolist()
    found |= {
        top: logprob for top, logprob in zip(tops, steps.top_logprobs_NK[row].tolist(), strict=True) if top >= 0
    }
    return min(0.0, log_sum_exp([logprob for top, logprob in found.items() if spellings[top].startswith(said)]))


def _merge(rows: _Rows) -> int:
    """Add up the mass of candidates that are one token for the student; how many were added to another."""
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
    # A candidate that stays alone stays as it is, to the last bit.
    merged = np.where(sizes == 1, highest, np.where(np.isfinite(highest), total, -np.inf))
    out = np.full(flat.shape, -np.inf)
    out[begins] = merged
    out_ids = np.where(new, ids, -1)
    lost = int((~new & (ids >= 0)).sum())
    rows.ids_RK[part] = out_ids
    rows.logprobs_RK[part] = np.where(out_ids >= 0, out.reshape(ids.shape), -np.inf)
    return lost


def _order(rows: _Rows) -> None:
    """Most likely first; padding last."""
    falling = rows.logprobs_RK[:, 1:] <= rows.logprobs_RK[:, :-1]
    part = np.flatnonzero(~falling.all(axis=1))
    if len(part):
        order = np.argsort(-rows.logprobs_RK[part], axis=1, kind="stable")
        rows.ids_RK[part] = np.take_along_axis(rows.ids_RK[part], order, axis=1)
        rows.logprobs_RK[part] = np.take_along_axis(rows.logprobs_RK[part], order, axis=1)
