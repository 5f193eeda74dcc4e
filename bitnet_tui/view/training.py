"""A training as one curve over all its runs, each of which resumed from a checkpoint of one before it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bitnet_core.runs.events import Flip, Metric
from bitnet_tui.view.run_fold import TRACKED, Curve, RunView
from bitnet_tui.view.series import Segment


@dataclass(frozen=True)
class Training:
    """The curves of a training up to one of its runs; `seams` are the x where a run took over, in ascending order."""

    curves: tuple[Curve, ...]
    seams: tuple[float, ...]
    flip: Flip | None
    held_out: Metric | None

    def on(self, view: RunView) -> RunView:
        """The view of that run with the curves of the whole training."""
        return replace(view, curves=self.curves, seams=self.seams, flip=self.flip, held_out=self.held_out)


def of_one_training(newest_first: Iterable[RunView]) -> list[RunView]:
    """The runs back to the one that began at the first step. It reads no more of them than it needs."""
    found: list[RunView] = []
    for view in newest_first:
        found.append(view)
        if view.begins is not None and not view.begins.resumed:
            break
    return found


def joined(newest_first: Sequence[RunView]) -> Training:
    """One curve over these runs. What an older run did after the point from which a newer one resumed was lost."""
    end = math.inf
    pieces: dict[str, list[Curve]] = {name: [] for name in TRACKED}
    seams: list[float] = []
    flip = held_out = None
    for view in newest_first:
        for curve in view.curves:
            pieces[curve.name].insert(0, _before(curve, end))
        if view.flip is not None and view.flip.seen_tokens < end:
            flip = view.flip
        held_out = held_out or view.held_out
        if view.begins is not None and view.begins.x < end:
            end = view.begins.x
            if view.begins.resumed:
                seams.insert(0, end)
    curves = tuple(_connected(name, parts) for name, parts in pieces.items())
    return Training(curves, tuple(seams), flip, held_out)


def _before(curve: Curve, end: float) -> Curve:
    segments = (tuple(point for point in segment if point[0] < end) for segment in curve.segments)
    kept = tuple(segment for segment in segments if segment)
    return Curve(curve.name, kept, tuple(x for x in curve.not_finite if x < end))


def _connected(name: str, parts: Sequence[Curve]) -> Curve:
    """The parts as one curve: a seam is no gap."""
    segments: list[Segment] = []
    for part in parts:
        first, *others = part.segments or ((),)
        segments[-1:] = [segments[-1] + first] if segments else [first]
        segments += others
    kept = tuple(segment for segment in segments if segment)
    return Curve(name, kept, tuple(x for part in parts for x in part.not_finite))
