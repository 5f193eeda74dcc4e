"""Generation with a cache gives what generation without one gives; samples follow the formula."""

import pytest
import torch

from bitnet_core.errors import BitnetError
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.decoding import generate_ids
from bitnet_core.model.packing import pack_student
from bitnet_core.model.student import Student
from bitnet_core.settings.values import Sampling

PROMPT = [5, 17, 200, 3]


@pytest.fixture
def student(config: StudentConfig) -> Student:
    made = Student(config)
    # At initialisation a student repeats what it reads; with strong layers its answers depend on the context.
    for linear in made.bit_linears():
        torch.nn.init.normal_(linear.weight, 0.0, 0.3)
    return pack_student(made)


@torch.no_grad()
def slow_greedy(student: Student, prompt: list[int], count: int) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(student.logits(student(torch.tensor([ids]))[0, -1]).argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("prompt", [[9], PROMPT, list(range(40))], ids=len)
def test_cached_greedy_is_recomputation_token_by_token(student: Student, prompt: list[int], bits: int) -> None:
    """In fp64: in fp32 one token and many use different matmul kernels, and the last bit may move a level."""
    student.double().activation_bits = bits
    made = generate_ids(student, prompt, Sampling(max_tokens=20))
    assert made.ids == slow_greedy(student, prompt, 20)
    assert len(set(made.ids)) > 3, "a constant answer would prove nothing"
    assert made.finish_reason == "length"


def test_the_end_token_ends_it_and_is_kept(student: Student) -> None:
    free = generate_ids(student, PROMPT, Sampling(max_tokens=12)).ids
    eos = free[5]
    made = generate_ids(student, PROMPT, Sampling(max_tokens=12), eos_id=eos)
    assert made.ids == free[: free.index(eos) + 1]
    assert made.finish_reason == "eos"


def test_asking_for_the_end_in_strides_changes_nothing(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, but on the CPU."""
    from bitnet_core.model import decoding

    free = generate_ids(student, PROMPT, Sampling(max_tokens=30)).ids
    eos = free[9]
    expected = generate_ids(student, PROMPT, Sampling(max_tokens=30), eos_id=eos)
    monkeypatch.setitem(decoding._STRIDE, "cpu", 4)
    made = generate_ids(student, PROMPT, Sampling(max_tokens=30), eos_id=eos)
    assert (made.ids, made.finish_reason) == (expected.ids, expected.finish_reason)


def test_the_context_ends_it_after_its_last_position(student: Student) -> None:
    limit = student.config.max_position_embeddings
    prompt = [1] * (limit - 3)
    made = generate_ids(student, prompt, Sampling(max_tokens=50))
    # Three more positions can be read, and the last of them predicts one token more.
    assert len(made.ids) == 4
    assert made.finish_reason == "context"
    assert len(generate_ids(student, [1] * limit, Sampling(max_tokens=50)).ids) == 1


@pytest.mark.parametrize("size", [0, 65])
def test_a_prompt_without_room_is_refused(student: Student, size: int) -> None:
    with pytest.raises(BitnetError, match=f"{size} tokens"):
        generate_ids(student, [1] * size, Sampling(max_tokens=1))


def test_a_seed_decides_a_sample(student: Student) -> None:
    def sample(seed: int) -> list[int]:
        rng = torch.Generator().manual_seed(seed)
        return generate_ids(student, PROMPT, Sampling(max_tokens=16, temperature=1.0, top_p=0.9), generator=rng).ids

    assert sample(1) == sample(1)
    assert len({tuple(sample(seed)) for seed in range(4)}) > 1


def test_timings_and_the_callback_between_tokens(student: Student) -> None:
    calls: list[None] = []
    made = generate_ids(student, PROMPT, Sampling(max_tokens=6), on_token=lambda: calls.append(None))
    assert len(calls) == 5
    assert made.prefill_s > 0
    assert made.decode_tokens_per_s == pytest.approx(5 / made.decode_s)
    assert generate_ids(student, PROMPT, Sampling(max_tokens=1)).decode_tokens_per_s is None
