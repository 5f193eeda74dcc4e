"""What a training says before its first step: what computes, and what in the settings the user may want to change."""

import os

import torch

from bitnet_core.model.precision import INDUCTOR_CACHE
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import TrainOptions
from bitnet_core.traces.examples import Cuts
from bitnet_core.training.step import Stepper


def announce_hardware(reporter: Reporter, stepper: Stepper, options: TrainOptions) -> None:
    """Log what computes, and what a compiler costs."""
    precision = stepper.precision
    reporter.log(
        f"Training {stepper.student.config.parameters():,} parameters on {stepper.device} in {precision.name} "
        f"({precision.reason}), masters in fp32, {torch.get_num_threads()} threads."
    )
    if options.compiled:
        cache = os.environ.get(INDUCTOR_CACHE, "the compiler's cache")
        reporter.log(
            "Compiling the student: the first step waits for the compiler, a minute or more, and so does the "
            f"first one after the flip; later runs find the result in {cache}."
        )


def announce_data(reporter: Reporter, cuts: Cuts, max_len: int, *, held_out: bool) -> None:
    """Say what MAX_SEQ_LEN cut off, and when there is nothing to measure on."""
    if cuts.completions:
        reporter.log(
            f"MAX_SEQ_LEN={max_len} cut the end of {cuts.completions} completions "
            f"({cuts.completion_tokens} supervised tokens)."
        )
    if cuts.prompts:
        reporter.alert(
            "warning",
            "prompts_cut",
            f"MAX_SEQ_LEN={max_len} cut the beginning of {cuts.prompts} prompts ({cuts.prompt_tokens} tokens).",
            "Raise MAX_SEQ_LEN so that the student reads the whole prompt.",
        )
    if not held_out:
        reporter.alert(
            "warning",
            "no_heldout",
            "The traces have only one prompt, so none is held out to measure on.",
            "Collect more prompts (KD_NUM_PROMPTS).",
        )


def warn_of_missing_flip(reporter: Reporter, options: TrainOptions, reachable_tokens: float) -> None:
    """Warn when the steps end before the flip. `reachable_tokens` is an estimate of what they will see."""
    if reachable_tokens < options.flip.threshold:
        reporter.alert(
            "warning",
            "no_flip",
            f"TOTAL_STEPS={options.total_steps} end at about {reachable_tokens:,.0f} tokens, before the flip to 4 "
            f"bits at {options.flip.threshold:,}.",
            f"Set BUDGET_TOKENS to about {reachable_tokens:.0f}, or raise TOTAL_STEPS.",
        )
