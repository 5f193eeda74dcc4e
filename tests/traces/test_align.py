"""Alignment of two cuts, against a twin that looks at every single byte."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.traces.align import Aligned, align


@st.composite
def two_cuts(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    total = draw(st.integers(1, 40))

    def cut() -> list[int]:
        inner = sorted(draw(st.sets(st.integers(1, total - 1)))) if total > 1 else []
        edges = [0, *inner, total]
        return [end - begin for begin, end in pairwise(edges)]

    return cut(), cut()


def owners(lengths: list[int]) -> list[tuple[int, int]]:
    """For each byte: its token, and its place in it."""
    return [(token, place) for token, length in enumerate(lengths) for place in range(length)]


def slow_align(student: list[int], teacher: list[int]) -> list[Aligned | None]:
    mine, theirs = owners(student), owners(teacher)
    found: list[Aligned | None] = []
    for token in range(len(student)):
        covered = [index for index, (owner, _) in enumerate(mine) if owner == token]
        first, place = theirs[covered[0]]
        last, end = theirs[covered[-1]]
        found.append(Aligned(first, last, end + 1) if place == 0 else None)
    return found


@given(two_cuts())
def test_agrees_with_the_byte_by_byte_twin(cuts: tuple[list[int], list[int]]) -> None:
    student, teacher = cuts
    assert align(student, teacher) == slow_align(student, teacher)


@given(two_cuts())
def test_equal_cuts_are_aligned_everywhere(cuts: tuple[list[int], list[int]]) -> None:
    lengths, _ = cuts
    assert align(lengths, lengths) == [Aligned(index, index, length) for index, length in enumerate(lengths)]


@pytest.mark.parametrize(("student", "teacher"), [([2], [1]), ([1, 0], [1]), ([], [1])])
def test_cuts_of_different_bytes_are_refused(student: list[int], teacher: list[int]) -> None:
    with pytest.raises(ValueError, match="same bytes"):
        align(student, teacher)
