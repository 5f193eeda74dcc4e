"""The view of a run with the curves of its whole training."""

from dataclasses import replace

from bitnet_core.results.curves import Training
from bitnet_tui.view.run_fold import RunView


def on(training: Training, view: RunView) -> RunView:
    """The view of a run with the curves of the training that it belongs to."""
    view = replace(view, curves=training.curves, flip=training.flip, held_out=training.held_out)
    return replace(view, seams=training.seams, turns=training.turns)
