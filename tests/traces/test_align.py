"""Alignment of student tokens with the teacher's, against a twin that looks at every single byte."""

from itertools import accumulate, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.traces.align import TeacherCut, align

Cut = list[int]
"""Lengths of tokens in bytes."""


@st.composite
def two_cuts(draw: st.DrawFn) -> tuple[Cut, Cut, set[int]]:
    """The student's and the teacher's cut of the same bytes, and the teacher's pieces that were not reported."""
    total = draw(st.integers(1, 40))

    def cut() -> Cut:
        inner = sorted(draw(st.sets(st.integers(1, total - 1)))) if total > 1 else []
        return [end - begin for begin, end in pairwise([0, *inner, total])]

    student, teacher = cut(), cut()
    unreported = draw(st.sets(st.integers(0, len(teacher) - 1), max_size=2)) if draw(st.booleans()) else set()
    return student, teacher, unreported


def aligned(student: Cut, teacher: Cut, unreported: set[int]) -> list[tuple[int, int, int, int]]:
    steps = np.array([-1 if piece in unreported else piece for piece in range(len(teacher))])
    cut = TeacherCut(np.array(teacher), steps, np.array(teacher), ends=False)
    found = align(np.array(student), cut)
    columns = found.position_R, found.step_R, found.last_step_R, found.tail_R
    return list(zip(*(column.tolist() for column in columns), strict=True))


def owners(lengths: Cut) -> list[tuple[int, int]]:
    """For each byte: its token, and its place in it."""
    return [(token, place) for token, length in enumerate(lengths) for place in range(length)]


def slow_aligned(student: Cut, teacher: Cut, unreported: set[int]) -> list[tuple[int, int, int, int]]:
    mine, theirs = owners(student), owners(teacher)
    found = []
    for token in range(len(student)):
        covered = [index for index, (owner, _) in enumerate(mine) if owner == token]
        first, place = theirs[covered[0]]
        last, end = theirs[covered[-1]]
        spanned = set(range(first, last + 1))
        if place == 0 and not spanned & unreported:
            found.append((token, first, last, end + 1))
    return found


@given(two_cuts())
def test_agrees_with_the_byte_by_byte_twin(cuts: tuple[Cut, Cut, set[int]]) -> None:
    assert aligned(*cuts) == slow_aligned(*cuts)


@given(two_cuts())
def test_equal_cuts_are_aligned_everywhere(cuts: tuple[Cut, Cut, set[int]]) -> None:
    lengths, _, _ = cuts
    assert aligned(lengths, lengths, set()) == [(at, at, at, length) for at, length in enumerate(lengths)]
    assert sum(length for *_, length in aligned(lengths, lengths, set())) == [*accumulate(lengths)][-1]
