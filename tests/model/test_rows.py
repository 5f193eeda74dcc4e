"""Rows decoded together are the rows decoded alone: greedily, seeded, at the context's end and after others' ends."""

import pytest
import torch

from bitnet_core.errors import BitnetError
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.decoding import generate_ids
from bitnet_core.model.packing import pack_student
from bitnet_core.model.rows import decode_rows
from bitnet_core.model.sampling import Decoding
from bitnet_core.model.student import Student

PROMPTS = [[5, 17, 200, 3], [9], list(range(40)), [300, 2, 2, 7, 11, 250]]
SEEDS = [1, 2, 3, 4]


@pytest.fixture
def student(config: StudentConfig) -> Student:
    """In fp64: in fp32 one row and many use different matmul kernels, and the last bit may move a level."""
    made = Student(config)
    for linear in made.bit_linears():
        torch.nn.init.normal_(linear.weight, 0.0, 0.3)
    return pack_student(made).double()


def alone(student: Student, decoding: Decoding) -> list[list[int]]:
    return [
        generate_ids(student, prompt, decoding, generator=torch.Generator().manual_seed(seed)).ids
        for prompt, seed in zip(PROMPTS, SEEDS, strict=True)
    ]


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(max_tokens=12),
        Decoding(max_tokens=12, repetition_penalty=1.3),
        Decoding(max_tokens=12, temperature=1.0, top_k=40, top_p=0.9, min_p=0.01, repetition_penalty=1.1),
    ],
)
def test_together_is_alone(student: Student, decoding: Decoding) -> None:
    made = decode_rows(student, PROMPTS, decoding, seeds=SEEDS)
    assert made == alone(student, decoding)
    assert len({tuple(ids) for ids in made}) == len(PROMPTS), "equal answers would prove nothing"


def test_rows_end_at_the_end_token_and_at_their_own_context(student: Student) -> None:
    """The longest prompt ends first; the padding that it cost the others is then no part of their context."""
    free = alone(student, Decoding(max_tokens=999))
    assert [len(prompt) + len(ids) for prompt, ids in zip(PROMPTS, free, strict=True)] == [65] * 4
    assert decode_rows(student, PROMPTS, Decoding(max_tokens=999), seeds=SEEDS) == free
    eos = free[0][5]
    ended = decode_rows(student, PROMPTS, Decoding(max_tokens=999), seeds=SEEDS, eos_id=eos)
    assert ended == [ids[: ids.index(eos) + 1] if eos in ids else ids for ids in free]
    assert len(ended[0]) < len(free[0])


def test_a_row_ends_when_it_is_told_to(student: Student) -> None:
    free = alone(student, Decoding(max_tokens=8))
    counts = [0] * 4

    def on_id(row: int, index: int, logits_V: torch.Tensor) -> bool:
        assert index == free[row][counts[row]] == int(logits_V.argmax())
        counts[row] += 1
        return counts[row] < row + 1

    assert decode_rows(student, PROMPTS, Decoding(max_tokens=8), seeds=SEEDS, on_id=on_id) == [
        ids[: row + 1] for row, ids in enumerate(free)
    ]
    assert decode_rows(student, [], Decoding(max_tokens=8), seeds=[]) == []


def test_the_penalty_makes_repetition_rarer(student: Student) -> None:
    plain, held = (
        decode_rows(student, PROMPTS, Decoding(max_tokens=20, repetition_penalty=penalty), seeds=SEEDS)
        for penalty in (1.0, 50.0)
    )
    for prompt, ids in zip(PROMPTS, held, strict=True):
        assert len({*prompt, *ids}) == len(set(prompt)) + len(ids)
    assert plain != held


@pytest.mark.parametrize("size", [0, 65])
def test_a_prompt_without_room_is_refused(student: Student, size: int) -> None:
    with pytest.raises(BitnetError, match=f"{size} tokens"):
        decode_rows(student, [[1], [1] * size], Decoding(max_tokens=1), seeds=[0, 0])
