"""Line up two cuts of the same bytes: the teacher's tokens and the student's. Pure arithmetic on lengths."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Aligned:
    """A student token that starts where teacher token `first` starts and ends inside or at the end of `last`.

    `tail` is how many bytes of `last` it covers.
    """

    first: int
    last: int
    tail: int


def align(student_lengths: Sequence[int], teacher_lengths: Sequence[int]) -> list[Aligned | None]:
    """For each student token: where it stands on the teacher's cut, or None when it starts inside a teacher token.

    Both cuts must cover the same number of bytes with tokens of at least one byte (ValueError otherwise).
    """
    if sum(student_lengths) != sum(teacher_lengths) or min([*student_lengths, *teacher_lengths], default=1) < 1:
        raise ValueError("the two cuts don't cover the same bytes")
    starts = [0, *accumulate(teacher_lengths)]
    step_at = {start: index for index, start in enumerate(starts[:-1])}
    aligned: list[Aligned | None] = []
    begin = 0
    for length in student_lengths:
        first = step_at.get(begin)
        begin += length
        if first is None:
            aligned.append(None)
            continue
        last = first
        while starts[last + 1] < begin:
            last += 1
        aligned.append(Aligned(first, last, begin - starts[last]))
    return aligned
