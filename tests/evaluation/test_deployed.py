"""The student runs in a separate process, gives the same answers there, and its memory is measured there."""

from pathlib import Path

import pytest
import torch

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.evaluation.deployed import run_deployed
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.decoding import Generation, generate_ids
from bitnet_core.model.packing import pack_student
from bitnet_core.model.student import Student
from bitnet_core.settings.values import Sampling

CPU = "cpu"
PROMPTS = [[3, 4, 5], [200, 7]]


def test_the_child_gives_the_same_answers_and_measures_itself(tmp_path: Path) -> None:
    config = StudentConfig(
        vocab_size=60_000,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
    )
    packed = pack_student(Student(config))
    sampling = Sampling(max_tokens=6, temperature=0.9, top_p=0.9)
    answered: list[int] = []

    def on_answer(place: int, answer: Generation) -> None:
        answered.append(place)
        assert answer.prompt_tokens == len(PROMPTS[place])

    found = run_deployed(
        packed,
        PROMPTS,
        sampling,
        eos_id=-1,
        seed=11,
        device=CPU,
        scratch=tmp_path,
        on_answer=on_answer,
    )
    assert answered == [0, 1]
    for place, answer in enumerate(found.answers):
        rng = torch.Generator().manual_seed(11 + place)
        assert answer.ids == generate_ids(packed, PROMPTS[place], sampling, generator=rng).ids
    embedding = 60_000 * 256 * 4
    assert found.weights["embedding"] == embedding
    # The embedding is nearly all of it, and the parent's torch, pytest and masters are none of it.
    assert found.weights["total"] * 0.9 < found.memory_bytes < found.weights["total"] * 1.3 + (16 << 20)
    assert found.rss_peak_bytes >= found.memory_bytes * 0.9
    assert found.decode_tokens_per_s is not None
    assert found.decode_tokens_per_s > 0
    assert found.end_to_end_tokens_per_s > 0
    assert list(tmp_path.iterdir()) == []


def test_a_stop_ends_the_child(student: Student, tmp_path: Path) -> None:
    def stop() -> None:
        raise Stopped("stopped")

    with pytest.raises(Stopped):
        run_deployed(
            pack_student(student),
            PROMPTS,
            Sampling(max_tokens=3),
            eos_id=-1,
            seed=0,
            device=CPU,
            scratch=tmp_path,
            check_stop=stop,
        )
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_the_child_is_raised_here(student: Student, tmp_path: Path) -> None:
    with pytest.raises(BitnetError, match="reads 1 to 64"):
        run_deployed(
            pack_student(student), [[1] * 99], Sampling(max_tokens=3), eos_id=-1, seed=0, device=CPU, scratch=tmp_path
        )


def test_a_child_that_dies_raises(student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(BitnetError, match="ended early"):
        run_deployed(
            pack_student(student), PROMPTS, Sampling(max_tokens=3), eos_id=-1, seed=0, device=CPU, scratch=tmp_path
        )
