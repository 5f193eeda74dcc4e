"""The vitals of a training over all of its runs: what each did, up to where the next one took over. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from bitnet_core.runs.chain import counted
from bitnet_core.runs.vitals import EVALUATIONS, REPORTS, Vitals, is_since_flip, lowest


def whole_vitals(newest_first: Sequence[Vitals]) -> Vitals:
    """The vitals of a training up to the newest of its runs."""
    (whole, _), *earlier = counted(newest_first)
    for vitals, end in earlier:
        whole = continued(vitals, whole, end)
    return whole


def continued(earlier: Vitals, later: Vitals, seen: float) -> Vitals:
    """`later` with what an earlier run of the training did up to `seen` tokens, from where it went on.

    The time between the two counts as none.
    """
    reports = [one for one in earlier.reports if one.seen <= seen]
    evaluations = [one for one in earlier.evaluations if one.seen <= seen]
    ended = max([*(one.t for one in reports), *(one.t for one in evaluations)], default=0.0)
    pause = 0.0 if later.begun is None else later.begun - ended
    # Another machine may have another speed, and a step that was refused was told of then.
    reports = [replace(one, t=one.t + pause, tokens_per_s=None, refused=False) for one in reports]
    evaluations = [replace(one, t=one.t + pause) for one in evaluations]
    flipped = earlier.flip_at is not None and earlier.flip_at <= seen
    before = earlier.before_flip if flipped else None
    change = later.changed or (earlier.changed if earlier.changed and earlier.changed.seen <= seen else None)
    if later.flip_at is not None and not flipped and evaluations:
        before = evaluations[-1]
    told = (earlier.first, earlier.best, earlier.best_since_flip, *evaluations)
    measured = [one for one in told if one is not None and one.seen <= seen]
    firsts = [*measured, *([later.first] if later.first else [])]
    flip_at = earlier.flip_at if flipped else later.flip_at
    since = (*measured, later.best_since_flip, later.best, *later.evaluations)
    return replace(
        later,
        reports=(*reports, *later.reports)[-REPORTS:],
        evaluations=(*evaluations, *later.evaluations)[-EVALUATIONS:],
        begun=None if earlier.begun is None else earlier.begun + pause,
        first=min(firsts, key=lambda one: one.seen, default=None),
        best=lowest(*measured, later.best),
        before_flip=later.before_flip or before,
        best_since_flip=lowest(*(one for one in since if one is not None and is_since_flip(one, flip_at))),
        flip_at=flip_at,
        changed=change if change is None or change.measured else change.with_first(later.evaluations),
        commonest=earlier.commonest if later.commonest is None else later.commonest,
        bits=earlier.bits if later.bits is None else later.bits,
        share=earlier.share if later.share is None else later.share,
        budget=earlier.budget if later.budget is None else later.budget,
        epochs=earlier.epochs if later.epochs is None else later.epochs,
        starts_saved=earlier.starts_saved or later.starts_saved,
    )
