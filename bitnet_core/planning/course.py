"""How a training will end: by its steps or by its budget, and on which side of the flip. Arithmetic of one number.

That number is the supervised tokens of a step. Without traces only its upper bound is known, rows × positions, and
what then depends on it is left open, with the number at which it turns.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from bitnet_core import text
from bitnet_core.settings.values import TrainOptions

EndedBy = Literal["TOTAL_STEPS", "BUDGET_TOKENS"]


@dataclass(frozen=True)
class Course:
    """None where it depends on the traces; `words` then says on what.

    `flip_step` is the step before which the flip happens, None also if it never does.
    """

    ended_by: EndedBy | None
    steps: int | None
    seen_tokens: int | None
    flip_reached: bool | None
    flip_step: int | None
    words: str


def course(options: TrainOptions, supervised: float, *, exact: bool) -> Course:
    """The course with `supervised` tokens a step, or with at most that number where it is not `exact`."""
    found = _exact(options, supervised) if exact else _bounded(options, supervised)
    return replace(found, words=found.words + _ternary_words(options, supervised))


def _ternary_words(options: TrainOptions, supervised: float) -> str:
    """When the student is ternary, if that is later than at once, and if it is ever."""
    if not options.flip.quant_ramp_fraction:
        return ""
    if options.flip.budget_tokens is None:
        return f"; the student is ternary after {options.flip.quant_ramp_fraction:.3g} of the budget"
    at = options.flip.ternary_at
    if options.total_steps is not None and options.total_steps * supervised < at:
        return f"; it would not be ternary before {at:,} tokens (QUANT_RAMP_FRACTION), so training refuses to begin"
    return f"; the student is ternary from {at:,} tokens on"


def _bounded(options: TrainOptions, supervised: float) -> Course:
    """With at most `supervised` tokens a step."""
    steps = options.total_steps
    if options.flip.budget_tokens is None:
        return _in_epochs(options.flip.budget_epochs or 0.0, steps)
    budget, threshold = options.flip.budget, options.flip.threshold
    if steps is None:
        words = f"the budget ends it after {math.ceil(budget / supervised):,} steps or more"
        return Course("BUDGET_TOKENS", None, None, None, None, words)
    most = steps * supervised
    if most < threshold:
        words = f"{steps:,} steps see at most {most:,.0f} tokens and end before the flip at {threshold:,}"
        return Course("TOTAL_STEPS", steps, None, False, None, words)
    if most < budget:
        words = f"TOTAL_STEPS ends it; the flip needs {threshold / steps:,.0f} supervised tokens a step or more"
        return Course("TOTAL_STEPS", steps, None, None, None, words)
    words = (
        f"the budget ends it from {budget / steps:,.0f} supervised tokens a step on, TOTAL_STEPS below that; "
        f"the flip needs {threshold / steps:,.0f}"
    )
    return Course(None, None, None, None, None, words)


def _in_epochs(epochs: float, steps: int | None) -> Course:
    """Before there are traces, the number of tokens is not known."""
    words = f"{text.epochs(epochs)} of what will be collected {'ends' if epochs == 1 else 'end'} it"
    if steps is None:
        return Course("BUDGET_TOKENS", None, None, None, None, words)
    return Course(None, None, None, None, None, f"{words}, or TOTAL_STEPS before that, at {steps:,} steps")


def _exact(options: TrainOptions, supervised: float) -> Course:
    budget, threshold = options.flip.budget, options.flip.threshold
    to_budget = math.ceil(budget / supervised)
    most = to_budget if options.total_steps is None else options.total_steps
    ended_by: EndedBy = "BUDGET_TOKENS" if to_budget <= most else "TOTAL_STEPS"
    steps = min(to_budget, most)
    seen = round(steps * supervised)
    flip_step = math.ceil(threshold / supervised) + 1
    reached = flip_step <= steps
    ender = "the budget" if ended_by == "BUDGET_TOKENS" else ended_by
    words = f"{ender} ends it after {steps:,} steps, {seen:,} tokens"
    if reached:
        words += f"; the flip is before step {flip_step:,}, at {threshold:,} tokens"
    elif threshold >= budget:
        words += "; there is no flip (FLIP_FRACTION)"
    else:
        words += f"; no step is trained after the flip at {threshold:,}"
    return Course(ended_by, steps, seen, reached, flip_step if reached else None, words)
