"""Projection onto other vocabularies, Mistral's 32,000 pieces among them, against a twin written from the rules."""

import functools
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bitnet_core.tokenizer.steps import TeacherStep
from bitnet_core.tokenizer.student import NoToken, StudentTokenizer
from bitnet_core.traces.answer import Rejected
from tests.tokenizer.vocabularies import NO_FALLBACK, UNIGRAM, texts
from tests.traces.samples import projected, random_cut, rows_of, small_tokenizer, steps_for


@given(texts.filter(bool), st.integers(0, 2**32 - 1))
def test_projection_keeps_bytes_mass_and_the_observed_token(mistral: StudentTokenizer, text: str, seed: int) -> None:
    teacher, draw = small_tokenizer(), random.Random(seed)
    ids = random_cut(text.encode(), teacher, draw)
    steps = steps_for([*ids, teacher.eos_id], teacher, draw, in_top=0.8)
    for tokenizer in (mistral, UNIGRAM, NO_FALLBACK):
        try:
            made = projected(steps, "stop", tokenizer)
        except Rejected as refused:
            assert tokenizer is NO_FALLBACK
            assert refused.reason in ("byte_without_token", "unknown_candidates")
            continue
        stream = made.completion_ids_C.tolist()
        assert b"".join(map(tokenizer.text_bytes, stream)) == text.encode()
        assert made.stream_bytes == len(text.encode())
        assert stream[-1] == tokenizer.eos_id
        assert np.isfinite(made.topk_logprobs_RK[made.topk_ids_RK >= 0]).all()
        mass_R = np.exp(made.topk_logprobs_RK).sum(axis=1) + np.exp(made.other_R)
        assert np.abs(mass_R - 1).max(initial=0) < 1e-9
        starts = {sum(len(step.data) for step in steps[:number]) for number in range(len(steps) - 1)}
        same = all(
            not data or data in tokenizer.ids_by_bytes for step in steps for data in (step.data, *step.top_bytes)
        )
        begin = 0
        rows = {row.stream_pos: row for row in rows_of(made)}
        for position, index in enumerate(stream[:-1]):
            assert (position in rows) == (begin in starts)
            if position in rows:
                row = rows[position]
                assert len(set(row.topk_ids)) == len(row.topk_ids)
                wanted = slow_masses(steps, row.step_idx, index, tokenizer, same)
                found = dict(zip(row.topk_ids, np.exp(row.topk_logprobs), strict=True))
                assert found == pytest.approx(wanted, abs=1e-9)
            begin += len(tokenizer.token_bytes(index))


def test_a_character_the_teacher_splits_and_the_student_does_not_keeps_its_mass() -> None:
    """The student has no token for the parts; its token for the whole gets the product of their masses."""
    teacher = small_tokenizer()
    rain = "🌧".encode()
    parts = [teacher.ids_by_bytes[rain[at : at + 1]] for at in range(len(rain))]
    a = teacher.ids_by_bytes[b"a"]
    steps = [
        TeacherStep(part, teacher.token_bytes(part), math.log(0.5), (part, a), (teacher.token_bytes(part), b"a"),
                    (math.log(0.5), math.log(0.25)))
        for part in parts
    ]  # fmt: skip
    assert b"".join(step.data for step in steps) == rain
    (row,) = rows_of(projected(steps, "length", NO_FALLBACK))
    found = dict(zip(row.topk_ids, row.topk_logprobs, strict=True))
    assert found == pytest.approx(
        {NO_FALLBACK.ids_by_bytes[b"a"]: math.log(0.25), NO_FALLBACK.ids_by_bytes[rain]: 4 * math.log(0.5)}
    )
    assert row.other_logprob == pytest.approx(math.log(1 - 0.25 - 0.5**4))


def slow_masses(
    steps: Sequence[TeacherStep], place: int, index: int, tokenizer: StudentTokenizer, same: bool
) -> dict[int, float]:
    """Probability by student token, one candidate at a time; written from the rules, not from the code."""
    step = steps[place]
    table: dict[int, float] = {}
    for candidate, data, logprob in zip(step.top_ids, step.top_bytes, step.top_logprobs, strict=True):
        first = first_of(data, tokenizer, same)
        if candidate != step.token_id and first is not None:
            table[first] = table.get(first, 0.0) + math.exp(logprob)
    observed = math.exp(step.logprob)
    said = tokenizer.token_bytes(index)
    listed, shared = step.token_id in step.top_ids, index in table
    as_it_is = said == step.data and first_of(said, tokenizer, same) == index
    if as_it_is and not listed and not shared:
        return table  # a part of Other, like every token outside the list
    left = said[len(step.data) :]
    for later in steps[place + 1 :]:
        if not left:
            break
        options = {(later.token_id, later.data): math.exp(later.logprob)}
        options |= {
            (other, data): math.exp(logprob)
            for other, data, logprob in zip(later.top_ids, later.top_bytes, later.top_logprobs, strict=True)
        }
        whole = len(left) >= len(later.data)
        fitting = [p for (_, data), p in options.items() if data.startswith(left)]
        observed *= math.exp(later.logprob) if whole else min(1.0, sum(fitting))
        left = left[len(later.data) :]
    table[index] = table.get(index, 0.0) + observed
    return table


def first_of(data: bytes, tokenizer: StudentTokenizer, same: bool) -> int | None:
    """The first token that the library itself gives for these bytes where they follow another text."""
    if not data:
        return tokenizer.eos_id
    if same:
        return tokenizer.ids_by_bytes[data]
    try:
        tokenizer.encode_bytes(data)
    except NoToken:
        return None
    text = data.decode(errors="replace").partition("\ufffd")[0]
    for before in ("\n", "a", "\x01", ".") if text else ():
        encoded = library_of(tokenizer).encode(before + text, add_special_tokens=False)
        at = [begin for begin, _ in encoded.offsets]
        if any(begin < len(before) < end for begin, end in encoded.offsets) or len(before) not in at:
            continue
        found = int(encoded.ids[at.index(len(before))])
        said = tokenizer.text_bytes(found)
        if said and data.startswith(said):
            return found
        break  # a normaliser changed the text
    sizes = range(len(data), 0, -1)
    return next(tokenizer.ids_by_bytes[data[:size]] for size in sizes if data[:size] in tokenizer.ids_by_bytes)


@functools.cache
def library_of(tokenizer: StudentTokenizer) -> Tokenizer:
    library = Tokenizer.from_str(tokenizer._tokenizer.to_str())
    library.encode_special_tokens = True
    return library
