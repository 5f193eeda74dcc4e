"""A completion as columns gives back its single steps."""

from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.tokenizer.steps import TeacherStep, TokenTable
from tests.builders import completion_of_steps


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 7))
def test_at_most_keeps_the_likeliest_candidates_and_the_sampled_one(most: int, given_: int, sampled: int) -> None:
    tops = tuple(-1.0 - rank for rank in range(given_))
    made = TeacherStep(sampled, b"%d" % sampled, -1.0 - sampled, tuple(range(given_)),
                       tuple(b"%d" % number for number in range(given_)), tops)  # fmt: skip
    cut = completion_of_steps([made], TokenTable()).at_most(most).step(0)
    wanted = list(range(min(most, given_)))
    if most <= sampled < given_:
        wanted[-1] = sampled
    assert list(cut.top_ids) == wanted
    assert list(cut.top_logprobs) == [-1.0 - number for number in wanted]
    assert (cut.token_id, cut.logprob) == (made.token_id, made.logprob)


_STEP = st.builds(
    lambda token_id, data, logprob, tops: TeacherStep(
        token_id, data, logprob, tuple(t[0] for t in tops), tuple(t[1] for t in tops), tuple(t[2] for t in tops)
    ),
    st.integers(-1, 5),
    st.binary(max_size=3),
    st.floats(-20, 0),
    st.lists(st.tuples(st.integers(-1, 5), st.binary(max_size=3), st.floats(-20, 0)), max_size=6),
)


@given(st.lists(_STEP, max_size=8))
def test_a_completion_gives_back_its_steps_with_candidates_in_order(steps: list[TeacherStep]) -> None:
    table = TokenTable()
    completion = completion_of_steps(steps, table)
    assert len(completion) == len(steps)
    assert completion.text() == b"".join(step.data for step in steps)
    for row, step in enumerate(steps):
        back = completion.step(row)
        assert (back.token_id, back.data, back.logprob) == (step.token_id, step.data, step.logprob)
        assert list(back.top_logprobs) == sorted(step.top_logprobs, reverse=True)
        given = zip(step.top_ids, step.top_bytes, step.top_logprobs, strict=True)
        assert sorted(zip(back.top_ids, back.top_bytes, back.top_logprobs, strict=True)) == sorted(given)
    assert len(set(zip(table.ids, table.spellings, strict=True))) == len(table)
