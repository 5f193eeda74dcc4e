"""Reads a run's events in slices, so that a run of any length is shown at once: what its end says, then the rest."""

import math
from dataclasses import replace
from time import perf_counter

from bitnet_core.results.curves import Curve, until
from bitnet_core.runs.event_files import EventReader
from bitnet_core.runs.finding import Finding
from bitnet_core.runs.record import Run
from bitnet_core.runs.vitals import Vitals
from bitnet_core.text import percent
from bitnet_tui.view.run_fold import RunFold, RunView, ShownAlert, Traces

END_BYTES = 1 << 20
"""How much of the end of a file is read first, and never left for later."""


class RunReading:
    """The fold of all events, and while it lags behind, one of those at the end. Not thread-safe."""

    def __init__(self, run: Run) -> None:
        self._path = run.events_path
        self._reader, self._fold = run.reader(), RunFold()
        self._end: tuple[EventReader, RunFold] | None = None

    def view(self, deadline: float = math.inf) -> RunView:
        """What the events say. After `deadline`, by `perf_counter`, what is left of a long file is left for later."""
        while True:
            self._fold.feed(self._reader.read_new())
            if self._reader.at_end:
                self._end = None
                return self._fold.view()
            if self._reader.left > END_BYTES and perf_counter() >= deadline:
                return meanwhile(self._fold.view(), self._newest(), self._reader.left / self._reader.size)

    def _newest(self) -> RunView:
        """What the end of the file says, as it grows."""
        while True:
            reader, fold = self._end = self._end or (EventReader(self._path, last_bytes=END_BYTES), RunFold())
            fold.feed(reader.read_new())
            if reader.at_end:
                return fold.view()
            if reader.left > 2 * END_BYTES:  # another file has taken its place
                self._end = None


def meanwhile(first: RunView, end: RunView, unread: float) -> RunView:
    """What is certain of a run of which the beginning and the end were read: the figures that the rest can't change.

    The curves have a gap between the two; one whose newest value is not known yet is left out.
    """
    return replace(
        end,
        revision=first.revision + end.revision,
        device=first.device,
        begins=first.begins,
        flip=first.flip,
        curves=_both(first, end),
        alerts=tuple(ShownAlert(one.alert) for one in end.alerts),
        traces=Traces(newest=end.traces.newest),
        vitals=Vitals(budget=first.vitals.budget),
        unread=unread,
    )


def _both(first: RunView, end: RunView) -> tuple[Curve, ...]:
    if end.begins is None:
        return end.curves
    kept = [until(curve, end.begins.seam) for curve in first.curves]
    return tuple(
        Curve(one.name, one.segments + other.segments, one.not_finite + other.not_finite) if other.segments else other
        for one, other in zip(kept, end.curves, strict=True)
    )


def being_read(unread: float) -> Finding:
    """That more will be shown: figures of the whole run, and its health."""
    return Finding("calm", f"Reading the run's events, the newest first: {percent(1 - unread, 1)}. The rest follows.")
