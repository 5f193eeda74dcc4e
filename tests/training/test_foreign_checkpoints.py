"""A checkpoint whose health file tells of it, and whose fields may hold anything: refused, or resumed from."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bitnet_core import files
from bitnet_core.training import checkpoints
from tests.training.conftest import StageTrainer

LONGER = {"TOTAL_STEPS": "6"}


def _first(payload: dict[str, Any]) -> dict[str, Any]:
    """What the optimizer keeps of its first parameter."""
    kept: dict[str, Any] = payload["optimizer"]["state"][0]
    return kept


def _counters(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda payload: payload["counters"].update(fields)


def _meter(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda payload: payload["counters"]["meter"].update(fields)


ODD: dict[str, Callable[[dict[str, Any]], object]] = {
    "no generator": lambda payload: payload["rng"].clear(),
    "a generator of text": lambda payload: payload["rng"].update(cpu="x"),
    "a short generator": lambda payload: payload["rng"].update(cpu=torch.zeros(3, dtype=torch.uint8)),
    "no cursor": lambda payload: payload["sampler"].clear(),
    "a cursor of text": lambda payload: payload["sampler"].update(place="1"),
    "a cursor before the first batch": lambda payload: payload["sampler"].update(place=-1),
    "a cursor behind the last batch": lambda payload: payload["sampler"].update(place=10**6),
    "an epoch before the first": lambda payload: payload["sampler"].update(epoch=-1),
    "a meter of text": _counters(meter="x"),
    "a meter of other parts": _meter(sums_5=torch.zeros(3)),
    "a meter of lists": _meter(sums_5=[1.0] * 5),
    "ternary weights of another student": _counters(ternary=[torch.zeros(2, 2, dtype=torch.uint8)]),
    "ternary weights of text": _counters(ternary="x"),
    "a divergence of text": _counters(divergence={"lowest": "x"}),
    "reports of another kind": _counters(divergence={"recent": [3]}),
    "refusals of text": _counters(refused="x"),
    "a rate of text": _counters(rate_scale="x"),
    "changes of another kind": _counters(changes=[3]),
    "a last report of another kind": _counters(last=[3]),
    "a tensor in the last report": _counters(last={"loss": torch.zeros(2)}),
    "a number without end": _counters(activations={"x": 10**400}),
    "bits of text": _counters(layer_bits=["x"]),
    "bits of another number of layers": _counters(layer_bits=[8, 8, 8]),
    "bits that are no list": _counters(layer_bits=3),
    "an evaluation without its name": lambda payload: payload["evaluations"][-1].pop("when"),
    "an evaluation with a loss of text": lambda payload: payload["evaluations"][-1].update(heldout_loss="x"),
    "a best step of text": lambda payload: payload.update(best={"step": "x", "heldout_loss": 1.0}),
    "a best checkpoint without its loss": lambda payload: payload.update(best={"step": 3}),
    "a tensor in the recipe": lambda payload: payload["recipe"].update(KD_TAU=torch.ones(2)),
    "no moments": lambda payload: payload["optimizer"].clear(),
    "moments of another shape": lambda payload: _first(payload).update(exp_avg=torch.zeros(3)),
    "moments of text": lambda payload: _first(payload).update(exp_avg_sq="x"),
    "a moment too few": lambda payload: _first(payload).pop("exp_avg"),
    "no number of steps": lambda payload: _first(payload).pop("step"),
}


def test_what_does_not_fit_is_refused_in_a_sentence(make_trainer: Callable[..., StageTrainer]) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "3"})
    trainer.run()
    path = checkpoints.latest(trainer.folder or Path())
    assert path is not None
    whole, found = path.read_bytes(), {}
    for name, change in ODD.items():
        path.write_bytes(whole)
        _rewrite(path, change)
        try:
            make_trainer(LONGER, resume=True)
        except Exception as error:  # noqa: BLE001 - whatever a field makes the program raise
            found[name] = f"{type(error).__name__}: {error}"
    sentence = re.compile(r"BitnetError: .*(damaged|does not fit).*; move it away to .*\.")
    assert {name: said for name in ODD if not sentence.fullmatch(said := found.get(name, "nothing"))} == {}
    path.write_bytes(whole)
    _rewrite(path, lambda _: None)
    assert make_trainer(LONGER, resume=True).run()["steps"] == 6


def test_what_steers_the_steps_is_what_the_settings_say(make_trainer: Callable[..., StageTrainer]) -> None:
    """Not what the checkpoint's optimizer says, which could climb instead of descending."""
    trainer = make_trainer({"TOTAL_STEPS": "3"})
    trainer.run()
    path = checkpoints.latest(trainer.folder or Path())
    assert path is not None
    _rewrite(path, lambda payload: payload["optimizer"]["param_groups"][0].update(maximize=True, betas=(0.0, 0.0)))
    resumed = make_trainer(LONGER, resume=True)
    group = resumed.stepper.optimizer.param_groups[0]
    assert (group["maximize"], group["betas"]) == (False, (resumed.options.beta1, resumed.options.beta2))


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_weights_in_another_precision_are_read_as_fp32(
    make_trainer: Callable[..., StageTrainer], kind: torch.dtype
) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "1"})
    trainer.run()
    path = checkpoints.latest(trainer.folder or Path())
    assert path is not None
    _rewrite(path, lambda payload: payload.update(model={k: v.to(kind) for k, v in payload["model"].items()}))
    student = checkpoints.student_from(checkpoints.load(path))
    assert {tensor.dtype for tensor in student.state_dict().values()} == {torch.float32}
    assert student(torch.tensor([[1, 2, 3]])).isfinite().all()


def _rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what the checkpoint holds, and let its health file tell of the new file."""
    payload = torch.load(path, weights_only=True)
    change(payload)
    torch.save(payload, path)
    health = files.read_json(checkpoints.health_of(path))
    told = {"sha256": files.sha256_file(path), "bytes": path.stat().st_size}
    files.write_json(checkpoints.health_of(path), health | told)
