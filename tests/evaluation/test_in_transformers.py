"""The row of transformers in the card that ends an evaluation: measured, or why it was not."""

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.evaluation import in_transformers
from bitnet_core.evaluation.as_deployed import runtime_answers
from bitnet_core.evaluation.in_transformers import needed_bytes, row_in_transformers
from bitnet_core.export import hf, verify
from bitnet_core.export.card import Row
from bitnet_core.export.verify import Answers
from bitnet_core.model.packing import pack_student
from bitnet_core.model.student import Student
from bitnet_core.runs.context import StageContext
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import emitted, stage_context
from tests.export.conftest import random_student
from tests.traces.samples import small_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> StudentTokenizer:
    return small_tokenizer()


@pytest.fixture
def student(tokenizer: StudentTokenizer) -> Student:
    return pack_student(random_student(tokenizer.vocab_size))


@pytest.fixture
def ctx(root: Path) -> StageContext:
    return stage_context(root, "eval", {})


def not_asked() -> Answers:
    raise AssertionError("the student was asked for nothing")


def untried(student: Student, tokenizer: StudentTokenizer, ctx: StageContext) -> Row:
    row = row_in_transformers(student, tokenizer, not_asked, ctx, ctx.run_dir)
    assert (row.runtime, row.found, row.tokens_per_s) == ("transformers", None, None)
    assert row.line.endswith(".")
    return row


def left_in(folder: Path) -> Sequence[Path]:
    return list(folder.glob(".in-transformers*"))


def test_it_is_compared_and_measured_and_nothing_is_left(
    student: Student, tokenizer: StudentTokenizer, ctx: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    student.activation_bits = 4
    answers = runtime_answers(student, tokenizer, ctx)
    assert [len(ids) for ids in answers.answers] == [verify.NEW_TOKENS] * 2
    assert student.activation_bits == 4
    # What is not the student is said, and stands in the card all the same.
    monkeypatch.setattr(verify, "_MOST_KL_TRANSFORMERS", -1.0)
    row = row_in_transformers(student, tokenizer, lambda: answers, ctx, ctx.run_dir)
    assert (row.loads, row.same_text, row.compared_with) == ("yes", "2 of 2", "the student at 8 bits, in fp32")
    assert row.found is not None and row.found.steps == 2 * verify.NEW_TOKENS
    assert row.found.max_difference < 1e-4 and row.found.agreement == 1.0
    assert row.tokens_per_s is not None and row.tokens_per_s > 0
    assert row.memory_bytes is not None and 0 < row.memory_bytes < needed_bytes(student)
    assert row.file_bytes is not None and row.file_bytes > 4 * tokenizer.vocab_size * 256
    assert left_in(ctx.run_dir) == []
    (alert,) = emitted(ctx, "alert")
    assert alert["code"] == "not_the_student"
    assert "transformers" in alert["message"] and "bitnet export hf" in alert["advice"]


def test_without_accelerate_it_says_what_to_install(
    student: Student, tokenizer: StudentTokenizer, ctx: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    row = untried(student, tokenizer, ctx)
    assert row.loads == "not tried"
    assert row.line.endswith("run pip install 'bitnet-tui[gguf]' and try again.")


def test_one_that_does_not_fit_is_not_tried(
    student: Student, tokenizer: StudentTokenizer, ctx: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_transformers, "available_bytes", lambda: needed_bytes(student) - 1)
    row = untried(student, tokenizer, ctx)
    assert row.loads == "not tried"
    assert row.line.startswith("transformers would need 6")
    assert row.line.endswith(" are free; `bitnet export hf` tries it.")


def test_one_that_would_take_minutes_is_not_tried(
    student: Student, tokenizer: StudentTokenizer, ctx: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_transformers, "_MOST_PARAMETERS", student.config.parameters() - 1)
    row = untried(student, tokenizer, ctx)
    assert row.loads == "not tried"
    assert row.line.startswith(f"{student.config.parameters():,} parameters, unpacked to fp32, would take")


def test_one_that_it_can_not_compute_is_refused(
    student: Student, tokenizer: StudentTokenizer, ctx: StageContext
) -> None:
    student.config = replace(student.config, hadamard=True)
    row = untried(student, tokenizer, ctx)
    assert row.loads == "no"
    assert row.line.startswith("transformers can't compute the Hadamard transform")


def test_a_full_disk_is_said_and_the_evaluation_goes_on(
    student: Student, tokenizer: StudentTokenizer, ctx: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise BitnetError("it can't be written (no space left on device).")

    monkeypatch.setattr(hf, "write", full)
    answers = partial(runtime_answers, student, tokenizer, ctx)
    row = row_in_transformers(student, tokenizer, answers, ctx, ctx.run_dir)
    assert (row.loads, row.line) == ("no", "it can't be written (no space left on device).")
    assert left_in(ctx.run_dir) == []


def test_without_a_prompt_to_compare_along_transformers_is_not_blamed(
    student: Student, tokenizer: StudentTokenizer, ctx: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "_SHORT_PROMPTS", 1 / 1000)
    row = row_in_transformers(student, tokenizer, partial(runtime_answers, student, tokenizer, ctx), ctx, ctx.run_dir)
    assert row.loads == "not tried"
    assert "--no-verify" not in row.line


def test_a_stop_ends_the_process_that_runs_it(
    student: Student, tokenizer: StudentTokenizer, ctx: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, others = runtime_answers(student, tokenizer, ctx), set(psutil.Process().children())
    monkeypatch.setattr(ctx, "check_stop", lambda: (_ for _ in ()).throw(Stopped()))
    with pytest.raises(Stopped):
        row_in_transformers(student, tokenizer, lambda: answers, ctx, ctx.run_dir)
    assert set(psutil.Process().children()) <= others
    assert left_in(ctx.run_dir) == []
