"""Where student tokens stand on the teacher's cut of the same bytes. Pure arithmetic on token lengths.

Shapes: C student tokens, of which R start where a reported teacher token starts; P pieces of the teacher's text, a
piece for each of its N steps and one for each run of unreported bytes.
"""

from dataclasses import dataclass

import numpy as np

from bitnet_core.tokenizer.arrays import Int64
from bitnet_core.traces.answer import CheckedAnswer


@dataclass(frozen=True)
class TeacherCut:
    """The completion's bytes in pieces, without an end token that has no bytes."""

    lengths_P: Int64
    step_P: Int64
    """-1 for unreported bytes."""
    step_bytes_N: Int64
    ends: bool
    """Whether the last step is an end token without bytes."""

    @classmethod
    def of(cls, answer: CheckedAnswer) -> "TeacherCut":
        spellings = answer.steps.table.spellings
        step_bytes_N = np.array([len(spellings[number]) for number in answer.steps.sampled_N.tolist()], np.int64)
        ends = bool(step_bytes_N[-1] == 0)
        body_N = step_bytes_N[:-1] if ends else step_bytes_N
        rows = np.array(list(answer.bytes_before), np.int64)
        unreported = [len(data) for data in answer.bytes_before.values()]
        return cls(
            np.insert(body_N, rows, unreported), np.insert(np.arange(len(body_N)), rows, -1), step_bytes_N, ends
        )


@dataclass(frozen=True)
class Alignment:
    """The R student tokens that start where a reported teacher token starts."""

    position_R: Int64
    """Place among the student's tokens."""
    step_R: Int64
    """The step that the token starts with."""
    last_step_R: Int64
    """The step that it ends in; every step between the two is reported."""
    tail_R: Int64
    """How many bytes of the last step it covers."""

    def with_end(self, position: int, step: int) -> "Alignment":
        """With a row for the student's end token, which covers no bytes of the teacher's."""
        return Alignment(
            np.append(self.position_R, position),
            np.append(self.step_R, step),
            np.append(self.last_step_R, step),
            np.append(self.tail_R, 0),
        )


def align(lengths_C: Int64, cut: TeacherCut) -> Alignment:
    """Walk both cuts of the same bytes. `lengths_C`: the student tokens' bytes."""
    starts_P = np.concatenate([[0], np.cumsum(cut.lengths_P)])
    ends_C = np.cumsum(lengths_C)
    begins_C = ends_C - lengths_C
    first_C = np.searchsorted(starts_P[:-1], begins_C)
    on_start_C = starts_P[np.minimum(first_C, len(starts_P) - 1)] == begins_C
    last_C = np.searchsorted(starts_P, ends_C) - 1
    unreported_P = np.concatenate([[0], np.cumsum(cut.step_P < 0)])
    reported_C = unreported_P[last_C + 1] == unreported_P[np.minimum(first_C, len(unreported_P) - 1)]
    position_R = np.flatnonzero(on_start_C & reported_C)
    last_R = last_C[position_R]
    return Alignment(
        position_R=position_R,
        step_R=cut.step_P[first_C[position_R]],
        last_step_R=cut.step_P[last_R],
        tail_R=ends_C[position_R] - starts_P[last_R],
    )
