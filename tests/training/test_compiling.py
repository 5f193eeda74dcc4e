"""Which trainings are compiled unless the user says so. No GPU is needed: only what is decided is looked at."""

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from bitnet_core.errors import BitnetError
from bitnet_core.model.precision import INDUCTOR_CACHE
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.values import TrainOptions
from bitnet_core.traces.dataset import TraceSequence
from bitnet_core.traces.examples import Examples
from bitnet_core.training.batches import Sampler
from bitnet_core.training.compiling import LEAST_BATCHES, lacking, prepared
from tests.training.conftest import StageTrainer, events

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LONG = {"BUDGET_TOKENS": "1000000000"}
Decided = Callable[..., tuple[bool | None, Sampler]]


@pytest.fixture
def decided(sequences: Sequence[TraceSequence], monkeypatch: pytest.MonkeyPatch) -> Decided:
    """Decide for a device of a machine that has all that the compiler needs."""
    monkeypatch.setenv(INDUCTOR_CACHE, "kept")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU")

    def decide(device: torch.device, **values: str) -> tuple[bool | None, Sampler]:
        options = TrainOptions.of(from_values(LONG | values))
        sampler = Sampler(Examples(sequences, 48), options.batch_size, 0)
        return prepared(options, device, sampler).compiled, sampler

    return decide


def test_a_long_training_is_compiled_on_a_gpu_and_nothing_is_on_a_cpu(decided: Decided) -> None:
    compiled, sampler = decided(CUDA, TRAIN_BATCH_SIZE="4", MAX_SEQ_LEN="48")
    assert compiled is True and tuple(sampler.next().ids_BT.shape) == (4, 48)
    for device, more in ((CPU, {}), (torch.device("mps"), {}), (CUDA, {"TORCH_COMPILE": "0"})):
        compiled, sampler = decided(device, **more)
        assert compiled is False and sampler.shape is None
    assert decided(CPU, TORCH_COMPILE="1")[0] is True
    assert decided(CPU, TORCH_COMPILE="yes")[0] is True


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_short_training_is_not(decided: Decided, accumulate: int) -> None:
    """Short by its steps or by its budget; what counts is the batches that pass through the student."""
    steps = -(-LEAST_BATCHES // accumulate)
    asked = {"GRAD_ACCUM_STEPS": str(accumulate)}
    assert decided(CUDA, TOTAL_STEPS=str(steps), **asked)[0] is True
    assert decided(CUDA, TOTAL_STEPS=str(steps - 1), **asked)[0] is False
    _, sampler = decided(CUDA)
    enough = LEAST_BATCHES * sampler.mean_supervised
    assert decided(CUDA, BUDGET_TOKENS=str(int(enough)), **asked)[0] is True
    assert decided(CUDA, BUDGET_TOKENS=str(int(0.99 * enough)), **asked)[0] is False
    epochs = {"BUDGET_TOKENS": "", "BUDGET_EPOCHS": str(1.01 * enough / sampler.supervised)}
    assert decided(CUDA, **epochs)[0] is True
    assert decided(CUDA, **epochs | {"BUDGET_EPOCHS": "1"})[0] is False


@pytest.mark.parametrize(
    ("where", "name", "value", "words"),
    [
        (shutil, "which", lambda _: None, "there is no C++ compiler (g++)"),
        (importlib.util, "find_spec", lambda _: None, "the package triton is not installed"),
        (torch.cuda, "get_device_capability", lambda _: (6, 1), "GPU is too old for triton"),
    ],
)
def test_a_gpu_without_what_the_compiler_needs_trains_as_it_is_and_says_why(
    decided: Decided, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, value: Any, words: str
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(where, name, value)
    assert decided(CUDA)[0] is False
    assert lacking(CUDA) == words
    if name == "which":
        with pytest.raises(BitnetError, match=r"TORCH_COMPILE=1 needs a C\+\+ compiler"):
            decided(CUDA, TORCH_COMPILE="1")


def test_by_default_a_training_on_a_cpu_is_as_it_was(
    make_trainer: Callable[..., StageTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(torch, "compile", refuse)
    trainer = make_trainer({"TOTAL_STEPS": "100000"} | LONG)
    assert trainer.options.compiled is trainer.stepper.options.compiled is False
    assert trainer.sampler.shape is None
    trainer.resume(trainer.ctx)
    trainer._announce()
    assert not [told for told in events(trainer, "log") if "compil" in str(told)]


def test_a_compiled_training_says_that_the_first_step_waits(
    make_trainer: Callable[..., StageTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda student: student)
    trainer = make_trainer({"TORCH_COMPILE": "1"})
    trainer.resume(trainer.ctx)
    trainer._announce()
    (told,) = [told for told in events(trainer, "log") if "compil" in str(told)]
    assert "the first step waits for the compiler" in str(told)
