"""A student answers and scores in llama.cpp as in this program; where it can't run there, this program does it."""

import contextlib
from pathlib import Path

import pytest
import torch

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.student_runtime import StudentFile, StudentRuntime, student_file, student_runtime
from bitnet_core.files.half_written import scratch_beside
from bitnet_core.model.packing import pack_student
from bitnet_core.model.student import Student
from bitnet_core.suites.run import Answer, Unanswered
from bitnet_core.teachers.embedded.completions import LlamaCppWriter
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import stage_context
from tests.export.conftest import random_student
from tests.traces.samples import small_tokenizer

CPU = torch.device("cpu")
PROMPTS = ["the rain", "in Spain", "the rain in Spain stays mainly", "x" * 2000]
TEXTS = [("", "The rain in Spain, naïve café."), ("the ", "there then")]


@pytest.fixture(scope="module")
def tokenizer() -> StudentTokenizer:
    return small_tokenizer()


@pytest.fixture
def student(tokenizer: StudentTokenizer) -> Student:
    return pack_student(random_student(tokenizer.vocab_size))


def answers(here: StudentRuntime) -> list[Answer]:
    found: dict[int, Answer] = {}
    here.answers(PROMPTS, found.__setitem__)
    return [found[place] for place in range(len(PROMPTS))]


def test_llamacpp_answers_and_scores_as_this_program_does(
    tokenizer: StudentTokenizer, student: Student, root: Path
) -> None:
    ctx = stage_context(root, "eval", {})
    student.activation_bits = 8
    found, scores = [], []
    with student_file(student, tokenizer, embedded=True, device=CPU, scratch=ctx.run_dir) as file:
        assert file.path is not None and file.path.exists()
        for one in (file, StudentFile(None, "by choice")):
            with student_runtime(one, student, tokenizer, 6, ctx, CPU) as here:
                with scratch_beside(ctx.run_dir / "packed"):  # the measurement in this program has its own
                    assert file.path.exists()
                found.append((here.name, here.why, answers(here)))
                scores.append(here.scorer.score(TEXTS))
    assert not list(ctx.run_dir.glob(".*"))
    (served, _, there), (own, why, ours) = found
    assert (served, own, why) == ("llama.cpp", "in-process", "by choice")
    limit = student.config.max_position_embeddings
    assert there[-1] == ours[-1] == Unanswered(f"the prompt is longer than the student's {limit} positions")
    # A random student's likeliest tokens are nearly tied, so that rounding decides some of them.
    assert sum(a == b for a, b in zip(there, ours, strict=True)) >= 3
    for one, other in zip(*scores, strict=True):
        assert one is not None and other is not None
        assert one.logprob == pytest.approx(other.logprob, rel=0.02)


def test_several_rows_answer_as_each_alone(tokenizer: StudentTokenizer, student: Student, root: Path) -> None:
    ctx = stage_context(root, "eval", {})
    with student_runtime(StudentFile(None), student, tokenizer, 6, ctx, CPU) as here:
        together = answers(here)
        for prompt, expected in zip(PROMPTS[:-1], together, strict=False):
            alone: dict[int, Answer] = {}
            here.answers([prompt], alone.__setitem__)
            assert alone[0] == expected


def test_a_file_that_llamacpp_does_not_load_is_said(
    tokenizer: StudentTokenizer, student: Student, root: Path, tmp_path: Path
) -> None:
    ctx = stage_context(root, "eval", {})
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF and nothing else")
    with student_runtime(StudentFile(path), student, tokenizer, 4, ctx, CPU) as here:
        assert here.name == "in-process"
        assert here.why.startswith(f"llama.cpp can't serve {path}")
        assert isinstance(answers(here)[0], str)


def test_a_server_that_ends_leaves_the_rest_unanswered(
    tokenizer: StudentTokenizer, student: Student, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ending(self: LlamaCppWriter, prompts: object, most: object, on_done: object) -> None:
        on_done(1, tokenizer.encode("yes"))  # type: ignore[operator]
        raise BitnetError("the server is gone.")

    monkeypatch.setattr(LlamaCppWriter, "write", ending)
    ctx = stage_context(root, "eval", {})
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(student_file(student, tokenizer, embedded=True, device=CPU, scratch=ctx.run_dir))
        here = stack.enter_context(student_runtime(file, student, tokenizer, 4, ctx, CPU))
        found = answers(here)
    assert found[1] == "yes"
    assert found[0] == found[2] == Unanswered("the server is gone.")
