"""A training in figures: a step's report, a checkpoint's health file, the summary and the table at the end."""

import math
from collections.abc import Sequence
from typing import Any

from bitnet_core.settings.values import TrainOptions
from bitnet_core.traces.dataset import TraceSet, top1_counts
from bitnet_core.training.flip import BITS_AFTER, flip_report
from bitnet_core.training.monitor import TernaryWatch, peak_memory
from bitnet_core.training.state import TrainState
from bitnet_core.training.step import Stepper, StepResult


def step_figures(state: TrainState, stepper: Stepper, options: TrainOptions, result: StepResult) -> dict[str, Any]:
    """The figures of a reported step: means since the last report, and the state of student and process now."""
    student, norm = stepper.student, float(result.grad_norm)
    return state.meter.read() | {
        "grad_norm": norm,
        "grad_norm_clipped": min(norm, options.clip_norm),
        "activation_bits": student.activation_bits,
        "layers_at_4_bits": student.layer_bits.count(BITS_AFTER),
        **(state.ternary.read(student) if options.quantize else {}),
        **state.activations,
        "nonfinite": state.refused,
        **peak_memory(stepper.device),
    }


def health(state: TrainState, stepper: Stepper, options: TrainOptions, tokenizer_hash: str) -> dict[str, Any]:
    """What `*_health.json` says of a checkpoint besides its name, size and sha256."""
    student = stepper.student
    last = {key: value for key, value in state.last.items() if key not in ("activation_bits", "nonfinite")}
    measured = bool(state.evaluations) and "heldout_loss" in state.evaluations[-1]
    return {
        "step": state.step,
        "seen_tokens": state.seen_tokens,
        "budget_tokens": options.flip.budget_tokens,
        "flip_at_tokens": options.flip.threshold,
        "activation_bits": student.activation_bits,
        "layers_at_4_bits": student.layer_bits.count(BITS_AFTER),
        "nonfinite": state.refused,
        "dtype": stepper.precision.name,
        "device": str(stepper.device),
        "rolled_back": state.rolled_back,
        # Of these very weights, which may be newer than the last reported step.
        **(TernaryWatch().read(student) if options.quantize else {}),
        "training": _finite(last),
        "heldout": _finite(state.evaluations[-1]) if measured else None,
        "best": _finite(state.best),
        **_finite(flip_report(state.evaluations)),
        "config": student.config.to_dict(),
        "tokenizer_hash": tokenizer_hash,
    }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: a figure that is not finite becomes null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }


def summary(state: TrainState, activation_bits: int | None) -> dict[str, Any]:
    """The training in a few figures, at its end."""
    end = state.evaluations[-1]
    return {
        "steps": state.step,
        "seen_tokens": state.seen_tokens,
        "activation_bits": activation_bits,
        "first_loss": state.first_loss,
        "last_loss": state.last.get("loss"),
        **{key: value for key, value in end.items() if key.startswith("heldout")},
        "tokens_per_s": state.last.get("tokens_per_s"),
        **flip_report(state.evaluations),
        "nonfinite": state.refused,
    }


def commonest_token_agreement(traces: TraceSet) -> float | None:
    """Held-out agreement of always answering the commonest top-1 token of the training side: a strong chance level.

    None where a side has no candidates.
    """
    common_V, found_V = (top1_counts(side, traces.vocab_size) for side in traces.split())
    return float(found_V[common_V.argmax()] / found_V.sum()) if common_V.any() and found_V.any() else None


_COLUMNS = ["when", "step", "seen tokens", "bits", "held-out loss", "KL", "CE", "top-1 agreement"]
_FIELDS = ["when", "step", "seen_tokens", "activation_bits"]
_FIGURES = ["heldout_loss", "heldout_kl", "heldout_ce", "heldout_agreement"]
_IN_ORDER = ["start", "before flip", "after flip", "end"]


def training_table(
    evaluations: Sequence[dict[str, Any]], commonest: float | None
) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: held-out figures at the start, around the flip and at the end, and what the flip cost.

    `commonest` is the agreement of `commonest_token_agreement`.
    """
    latest = {row["when"]: row for row in evaluations if row["when"] in _IN_ORDER}
    ordered = sorted(latest.values(), key=lambda row: (row["step"], _IN_ORDER.index(row["when"])))
    rows = [[row.get(key) for key in _FIELDS + _FIGURES] for row in ordered]
    cost = flip_report(evaluations)
    if cost:
        after, recovered = latest["after flip"], cost["flip_recovered_after_tokens"]
        rows.append(["flip shock", after["step"], after["seen_tokens"], None, cost["flip_shock"], None, None, None])
        rows.append(["tokens to recover", None, recovered, None, None, None, None, None])
    if commonest is not None:
        rows.append(["commonest token", None, None, None, None, None, None, commonest])
    return _COLUMNS, rows
