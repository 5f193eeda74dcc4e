"""What a training tells: words, the errors that end it, a step's figures, a checkpoint's health, the final table."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bitnet_core.errors import BitnetError
from bitnet_core.files import is_file
from bitnet_core.model.config import told_bits
from bitnet_core.model.precision import INDUCTOR_CACHE
from bitnet_core.model.student import Student
from bitnet_core.runs.cadence import Cadence
from bitnet_core.runs.diverged import DIVERGED, NOT_FINITE
from bitnet_core.runs.learning import COMPLETIONS_CUT
from bitnet_core.runs.reporter import Reporter
from bitnet_core.runs.strict_json import strict
from bitnet_core.runs.trend import RISES, counts_from, rises
from bitnet_core.runs.vitals import COMMONEST, MEASURED
from bitnet_core.settings.values import FlipOptions, TrainOptions
from bitnet_core.text import in_layers, share
from bitnet_core.traces.dataset import TraceSet, top1_counts
from bitnet_core.traces.examples import Examples
from bitnet_core.training import ramp
from bitnet_core.training.compiling import lacking
from bitnet_core.training.flip import BITS_AFTER, flip_report, layer_bits
from bitnet_core.training.heldout_size import ENOUGH_PROMPTS, HeldOut
from bitnet_core.training.monitor import TernaryWatch, peak_memory
from bitnet_core.training.state import TrainState
from bitnet_core.training.step import Stepper, StepResult

_LEAST_METRICS, _LONGEST_INTERVAL = 30, 50
_MANY_CUT = 0.1
"""The largest share of completions without their end that is only logged; more are an alert."""


def interval(steps: int) -> int:
    """Steps from one metric to the next where none are set: a training of 70 steps has a curve, too."""
    return max(1, min(_LONGEST_INTERVAL, steps // _LEAST_METRICS))


def announce(
    reporter: Reporter, stepper: Stepper, options: TrainOptions, examples: Examples, *, held_out: HeldOut
) -> None:
    """Say what MAX_SEQ_LEN cut off, on how few prompts is measured, what computes, and what a compiler costs."""
    limit, cuts = f"MAX_SEQ_LEN={options.max_seq_len}", examples.cuts
    if cuts.completions > _MANY_CUT * len(examples):
        reporter.alert(
            "warning",
            COMPLETIONS_CUT,
            f"{limit} cut the end of {cuts.completions:,} of {len(examples):,} completions "
            f"({cuts.completion_tokens:,} supervised tokens).",
            "Raise MAX_SEQ_LEN so that the student learns how answers end.",
        )
    elif cuts.completions:
        reporter.log(
            f"{limit} cut the end of {cuts.completions} completions ({cuts.completion_tokens} supervised tokens)."
        )
    if cuts.prompts:
        reporter.alert(
            "warning",
            "prompts_cut",
            f"{limit} cut the beginning of {cuts.prompts} prompts ({cuts.prompt_tokens} tokens).",
            "Raise MAX_SEQ_LEN so that the student reads the whole prompt.",
        )
    if not held_out.prompts:
        reporter.alert(
            "warning",
            "no_heldout",
            "The traces have only one prompt, near-identical ones counted as one, so none is held out to measure on.",
            "Collect more prompts (KD_NUM_PROMPTS).",
        )
    elif held_out.prompts < ENOUGH_PROMPTS:
        reporter.log(
            f"Only {held_out.words} held out (near-identical prompts count as one), so the held-out figures are "
            f"rough; collect more (KD_NUM_PROMPTS) until there are {ENOUGH_PROMPTS}."
        )
    precision = stepper.precision
    config = stepper.student.config
    kept = f" of {config.parameters():,}" if config.embedding_type else ""
    reporter.log(
        f"Training {config.trained_parameters():,}{kept} parameters on {stepper.device} in {precision.name} "
        f"({precision.reason}), masters in fp32, {torch.get_num_threads()} threads."
        + (f" The embedding stays as it is, in {config.embedding_type}." if kept else "")
    )
    if options.compiled:
        cache = os.environ.get(INDUCTOR_CACHE, "the compiler's cache")
        ramp_end = "when the student is ternary and " if options.flip.quant_ramp_fraction else ""
        reporter.log(
            "Compiling the student: the first step waits for the compiler, a minute or more, and so does the "
            f"first one {ramp_end}after the flip; later runs find the result in {cache}."
        )
    elif stepper.device.type == "cuda" and (lack := lacking(stepper.device)):
        reporter.log(f"The student can't be compiled here, because {lack}; compiled, it would train faster.")


def announce_origin(reporter: Reporter, origin: dict[str, Any]) -> None:
    """Say which weights a new student has, and what of the source was left out."""
    if not origin["layers"]:
        reporter.log(
            f"The student's embedding is that of {origin['source']}, in the {origin['width']} of "
            f"{origin['width_of_source']} directions that keep {share(origin['kept'])} of its squares."
        )
        return
    layers = ", ".join(map(str, origin["layers"]))
    of = "all" if len(origin["layers"]) == origin["layers_of_source"] else layers
    reporter.log(
        f"The student starts from {origin['source']} (layers {of} of {origin['layers_of_source']}); the weights of "
        f"its sub-norms fit {origin['calibration_tokens']:,} tokens of the traces."
    )
    if fit := origin.get("fit"):
        reporter.log(
            f"It was fitted to the source in {fit['steps']:,} steps on {fit['tokens']:,} tokens: its KL over the "
            f"tokens of that text fell from {fit['before']:.2f} to {fit['after']:.2f} nats."
        )
    if origin["head"] != "tied":
        reporter.log("The source has a head of its own; a student's head is its embedding, so it is left out.")


def say_what_ends_it_early(reporter: Reporter, options: TrainOptions, reachable_tokens: float) -> None:
    """Say when the steps end before the budget, and warn when before the flip. `reachable_tokens` is an estimate."""
    if options.flip.threshold <= reachable_tokens < options.flip.budget:
        reporter.log(
            f"TOTAL_STEPS={options.total_steps} ends at about {reachable_tokens:,.0f} of "
            f"the budget's {options.flip.budget:,} tokens, after the flip at {options.flip.threshold:,}."
        )
    elif reachable_tokens < options.flip.threshold:
        reporter.alert(
            "warning",
            "no_flip",
            f"TOTAL_STEPS={options.total_steps} ends at about {reachable_tokens:,.0f} tokens, before the flip to 4 "
            f"bits at {options.flip.threshold:,}.",
            f"Set BUDGET_TOKENS to about {reachable_tokens:.0f}, or leave TOTAL_STEPS empty.",
        )


def say_if_flipped_early(reporter: Reporter, student: Student, flip: FlipOptions, seen_tokens: int) -> None:
    """Say so where a larger budget than before puts the flip of layers later that have flipped."""
    bits = student.layer_bits
    due = layer_bits(flip, seen_tokens, len(bits))
    if any(old is not None and old < new for old, new in zip(bits, due, strict=True)):
        reporter.log(
            f"Activations stay at {BITS_AFTER} bits: the larger budget puts the flip at "
            f"{flip.threshold:,} tokens, and does not undo an earlier flip."
        )


def say_if_budget_ended_it(reporter: Reporter, options: TrainOptions, step: int) -> None:
    """Say that a training ends before its steps do."""
    if options.total_steps is not None and step < options.total_steps:
        reporter.log(
            f"The budget of {options.flip.budget:,} tokens is used up at step {step:,} "
            f"of at most {options.total_steps:,} (TOTAL_STEPS)."
        )


def warn_if_not_ternary(reporter: Reporter, student: Student) -> None:
    """Warn at the end of a training whose steps saw fewer tokens than was expected at its launch."""
    if student.quantized_share < 1:
        reporter.alert(
            "warning",
            "not_ternary",
            f"The training ends before the student is ternary: its quantisation is at {student.quantized_share:.2f} "
            "of 1, so it can be neither evaluated nor exported.",
            "Train on with a larger TOTAL_STEPS, or with none.",
        )


def say_refused(reporter: Reporter, step: int, result: StepResult, new_scale: float | None) -> None:
    """Say that the step after `step` was skipped; `new_scale` is the loss scale if that was only too high."""
    if new_scale is not None:
        reporter.log(f"The loss scale was too high after step {step}; it is {new_scale:g} now.")
        return
    loss, norm = float(result.parts_5[0]), float(result.grad_norm)
    what = "loss" if not math.isfinite(loss) else "gradient"
    reporter.alert(
        "warning",
        "nonfinite",
        f"The {what} after step {step} was not finite (loss {loss:g}, gradient norm {norm:g}); the step was skipped.",
        "If it happens again, lower LR or GRAD_CLIP_NORM.",
    )


def say_rolled_back(reporter: Reporter, failed_at: int, checkpoint: Path) -> None:
    """Say that training continues from a checkpoint, because steps after `failed_at` were not finite."""
    reporter.alert(
        "warning",
        "rolled_back",
        f"Loss and gradient stayed not finite after step {failed_at}: training continues from {checkpoint.name} "
        "at half the learning rate.",
        "It stops if that happens again; then start with a lower LR.",
    )


def not_finite(state: TrainState, last_good: Path | None) -> BitnetError:
    """The end of a training whose steps stay not finite."""
    again = ", again after going back to it at half the learning rate" if state.rolled_back else ""
    return BitnetError(
        f"{NOT_FINITE} {state.refused_in_a_row} times in a row after step {state.step}{again} "
        f"(last good checkpoint: {_name(last_good)}); lower LR or GRAD_CLIP_NORM, or set TORCH_DTYPE=fp32."
    )


def diverged(state: TrainState, last_good: Path | None) -> BitnetError:
    """The end of a training whose loss keeps climbing."""
    return BitnetError(
        f"{DIVERGED}: the loss rose from {state.divergence.lowest:.3g} to {state.last['loss']:.3g} "
        f"by step {state.step} (last good checkpoint: {_name(last_good)}); lower LR, or raise GRAD_ACCUM_STEPS."
    )


def _name(checkpoint: Path | None) -> str:
    return checkpoint.name if checkpoint else "none yet"


def say_if_removed(reporter: Reporter, checkpoint: Path) -> bool:
    """Whether the checkpoint that was saved last is gone; says so."""
    if is_file(checkpoint):
        return False
    reporter.alert(
        "warning",
        "checkpoint_removed",
        f"{checkpoint} was removed during the training, which continues and saves the next one.",
        f"Leave {checkpoint.parent} alone until the run has ended; what was removed can't be resumed from.",
    )
    return True


def warn_if_rising(reporter: Reporter, state: TrainState) -> None:
    """Say once that the held-out loss has turned, at the evaluation that makes its rise certain.

    It rises while the student becomes ternary, and at the flip; a change of settings is judged by what follows.
    """
    measured = [row for row in state.evaluations if ramp.is_ternary(row)]
    whens = [row["when"] for row in measured]
    flipped = whens.index("after flip") if "after flip" in whens else 0
    losses = [row["heldout_loss"] for row in measured[max(flipped, counts_from(whens)) :]]
    times = rises(losses)
    if times < RISES or rises(losses[:-1]) >= RISES:
        return
    best = f"; the best checkpoint is that of step {state.best['step']:,}" if state.best else ""
    reporter.alert(
        "warning",
        "heldout_rising",
        f"The held-out loss has risen for {times} evaluations, from {losses[-1 - times]:.4g} to {losses[-1]:.4g}"
        f"{best}.",
        "If it goes on, stop and use the best checkpoint, collect more, or lower LR or the budget.",
    )


def due(state: TrainState, cadence: Cadence) -> str | None:
    """What the evaluation is for that the `cadence` has now, if any. It has none before the student is ternary."""
    last = state.evaluations[-1]
    return cadence.due(last, state.step) if ramp.is_ternary(last) else None


def bits(student: Student) -> dict[str, int | None]:
    """The bits of the student's activations, as events tell them."""
    layers = student.layer_bits
    at_4 = layers.count(BITS_AFTER)
    return {"activation_bits": student.activation_bits, "layers_at_4_bits": at_4, "layers": len(layers)}


