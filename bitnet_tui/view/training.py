"""The view of a run with the curves of its whole training."""

import re
from dataclasses import replace

from bitnet_core.results.curves import Training
from bitnet_tui.labels import by_label
from bitnet_tui.view.run_fold import RunView

_NAME = re.compile(r"\b[A-Z0-9]+(?:_[A-Z0-9]+)+\b")


def on(training: Training, view: RunView) -> RunView:
    """The view of a run with the curves of the training that it belongs to."""
    view = replace(view, curves=training.curves, flip=training.flip, held_out=training.held_out)
    return replace(view, seams=training.seams, turns=tuple(map(_labelled, training.turns)))


def _labelled(turn: str) -> str:
    """What was changed, with the settings' labels, but `LR` as everybody calls it: there is little room at a seam."""
    return _NAME.sub(lambda found: by_label(found[0]).strip("“”"), turn)
