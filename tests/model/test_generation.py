"""An answer as text: the tokenizer's template around the prompt, decoding, and no special tokens in the end."""

import dataclasses

import pytest
import torch

from bitnet_core.errors import BitnetError
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.decoding import generate_ids
from bitnet_core.model.generation import generate, generate_batch
from bitnet_core.model.packing import pack_student
from bitnet_core.model.sampling import Decoding
from bitnet_core.model.student import Student
from bitnet_core.settings.values import Sampling
from tests.traces.samples import small_tokenizer

TOKENIZER = small_tokenizer()
SAID = [{"role": "user", "content": "the rain"}]


@pytest.fixture
def student(config: StudentConfig) -> Student:
    made = Student(dataclasses.replace(config, vocab_size=TOKENIZER.vocab_size, max_position_embeddings=256))
    for linear in made.bit_linears():
        torch.nn.init.normal_(linear.weight, 0.0, 0.3)
    return made


def test_the_answer_is_the_text_of_the_ids(student: Student) -> None:
    answer = generate(student, TOKENIZER, "the rain", max_tokens=12)
    ids = TOKENIZER.encode(TOKENIZER.render_prompt(SAID))
    with student.held_weights():
        made = generate_ids(student, ids, Sampling(max_tokens=12), eos_id=TOKENIZER.eos_id)
    assert answer == TOKENIZER.decode(made.ids) != ""
    assert generate(student, TOKENIZER, SAID, max_tokens=12) == answer
    assert student.get_submodule("model.layers.0.mlp.up_proj")._held is None, "training can go on"


def test_a_seed_decides_and_a_packed_student_answers_too(student: Student) -> None:
    packed = pack_student(student)
    answers = [
        generate(packed, TOKENIZER, "the rain", max_tokens=16, temperature=1.0, seed=seed) for seed in (1, 1, 2)
    ]
    assert answers[0] == answers[1] != answers[2]


def test_another_tokenizer_is_refused(config: StudentConfig) -> None:
    other = Student(dataclasses.replace(config, vocab_size=TOKENIZER.vocab_size + 1))
    with pytest.raises(BitnetError, match="the tokenizer that the student was trained with"):
        generate(other, TOKENIZER, "the rain")


def test_the_text_streams_and_ends_before_a_stop_string(student: Student) -> None:
    pieces: list[str] = []
    whole = generate(student, TOKENIZER, "the rain", max_tokens=24, on_text=pieces.append)
    assert "".join(pieces) == whole
    assert len(pieces) > 5
    stop = whole[7:10]
    assert generate(student, TOKENIZER, "the rain", max_tokens=24, stop=[stop]) == whole[: whole.index(stop)]


def test_a_batch_is_its_prompts_one_by_one(student: Student) -> None:
    student.double()
    prompts = ["the rain", "then explain it all", [{"role": "user", "content": "aa"}]]
    shown = ["", "", ""]

    def on_text(row: int, text: str) -> None:
        shown[row] += text

    decoding = Decoding(max_tokens=9, temperature=1.0, top_k=50)
    together = generate_batch(student, TOKENIZER, prompts, decoding, seeds=[3, 4, 5], on_text=on_text)
    apart = [
        generate(student, TOKENIZER, one, max_tokens=9, temperature=1.0, top_k=50, seed=seed)
        for one, seed in zip(prompts, (3, 4, 5), strict=True)
    ]
    assert together == apart == shown