def ramp_figures(student: Student, options: TrainOptions) -> dict[str, float]:
    """How much of the quantisers acts, in a training that ramps them up."""
    return {ramp.FIELD: student.quantized_share} if options.flip.quant_ramp_fraction else {}


def step_figures(state: TrainState, stepper: Stepper, options: TrainOptions, result: StepResult) -> dict[str, Any]:
    """The figures of a reported step: means since the last report, and the state of student and process now."""
    student, norm = stepper.student, float(result.grad_norm)
    return state.meter.read() | {
        "grad_norm": norm,
        "grad_norm_clipped": min(norm, options.clip_norm),
        **bits(student),
        **ramp_figures(student, options),
        **(state.ternary.read(student) if options.quantize else {}),
        **state.activations,
        "nonfinite": state.refused,
        **peak_memory(stepper.device),
    }


def health(state: TrainState, stepper: Stepper, options: TrainOptions, tokenizer_hash: str) -> dict[str, Any]:
    """What `*_health.json` says of a checkpoint besides its name, size and sha256."""
    student = stepper.student
    last = {key: value for key, value in state.last.items() if key not in {*bits(student), "nonfinite"}}
    measured = bool(state.evaluations) and "heldout_loss" in state.evaluations[-1]
    found: dict[str, Any] = {
        "step": state.step,
        "seen_tokens": state.seen_tokens,
        "budget_tokens": options.flip.budget,
        "flip_at_tokens": options.flip.threshold,
        **bits(student),
        "a4_policy": student.config.a4_policy,
        **ramp_figures(student, options),
        "nonfinite": state.refused,
        "dtype": stepper.precision.name,
        "device": str(stepper.device),
        "rolled_back": state.rolled_back,
        # Of the weights in this checkpoint, which may be newer than the last reported step.
        **(TernaryWatch().read(student) if options.quantize else {}),
        "training": last,
        "heldout": state.evaluations[-1] if measured else None,
        "best": state.best,
        "budget": state.budget,
        "changes": state.changes,
        "origin": state.origin,
        **flip_report(state.evaluations),
        "config": student.config.to_dict(),
        "tokenizer_hash": tokenizer_hash,
    }
    return dict(strict(found))


