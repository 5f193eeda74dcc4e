"""What a training comes to if it goes on as so far: its tokens, its last step, the step of its flip. Pure."""

import math

from bitnet_core.runs.vitals import Plan, Vitals


def reachable(vitals: Vitals, plan: Plan) -> float | None:
    """The tokens that all steps will have seen, if they go on as so far; never more than the budget."""
    last = vitals.reports[-1] if vitals.reports else None
    if last is None or plan.flip is None:
        return None
    if not last.step or not plan.steps:
        return float(plan.flip.budget)
    return min(float(plan.flip.budget), max(last.seen, last.seen / last.step * plan.steps))


def last_step(vitals: Vitals, plan: Plan) -> float | None:
    """At which step it ends, if it goes on as so far."""
    end, report = reachable(vitals, plan), vitals.reports[-1]
    by_budget = report.step * end / report.seen if end and report.step and report.seen else None
    return min((one for one in (plan.steps, by_budget) if one is not None), default=None)


def has_flipped(vitals: Vitals) -> bool:
    return vitals.flip_at is not None or vitals.bits == 4


def flip_step(vitals: Vitals, plan: Plan) -> float:
    """At which step the flip is due, where the held-out loss is measured too; infinite where none is to come."""
    report, flip = vitals.reports[-1], plan.flip
    if flip is None or has_flipped(vitals) or not (report.step and report.seen):
        return math.inf
    due = report.step * flip.threshold / report.seen
    return due if due > report.step and flip.threshold < flip.budget else math.inf
