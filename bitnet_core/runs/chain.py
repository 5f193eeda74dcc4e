"""Which runs are one training: a run that was resumed goes on with what an earlier one did. Pure."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from msgspec import UNSET

from bitnet_core.runs.events import Budget, Event, Metric, SettingsChanged
from bitnet_core.text import finite


def place_of(event: Metric) -> float | None:
    """Where a metric is on the axis of curves: the seen tokens, or the step where these are not told."""
    seen = finite(event.seen_tokens)
    return finite(event.step) if seen is None else seen


@dataclass(frozen=True)
class Beginning:
    """A run's first point on the axis of its curves, and the checkpoint `after` which it goes on, where that is told.

    A training that starts anew reports its first step.
    """

    x: float
    step: float | None
    after: float | None = None

    @property
    def resumed(self) -> bool:
        return bool(self.after) or (self.step is not None and self.step > 1)

    @property
    def seam(self) -> float:
        """Where the run took over: what older runs did behind it was lost."""
        return math.nextafter(self.x, -math.inf) if self.after is None else min(self.after, self.x)


@dataclass
class Start:
    """Feed it a run's events in order; `begins` is there once the first figure has come."""

    begins: Beginning | None = None
    _after: float | None = None

    @property
    def foreseen(self) -> Beginning | None:
        """Where it will begin, if it has told after which checkpoint, before its first figure."""
        return None if self._after is None else Beginning(self._after, None, self._after)

    def feed(self, event: Event) -> None:
        if isinstance(event, SettingsChanged) or (isinstance(event, Budget) and event.seen_tokens is not UNSET):
            self._after = finite(event.seen_tokens)
        elif self.begins is None and isinstance(event, Metric) and (x := place_of(event)) is not None:
            self.begins = Beginning(x, finite(event.step), self._after)


class Begun(Protocol):
    """Anything that knows where a run of a training began."""

    @property
    def begins(self) -> Beginning | None: ...


_P = TypeVar("_P", bound=Begun)


def of_one_training(newest_first: Iterable[_P]) -> list[_P]:
    """The runs back to the one that began at the first step. It reads no more of them than it needs."""
    found: list[_P] = []
    for run in newest_first:
        found.append(run)
        if run.begins is not None and not run.begins.resumed:
            break
    return found


def counted(newest_first: Iterable[_P]) -> Iterator[tuple[_P, float]]:
    """Each run of a training, with the place up to which it counts: what it did behind that, a newer one did anew."""
    end = math.inf
    for run in newest_first:
        yield run, end
        if run.begins is not None:
            end = min(end, run.begins.seam)