def summary(state: TrainState, student: Student) -> dict[str, Any]:
    """The training in a few figures, at its end."""
    end = state.evaluations[-1]
    return {
        "steps": state.step,
        "seen_tokens": state.seen_tokens,
        "budget": state.budget,
        "activation_bits": told_bits(student.layer_bits),
        "a4_policy": student.config.a4_policy,
        "first_loss": state.first_loss,
        "last_loss": state.last.get("loss"),
        **{key: value for key, value in end.items() if key.startswith("heldout")},
        "tokens_per_s": state.last.get("tokens_per_s"),
        **flip_report(state.evaluations),
        "nonfinite": state.refused,
        "origin": state.origin or None,
        "changes": state.changes,
    }


def commonest_token_agreement(traces: TraceSet) -> float | None:
    """Held-out agreement of always answering the commonest top-1 token of the training side: a strong chance level.

    None where a side has no candidates.
    """
    common_V, found_V = (top1_counts(side, traces.vocab_size) for side in traces.split())
    return float(found_V[common_V.argmax()] / found_V.sum()) if common_V.any() and found_V.any() else None


def chance(traces: TraceSet) -> dict[str, float]:
    """The same as a field of `Metric`, if it is known."""
    found = commonest_token_agreement(traces)
    return {} if found is None else {"heldout_agreement_commonest_token": found}


