"""Teacher space -> student space, for any student tokenizer (DESIGN §6).

The student reads the whole completion as its own tokenizer cuts it. Where one of its tokens starts with a teacher
token, it carries that step's candidates, each as its first student sub-token. Where cuts and vocabularies agree, the
candidates stay bit for bit. Works on whole completions as arrays. It must not know files or providers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitnet_core.tokenizer.student import NoToken
from bitnet_core.traces.align import TeacherCut, align
from bitnet_core.traces.answer import CheckedAnswer, Rejected
from bitnet_core.traces.candidates import map_candidates, merge_equal, place_observed, sort_by_logprob
from bitnet_core.traces.struct import structural_bytes, structural_tokens
from bitnet_core.traces.vocabulary import Vocabulary

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Projection:
    """A completion of C student tokens, R of which carry candidates: at most K, most likely first, then padding."""

    completion_ids_C: Int32
    is_struct_C: npt.NDArray[np.bool_]
    stream_pos_R: Int32
    step_idx_R: Int32
    topk_ids_RK: Int32
    topk_logprobs_RK: npt.NDArray[np.float64]
    counts_R: Int32
    """Candidates of each row."""
    other_R: npt.NDArray[np.float64]
    recut: int
    """Rows whose student token is not the first sub-token of the teacher's."""
    merged: int
    """Candidates that became the same student token as another one of their step."""
    unmapped: int
    """Candidates that the student's vocabulary can't spell; their mass is in Other."""
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
    except NoToken as error:
        raise Rejected("byte_without_token") from error
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
    rows = map_candidates(answer, first_ids, alignment)
    recut_R = place_observed(rows, answer.steps, first_ids, completion_ids_C[position_R], alignment, whole_R)
    if (rows.ids_RK < 0).all(axis=1).any():
        raise Rejected("unknown_candidates")
    merged = merge_equal(rows)
    sort_by_logprob(rows)
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
