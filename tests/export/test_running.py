"""A runtime that hangs is given up, and one that works slowly is not."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bitnet_core import process
from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.deployed import run_deployed
from bitnet_core.evaluation.llamacpp import served
from bitnet_core.export import gguf, hf, running
from bitnet_core.export.running import CheckStop, Run, Task, run_folder, run_gguf
from bitnet_core.model.student import Student
from bitnet_core.settings.values import Sampling
from bitnet_core.tokenizer.student import StudentTokenizer


def _run(kind: str, student: Student, tokenizer: StudentTokenizer, place: Path) -> Run:
    task = Task(tokenizer.vocab_size, 3, sequences=[([5, 6, 7], 1)], prompts=[[5, 6]], new_tokens=3)
    if kind == "gguf":
        gguf.write(student, tokenizer, place)
        return run_gguf(place, task)
    hf.write(student, tokenizer, place)
    return run_folder(place, task)


def _measured(student: Student, place: Path) -> None:
    sampling = Sampling(max_tokens=3)
    run_deployed(student, [[5]], sampling, eos_id=-1, seed=0, device="cpu", scratch=place)


@pytest.mark.parametrize("kind", ["gguf", "folder", "by turns", "in process"])
def test_a_helper_that_hangs_is_ended_and_told_of(
    student: Student, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    hanging, others = tmp_path / "python", set(psutil.Process().children())
    hanging.write_text("#!/bin/sh\nexec sleep 600\n")
    hanging.chmod(0o700)
    path = tmp_path / "student"
    gguf.write(student, tokenizer, tmp_path / "own.gguf")
    monkeypatch.setattr("sys.executable", str(hanging))
    monkeypatch.setattr(process, "_SILENCE_SECONDS", 1.0)
    with pytest.raises(BitnetError, match=r" gave no sign of life for 1 s; close other programs and try again\.$"):
        if kind == "by turns":
            with served(tmp_path / "own.gguf", 256, 1, lambda: None):
                pass
        elif kind == "in process":
            _measured(student, tmp_path)
        else:
            _run(kind, student, tokenizer, path)
    assert set(psutil.Process().children()) <= others


@pytest.mark.parametrize(("kind", "units"), [("gguf", 1 + 1 + 2), ("folder", 1 + 3 + 1)])
def test_a_runtime_says_that_it_lives_after_loading_and_after_each_answer_or_token(
    student: Student,
    tokenizer: StudentTokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    units: int,
) -> None:
    told: list[str] = []

    def noted(child: "subprocess.Popen[str]", who: str, check_stop: CheckStop) -> Iterator[str]:
        for line in process.lines_of(child, who, check_stop):
            told.append(line)
            yield line

    monkeypatch.setattr(running, "lines_of", noted)
    assert len(_run(kind, student, tokenizer, tmp_path / "student").texts) == 1
    assert told[:-1] == [""] * units
