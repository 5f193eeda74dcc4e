"""Projection within one vocabulary: bytes, identity, mass, and the rows of a different cut against a slow twin."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.tokenizer.steps import TeacherStep, TokenTable
from bitnet_core.traces.answer import Rejected, check_answer
from bitnet_core.traces.project import Projection
from bitnet_core.traces.vocabulary import Vocabulary
from tests.builders import completion_of_steps
from tests.traces.samples import projected, random_cut, rows_of, small_tokenizer, steps_for

TOKENIZER = small_tokenizer()

texts = st.text(alphabet=st.sampled_from([*'abthe rin{}":,1 \n', "é", "東", "京", "🌧", "🌪"]), min_size=1, max_size=40)
seeds = st.integers(0, 2**32 - 1)


def stream_bytes(projection: Projection) -> bytes:
    return b"".join(TOKENIZER.text_bytes(index) for index in projection.completion_ids_C.tolist())


def masses(projection: Projection) -> list[float]:
    return [math.fsum(map(math.exp, [*row.topk_logprobs, row.other_logprob])) for row in rows_of(projection)]


@given(texts, seeds)
def test_the_stream_is_the_teachers_bytes_and_each_row_sums_to_one(text: str, seed: int) -> None:
    draw = random.Random(seed)
    ids = random_cut(text.encode(), TOKENIZER, draw)
    projection = projected(steps_for(ids, TOKENIZER, draw, in_top=0.8), "length", TOKENIZER)
    assert stream_bytes(projection) == text.encode()
    assert projection.completion_ids_C.tolist() == TOKENIZER.encode_plain(text)
    assert len(projection.is_struct_C) == len(projection.completion_ids_C.tolist())
    assert masses(projection) == pytest.approx([1.0] * len(rows_of(projection)), abs=1e-9)
    for row in rows_of(projection):
        assert len(set(row.topk_ids)) == len(row.topk_ids)
        assert list(row.topk_logprobs) == sorted(row.topk_logprobs, reverse=True)


@given(st.binary(min_size=1, max_size=30), seeds)
def test_bytes_that_are_not_utf8_survive(data: bytes, seed: int) -> None:
    draw = random.Random(seed)
    projection = projected(steps_for(random_cut(data, TOKENIZER, draw), TOKENIZER, draw), "length", TOKENIZER)
    assert stream_bytes(projection) == data


@given(texts, seeds, st.booleans())
def test_equal_cuts_give_the_candidates_bit_for_bit(text: str, seed: int, stops: bool) -> None:
    draw = random.Random(seed)
    ids = TOKENIZER.encode_plain(text) + ([TOKENIZER.eos_id] if stops else [])
    steps = steps_for(ids, TOKENIZER, draw, in_top=0.7)
    projection = projected(steps, "stop" if stops else "length", TOKENIZER)
    assert projection.completion_ids_C.tolist() == ids
    assert projection.recut == 0
    assert [row.stream_pos for row in rows_of(projection)] == list(range(len(ids)))
    for row, step in zip(rows_of(projection), steps, strict=True):
        assert row.topk_ids == step.top_ids
        assert row.topk_logprobs == step.top_logprobs
        assert row.other_logprob == pytest.approx(math.log(1 - math.fsum(map(math.exp, step.top_logprobs))), abs=1e-9)


@given(texts, seeds)
def test_another_cut_gives_the_slow_twins_rows(text: str, seed: int) -> None:
    draw = random.Random(seed)
    steps = steps_for(random_cut(text.encode(), TOKENIZER, draw), TOKENIZER, draw, in_top=0.8)
    projection = projected(steps, "length", TOKENIZER)
    rows = {row.stream_pos: row for row in rows_of(projection)}
    begin = 0
    for position, index in enumerate(projection.completion_ids_C.tolist()):
        length = len(TOKENIZER.token_bytes(index))
        wanted = slow_row(steps, begin, index)
        begin += length
        assert (position in rows) == (wanted is not None)
        if wanted is not None:
            found = dict(zip(rows[position].topk_ids, np.exp(rows[position].topk_logprobs), strict=True))
            assert found == pytest.approx(wanted, abs=1e-9)


def slow_row(steps: tuple[TeacherStep, ...], begin: int, index: int) -> dict[int, float] | None:
    """Probabilities by id for a student token at byte `begin`; None inside a teacher token."""
    starts = [sum(len(step.data) for step in steps[:number]) for number in range(len(steps))]
    if begin not in starts:
        return None
    number = starts.index(begin)
    table = {other: math.exp(logprob) for other, logprob in zip(steps[number].top_ids, steps[number].top_logprobs)}  # noqa: B905
    if steps[number].token_id == index:
        return table
    table.pop(steps[number].token_id, None)
    mass = math.exp(steps[number].logprob)
    left = TOKENIZER.token_bytes(index)[len(steps[number].data) :]
    for step in steps[number + 1 :]:
        if not left:
            break
        options = {step.token_id: math.exp(step.logprob)}
        options |= {other: math.exp(logprob) for other, logprob in zip(step.top_ids, step.top_logprobs)}  # noqa: B905
        if len(left) >= len(step.data):
            mass *= options[step.token_id]
        else:
            mass *= min(1.0, sum(p for other, p in options.items() if TOKENIZER.token_bytes(other).startswith(left)))
        left = left[len(step.data) :]
    table[index] = table.get(index, 0.0) + mass
    return table


@given(texts, seeds)
def test_tokens_without_ids_are_identified_by_their_bytes(text: str, seed: int) -> None:
    draw = random.Random(seed)
    steps = steps_for(TOKENIZER.encode_plain(text), TOKENIZER, draw)
    blind = tuple(replace(step, token_id=-1, top_ids=(-1,) * len(step.top_ids)) for step in steps)
    seeing, by_bytes = projected(steps, "length", TOKENIZER), projected(blind, "length", TOKENIZER)
    assert rows_of(by_bytes) == rows_of(seeing)
    assert by_bytes.completion_ids_C.tolist() == seeing.completion_ids_C.tolist()


def test_a_character_reported_as_a_whole_keeps_the_stream_and_its_last_row() -> None:
    """llama.cpp reports a character of several tokens as one step, the last, with all the bytes."""
    rain = "🌪".encode()
    last = TOKENIZER.ids_by_bytes[rain[-1:]]
    draw = random.Random(3)
    (single,) = steps_for([last], TOKENIZER, draw)
    step = replace(single, data=rain)
    projection = projected((step,), "length", TOKENIZER)
    assert stream_bytes(projection) == rain
    vocabulary = Vocabulary(TOKENIZER, TokenTable())
    assert check_answer(completion_of_steps([step], vocabulary.table), vocabulary).bytes_before == {0: rain[:-1]}
    for row in rows_of(projection):
        assert row.stream_pos == len(projection.completion_ids_C.tolist()) - 1
        assert row.topk_ids == single.top_ids


@pytest.mark.parametrize("index", [0, 3])
@pytest.mark.parametrize("text", [" né", "né", "café", "東京", "a東", " ñ", "éé", "да", "😀😀", "x é", "¿qué", "1é"])
def test_an_id_that_two_whole_texts_share_splits_no_token(text: str, index: int) -> None:
    """Only bytes inside a character are held back, so what follows them does not begin with a whole one."""
    vocabulary = Vocabulary(TOKENIZER, TokenTable())
    part = text[-1].encode()
    step = TeacherStep(index, text.encode(), -0.5, (index, index), (text.encode(), part), (-0.5, -1.5))
    checked = check_answer(completion_of_steps([step], vocabulary.table), vocabulary)
    assert checked.bytes_before == {}
    assert checked.steps.step(0).data == text.encode()


def test_an_end_without_a_step_is_a_token_without_a_row() -> None:
    ids = TOKENIZER.encode_plain("the rain")
    projection = projected(steps_for(ids, TOKENIZER, random.Random(1)), "stop", TOKENIZER)
    assert projection.completion_ids_C.tolist() == [*ids, TOKENIZER.eos_id]
    assert len(rows_of(projection)) == len(ids)


def test_another_end_token_becomes_the_students_own() -> None:
    ids = [*TOKENIZER.encode_plain("the"), 0]
    steps = steps_for(ids, TOKENIZER, random.Random(1))
    end = replace(
        steps[-1], top_ids=(0, TOKENIZER.eos_id, *steps[-1].top_ids[2:]), top_bytes=(b"", b"", b"a", b"b", b"c")
    )
    end = replace(end, top_ids=(0, TOKENIZER.eos_id, *(TOKENIZER.ids_by_bytes[data] for data in (b"a", b"b", b"c"))))
    projection = projected((*steps[:-1], end), "stop", TOKENIZER)
    row = rows_of(projection)[-1]
    merged = math.log(math.exp(end.top_logprobs[0]) + math.exp(end.top_logprobs[1]))
    assert dict(zip(row.topk_ids, row.topk_logprobs, strict=True))[TOKENIZER.eos_id] == pytest.approx(merged)
    assert 0 not in row.topk_ids


def steps_of(text: str) -> tuple[TeacherStep, ...]:
    return steps_for(TOKENIZER.encode_plain(text), TOKENIZER, random.Random(5))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"logprob": math.nan}, "nan_logprob"),
        ({"top_logprobs": (-0.1,) * 5}, "mass_above_one"),
        ({"token_id": 1, "data": b""}, "control_token"),
    ],
)
def test_one_bad_step_rejects_the_sequence_with_its_reason(change: dict[str, object], reason: str) -> None:
    steps = list(steps_of("the rain there"))
    steps[1] = replace(steps[1], **change)  # type: ignore[arg-type]
    with pytest.raises(Rejected) as caught:
        projected(steps, "length", TOKENIZER)
    assert caught.value.reason == reason


def test_an_empty_completion_is_rejected() -> None:
    with pytest.raises(Rejected, match="empty_completion"):
        projected(steps_for([TOKENIZER.eos_id], TOKENIZER, random.Random(1)), "stop", TOKENIZER)
