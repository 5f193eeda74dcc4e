"""Where a text leaves the student's, against texts that are made to leave it at a known step."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.export.parting import Parting, partings, words

_BYTES = [b"", b"a", b"b", b"ab", "é".encode()[:1], "é".encode()[1:]]
"""Id 0 is the end token; two ids are the halves of a character."""


def decode(ids: Sequence[int]) -> str:
    return b"".join(_BYTES[index] for index in ids).decode("utf-8", errors="replace")


answers = st.lists(st.lists(st.integers(1, len(_BYTES) - 1), min_size=1, max_size=6), min_size=1, max_size=4)


@given(answers, st.data())
def test_a_text_leaves_the_students_at_the_first_other_token(ours: list[list[int]], data: st.DataObject) -> None:
    same, texts, expected = [], [], []
    for place, answer in enumerate(ours):
        step = data.draw(st.none() | st.integers(0, len(answer) - 1))
        theirs = list(answer)
        if step is not None:
            # All that follows is another text, so that it can't meet ours again.
            theirs = [*answer[:step], *data.draw(st.lists(st.integers(1, 3), max_size=3))]
            if decode(theirs) != decode(answer):
                expected.append((place, step))
        same += [step is None or row != step for row in range(len(answer))]
        texts.append(decode(theirs))
    margins = np.arange(len(same), dtype=np.float64)
    found = partings(texts, ours, decode, np.array(same), margins, margins + 1)
    assert [(one.answer, one.step) for one in found] == expected
    before = [sum(map(len, ours[:place])) for place, _ in expected]
    assert [one.margin for one in found] == [first + step for first, (_, step) in zip(before, expected, strict=True)]
    assert all(one.noise == one.margin + 1 and one.explained for one in found)


@pytest.mark.parametrize(
    ("text", "answer", "step"),
    [("ab", [1, 2, 0], None), ("aba", [1, 2, 0], 2), ("a", [1, 2, 0], 1), ("", [0], None), ("aé", [1, 4, 5], None)],
)
def test_without_another_likeliest_token_the_texts_tell_the_step(
    text: str, answer: list[int], step: int | None
) -> None:
    """As where a runtime rounds an answer that it writes differently from one that it reads."""
    found = partings([text], [answer], decode, np.ones(len(answer), bool), np.full(len(answer), 0.5))
    assert found == ([] if step is None else [Parting(0, step, 0.5, 0.0)])


def test_the_words_name_the_clearest_step_and_what_rounding_can_change() -> None:
    tie, clear = Parting(0, 3, 0.002, 0.1), Parting(1, 4, 0.3, 0.2)
    assert words([tie], 6) == (
        "1 of 6 texts differs, from a step where the student's two most likely tokens are 0.002000 nats apart, "
        "less than the 0.1000 that rounding can change"
    )
    assert words([tie, clear], 6).startswith("2 of 6 texts differ, at the clearest from a step where")
    assert words([tie, clear], 6).endswith("0.3000 nats apart, more than the 0.2000 that rounding can change")
    assert words([Parting(0, 3, 0.3, 0.0)], 1).endswith("0.3000 nats apart")
