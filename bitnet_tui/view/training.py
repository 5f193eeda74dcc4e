"""The view of a run with the curves and the vitals of its whole training."""

from collections.abc import Sequence
from dataclasses import replace

from bitnet_core.results.curves import Training, counted
from bitnet_core.runs.vitals import Vitals, continued
from bitnet_tui.view.run_fold import RunView


def on(training: Training, view: RunView) -> RunView:
    """The view of a run with the curves of the training that it belongs to."""
    view = replace(view, curves=training.curves, flip=training.flip, held_out=training.held_out)
    return replace(view, seams=training.seams, turns=training.turns)


def whole_vitals(newest_first: Sequence[RunView]) -> Vitals:
    """The vitals of a training up to the newest of its runs."""
    (newest, _), *earlier = counted(newest_first)
    whole = newest.vitals
    for run, end in earlier:
        whole = continued(run.vitals, whole, end)
    return whole