_COLUMNS = ["when", "step", "seen tokens", "bits", "held-out loss", "KL", "CE", "top-1 agreement"]
_FIGURES = ["heldout_loss", "heldout_kl", "heldout_ce", "heldout_agreement"]


def training_table(
    evaluations: Sequence[dict[str, Any]], commonest: float | None
) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: held-out figures at the start, around the flip, at the end and where lowest; the flip's cost.

    `commonest` is the agreement of `commonest_token_agreement`.
    """
    latest = {row["when"]: row for row in evaluations if row["when"] in MEASURED}
    ternary = [row for row in evaluations if "heldout_loss" in row and ramp.is_ternary(row)]
    lowest = min(ternary, key=lambda row: float(row["heldout_loss"]), default=None)
    if lowest is not None and all(row is not lowest for row in latest.values()):
        latest["lowest"] = {**lowest, "when": "lowest"}
    ordered = sorted(latest.values(), key=lambda row: (row["step"], MEASURED.index(row["when"])))
    rows = [
        [_when(row), row["step"], row["seen_tokens"], _bits_told(row), *(row.get(key) for key in _FIGURES)]
        for row in ordered
    ]
    cost = flip_report(evaluations)
    if cost:
        after, recovered = latest["after flip"], cost["flip_recovered_after_tokens"]
        rows.append(["flip shock", after["step"], after["seen_tokens"], None, cost["flip_shock"], None, None, None])
        rows.append(["tokens to recover", None, recovered, None, None, None, None, None])
    if commonest is not None:
        rows.append([COMMONEST, None, None, None, None, None, None, commonest])
    return _COLUMNS, rows


def _bits_told(row: Mapping[str, Any]) -> int | str | None:
    """The bits, or `4 in 1 of 3 layers` amid a flip."""
    some = in_layers(row.get("layers_at_4_bits"), row.get("layers"))
    return f"{row['activation_bits']}{some}" if some else row.get("activation_bits")


def _when(row: Mapping[str, Any]) -> str:
    return str(row["when"]) if ramp.is_ternary(row) else f"{row['when']}, quantised {row[ramp.FIELD]:.0%}"
