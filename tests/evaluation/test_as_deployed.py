"""A student in llama.cpp: measured by turns, with its memory, and what is said where it can't be."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation import as_deployed, llamacpp_process, qei, summary
from bitnet_core.evaluation.answers import EvalPrompt
from bitnet_core.evaluation.as_deployed import AsDeployed, measure_as_deployed, runtime_answers
from bitnet_core.evaluation.deployed import Deployed
from bitnet_core.evaluation.deployment import Compared, Contestant, Load, Measured, Side, measure
from bitnet_core.evaluation.llamacpp import Memory, kv_bytes
from bitnet_core.evaluation.student_runtime import student_file
from bitnet_core.evaluation.turns import FEWEST_ROUNDS, Fastest, spread
from bitnet_core.export import card, gguf, verify
from bitnet_core.model.decoding import Generation
from bitnet_core.model.packing import pack_student
from bitnet_core.model.student import Student
from bitnet_core.settings.values import EvalOptions
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import emitted, stage_context
from tests.export.conftest import random_student
from tests.traces.samples import small_tokenizer

PROMPTS = [[5, 6, 7, 8], [9, 10]]
HERE = Deployed([Generation([3] * 5, "length", 4, 0.1, 0.2)], {"total": 7}, 50, "stood in", 1, 2, 3, "stood in", 2)
SIDE = Side(spread([90.0, 100.0, 130.0]), Memory(100, 90, 4, 6, 150, "by a rule"))
STEADY = Fastest(70.0, 9, 34, 0.02)
SAME = Measured(SIDE, SIDE, Compared(STEADY, STEADY, "1 thread"), "2 threads", 256, Load(0.5, 1.5, 2))
QUALITY = {"EVAL_STUDENT_QUALITY": "0.5", "EVAL_TEACHER_QUALITY": "0.5"}


@pytest.fixture(scope="module")
def tokenizer() -> StudentTokenizer:
    return small_tokenizer()


def index(root: Path, measured: Measured | None, baseline: Mapping[str, Any]) -> Any:
    settings = stage_context(root, "eval", QUALITY).settings
    options = EvalOptions.of(settings)
    return summary.quality_efficiency(options, settings.origin, None, HERE, baseline, measured)


def test_a_model_beside_itself_takes_the_same_memory_in_llamacpp(
    tokenizer: StudentTokenizer, root: Path, tmp_path: Path
) -> None:
    ctx = stage_context(root, "eval", {})
    path = tmp_path / "student.gguf"
    gguf.write(pack_student(random_student(tokenizer.vocab_size)), tokenizer, path)
    one = Contestant("one", path, PROMPTS)
    found = measure(one, one, 20, ctx, seconds=0)
    assert found.teacher is not None and found.compared is not None
    ours, theirs = found.student.memory, found.teacher.memory
    assert ours.deployed == pytest.approx(theirs.deployed, rel=0.02)
    assert 0 < ours.file <= ours.weights == path.stat().st_size
    assert ours.kv_cache == 2 * 2 * 2 * 2 * 64 * found.context  # K and V, 2 bytes, 2 layers, 2 heads of 64
    assert ours.process > ours.deployed
    assert found.student.speed.turns == found.compared.teacher.turns == 2 * FEWEST_ROUNDS
    assert found.compared.ratio == found.compared.student.speed / found.compared.teacher.speed
    assert found.compared.how == "1 thread, processor time"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BitnetError, match=r"student\.gguf is not a whole GGUF .*; give a whole GGUF file\.$"):
        measure(one, None, 20, ctx)


def test_an_answer_that_ends_early_counts_as_many_tokens_as_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    class Short:
        """A server whose model has room for 5 tokens only."""

        def handle_completions(self, asked: dict[str, Any]) -> dict[str, Any]:
            return {"timings": {"predicted_ms": 1000, "predicted_n": min(5, asked["n_predict"])}}

    clock = iter([10.0, 12.0])
    monkeypatch.setattr(llamacpp_process.time, "process_time", lambda: next(clock))
    found = llamacpp_process._turn(Short(), {"prompt": [1], "tokens": 48, "answers": 2})
    assert found == {"by_wall": 4.0, "by_processor": 5.0}


def test_a_student_is_exported_measured_and_compared(tokenizer: StudentTokenizer, root: Path) -> None:
    ctx = stage_context(root, "eval", {})
    student = pack_student(random_student(tokenizer.vocab_size))
    prompts = [EvalPrompt("hi", ids) for ids in PROMPTS]

    def found(student: Student = student, prompts: Sequence[EvalPrompt] = prompts, device: str = "cpu") -> AsDeployed:
        where = torch.device(device)
        with student_file(student, tokenizer, embedded=False, device=where, scratch=ctx.run_dir) as file:
            answers = partial(runtime_answers, student, tokenizer, ctx)
            return measure_as_deployed(student, tokenizer, file, prompts, 8, answers, ctx, embedded=False)

    assert found(device="cuda").why == "it computes on cuda, and its teacher is not in llama.cpp"
    full = [EvalPrompt("long", [5] * student.config.max_position_embeddings)]
    assert found(prompts=full).why == "no prompt leaves room for 4 tokens in the student's positions"
    squared = pack_student(random_student(tokenizer.vocab_size))
    squared.config = replace(squared.config, hidden_act="relu2")
    assert found(squared).why.startswith("llama.cpp computes SiLU")
    own = student.layer_bits
    alone = found()
    assert student.layer_bits == own
    assert alone.measured is not None and alone.measured.teacher is None
    assert alone.verified is not None and alone.verified.problems() == []
    assert list(ctx.run_dir.glob(".packed*")) == []
    export, missing = root / "exports" / "x-step2-hf", card.unverified("transformers", "install it.")
    rows = summary.card_rows(root, export, HERE, missing, alone)
    assert [(row.runtime, row.loads) for row in rows][1:] == [("transformers", "not tried"), ("llama.cpp", "yes")]
    assert rows[1].line == "install it."
    assert rows[-1].tokens_per_s == alone.measured.student.speed.median
    assert "the teacher's were taken at another time" in summary.remarks(alone, rows, "4", "in-process")[0]
    # Each line works as it stands: what was not exported yet is exported first.
    tried = replace(rows[-1], runtime="transformers")
    lines = [row.line for row in summary.card_rows(root, export, HERE, tried, alone)]
    assert lines[0].startswith("bitnet generate --root ")
    assert lines[1] == f"bitnet --root {root} export hf && transformers serve {export}"
    assert lines[2] == f"bitnet --root {root} serve"
    export.mkdir(parents=True)
    assert summary.card_rows(root, export, HERE, tried, alone)[1].line == f"transformers serve {export}"


def test_a_file_that_is_not_the_student_is_told_of(
    tokenizer: StudentTokenizer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_deployed, "measure", lambda *_, **__: SAME)
    monkeypatch.setattr(verify, "_MOST_KL_ROUNDED", -1.0)
    ctx = stage_context(root, "eval", {})
    student = pack_student(random_student(tokenizer.vocab_size))
    with student_file(student, tokenizer, embedded=False, device=torch.device("cpu"), scratch=ctx.run_dir) as file:
        prompts = [EvalPrompt("hi", ids) for ids in PROMPTS]
        answers = partial(runtime_answers, student, tokenizer, ctx)
        found = measure_as_deployed(student, tokenizer, file, prompts, 8, answers, ctx, embedded=False)
    assert found.measured == SAME
    (alert,) = emitted(ctx, "alert")
    assert alert["code"] == "not_the_student"
    assert "has a mean KL of" in alert["message"]


def test_speeds_are_kept_where_no_prompt_fits_that_answers_are_compared_along(
    tokenizer: StudentTokenizer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_deployed, "measure", lambda *_, **__: SAME)
    monkeypatch.setattr(verify, "_SHORT_PROMPTS", 1 / 1000)
    ctx = stage_context(root, "eval", {})
    student = pack_student(random_student(tokenizer.vocab_size))
    with student_file(student, tokenizer, embedded=False, device=torch.device("cpu"), scratch=ctx.run_dir) as file:
        answers = partial(runtime_answers, student, tokenizer, ctx)
        prompts = [EvalPrompt("hi", ids) for ids in PROMPTS]
        found = measure_as_deployed(student, tokenizer, file, prompts, 8, answers, ctx, embedded=False)
    assert (found.measured, found.verified) == (SAME, None)
    rows = summary.card_rows(root, root / "x-hf", HERE, card.unverified("transformers", "install it."), found)
    assert (rows[-1].loads, rows[-1].tokens_per_s) == ("yes, not compared", 100.0)
    said = summary.remarks(found, rows, "4", "in-process")
    assert any("can't be compared with it; train with a larger MAX_SEQ_LEN." in line for line in said)
    assert not any("--no-verify" in line for line in said)


def test_the_teacher_as_its_own_student_has_an_index_of_one(root: Path) -> None:
    result = index(root, SAME, {"memory": {"bytes": 7}, "tokens_per_s": {"decode": 9.0}})
    assert (result.qei.value, result.qei_speed.value) == (1.0, 1.0)
    assert result.student.speed.how == "llama.cpp, 1 thread, by turns"
    assert qei.table(result)[2][-1] == "llama.cpp, 1 thread, by turns"
    record = summary.deployed_record(HERE, AsDeployed(SAME, None))
    assert record["student_to_teacher"]["speed"]["ratio"] == 1
    assert (record["runtime"], record["by_turns"], record["load"]["processors"]) == ("llama.cpp", True, 2)
    assert record["memory"]["bytes"] == 100
    assert record["student_to_teacher"]["whole_process"] == record["student_to_teacher"]["weights_alone"] == 1
    memory = {row[0]: row[1] for row in summary.memory_table(HERE, SAME)}
    assert (memory["student, weights alone"], memory["teacher, whole process"]) == (100, 150)


def test_the_scatter_of_turns_is_said_and_the_load_only_where_it_was_high(root: Path) -> None:
    unsteady = Compared(STEADY, Fastest(35.0, 2, 34, 0.14), "1 thread")

    def how(load: Load) -> str:
        result = index(root, replace(SAME, compared=unsteady, load=load), {"memory": {"bytes": 7}})
        assert result.qei_speed.value == 2
        said: str = qei.table(result)[2][-1]
        return said

    scatter = "llama.cpp, 1 thread, by turns; uncertain, as only 2 of 34 turns were undisturbed, 8 are needed"
    spreads = "; spread < 10% (student), 14% (teacher)"
    assert how(Load(0.5, 1.5, 2)) == f"{scatter}{spreads}"
    assert how(Load(None, None, 2)) == f"{scatter}{spreads}"
    assert how(Load(12.5, 1.5, 2)) == f"{scatter} (load 12.5 on 2 processors){spreads}"
    assert (
        "load" not in index(root, replace(SAME, load=Load(12.5, 16, 2)), {"memory": {"bytes": 7}}).student.speed.how
    )
    lines = summary.remarks(AsDeployed(SAME, None), [], "8", "in-process")
    both = "100.0 tokens/s, spread 20%, the teacher's 100.0, spread 20%"
    assert f"With 2 threads, by the wall clock: {both}." in lines
    assert "The student's file has 100 B, 1.00 of the teacher's 100 B." in lines


def test_a_teacher_elsewhere_keeps_its_own_figures(root: Path) -> None:
    alone = replace(SAME, teacher=None, compared=None)
    told = {"memory": {"bytes": 200, "origin": "measured"}, "tokens_per_s": {"decode": 50.0, "end_to_end": 40.0}}
    result = index(root, alone, told)
    assert (result.qei.value, result.qei_speed.value) == (2.0, 4.0)
    assert "when the baseline was made" in result.teacher.speed.how
    assert "turns" not in result.student.speed.how
    whole = index(root, alone, told | {"tokens_per_s": {"end_to_end": 40.0}})
    assert whole.student.speed.how.startswith("prefill and decoding"), "like is compared with like"


def test_the_kv_cache_of_a_file_that_does_not_tell_is_unknown() -> None:
    keys: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.block_count": 30,
        "llama.attention.head_count": 9,
        "llama.attention.head_count_kv": 3,
        "llama.embedding_length": 576,
    }
    assert kv_bytes(keys, 256) == 5_898_240
    assert kv_bytes(keys | {"llama.attention.key_length": 128}, 256) == 2 * 5_898_240
    assert kv_bytes(keys | {"llama.attention.head_count_kv": None}, 256) is None
    assert kv_bytes({}, 256) is None
