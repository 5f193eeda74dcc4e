"""What is said of a GPU: its name, its clock and its allocator's bytes. The processors stand in for one here."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bitnet_core.evaluation import deployed_process, deployment, summary
from bitnet_core.evaluation.as_deployed import AsDeployed
from bitnet_core.evaluation.deployed import Deployed
from bitnet_core.evaluation.deployment import Contestant, measure
from bitnet_core.evaluation.llamacpp import Memory, Speed
from bitnet_core.evaluation.turns import FEWEST_ROUNDS
from bitnet_core.model.decoding import Generation
from bitnet_core.model.packing import load_packed, pack_student, save_packed
from bitnet_core.settings.values import EvalOptions
from tests.builders import stage_context
from tests.export.conftest import random_student

GPU = "NVIDIA H100"
MEMORY = Memory(100, 90, 4, 6, 150, "by a rule")
QUALITY = {"EVAL_STUDENT_QUALITY": "0.5", "EVAL_TEACHER_QUALITY": "0.5"}


class OnGpu:
    """A model in llama.cpp on a GPU: 200 tokens/s by the clock for the student, 100 for the teacher."""

    def __init__(self, gguf: Path) -> None:
        self.about = {"device": GPU}
        self._speed = 200.0 if gguf.name == "student" else 100.0

    def turn(self, _prompt: Sequence[int], _tokens: int, _answers: int) -> Speed:
        return Speed(self._speed, 7.0)

    def memory(self) -> Memory:
        return MEMORY


def test_llamacpp_on_a_gpu_is_timed_once_by_the_clock_and_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    @contextlib.contextmanager
    def served(gguf: Path, *_: Any) -> Iterator[OnGpu]:
        started.append(gguf.name)
        yield OnGpu(gguf)

    monkeypatch.setattr(deployment, "served", served)
    ctx = stage_context(root, "eval", QUALITY)
    student, teacher = (Contestant(name, Path(name), [[1, 2, 3]]) for name in ("student", "teacher"))
    found = measure(student, teacher, 8, ctx, seconds=0)
    assert started == ["student", "teacher"], "one thread's processor time says nothing of a GPU"
    assert found.hardware == GPU
    assert found.compared is not None
    assert (found.compared.ratio, found.compared.how) == (2.0, GPU)
    assert found.compared.student.turns == 2 * FEWEST_ROUNDS
    here = Deployed([Generation([3] * 5, "length", 4, 0.1, 0.2)], {"total": 7}, 50, "", 1, 2, 3, "", 2, gpu=GPU)
    index = summary.quality_efficiency(
        EvalOptions.of(ctx.settings), ctx.settings.origin, None, here, {"memory": {"bytes": 7}}, found
    )
    assert index.student.speed.how.startswith(f"llama.cpp, {GPU}, by turns")
    record = summary.deployed_record(here, AsDeployed(found, None))
    assert record["hardware"] == record["in_process"]["tokens_per_s"]["hardware"] == GPU
    lines = summary.remarks(AsDeployed(found, None), [], "8", "in-process")
    assert f"With {GPU}, by the wall clock: 200.0 tokens/s, the teacher's 100.0." in lines
    # And where the student ran in this program.
    told = {"memory": {"bytes": 7}, "tokens_per_s": {"decode": 50.0}}
    index = summary.quality_efficiency(EvalOptions.of(ctx.settings), ctx.settings.origin, None, here, told)
    assert index.student.speed.how == f"decoding, {GPU}"


def test_in_this_program_the_gpu_is_named_and_its_allocators_peak_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reset: list[object] = []
    cuda = SimpleNamespace(
        reset_peak_memory_stats=reset.append,
        max_memory_allocated=lambda _: 12_345,
        get_device_name=lambda _: GPU,
    )
    stand_in = SimpleNamespace(
        device=lambda name: SimpleNamespace(type=name),
        cuda=cuda,
        Generator=lambda _: torch.Generator(),
        get_num_threads=torch.get_num_threads,
    )
    monkeypatch.setattr(deployed_process, "torch", stand_in)
    monkeypatch.setattr(deployed_process, "load_packed", lambda path, _: load_packed(path))
    path = tmp_path / "student.pt"
    save_packed(pack_student(random_student(64)), path)
    sampling = {"max_tokens": 3, "temperature": 0.0, "top_p": 1.0}
    deployed_process._run(
        {"device": "cuda", "path": str(path), "prompts": [[1, 2]], "sampling": sampling, "eos_id": -1, "seed": 0}
    )
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (done["kind"], done["gpu"], done["memory_bytes"]) == ("done", GPU, 12_345)
    assert "device memory" in done["memory_how"]
    assert len(reset) == 1, "what was allocated before does not count"
