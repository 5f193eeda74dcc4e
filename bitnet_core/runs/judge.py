"""How a run is doing, from its events: one that goes on with an earlier training is judged as a part of it."""

import contextlib

from bitnet_core.errors import BitnetError
from bitnet_core.runs.chain import of_one_training
from bitnet_core.runs.diverged import has_diverged
from bitnet_core.runs.event_files import each_event
from bitnet_core.runs.events import Event
from bitnet_core.runs.finding import Finding
from bitnet_core.runs.health import UNKNOWN_MACHINE, Machine
from bitnet_core.runs.history import Entry, before
from bitnet_core.runs.record import Run, RunRecord
from bitnet_core.runs.stage_health import health, unreadable
from bitnet_core.runs.vitals import Plan, Vitals, VitalSigns
from bitnet_core.runs.whole_training import whole_vitals


class Judge:
    """Feed it every event of one run, in order."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._signs = VitalSigns()
        self._earlier: list[Vitals] | None = None

    def feed(self, event: Event) -> None:
        self._signs.feed(event)

    def findings(
        self, record: RunRecord, state: str, machine: Machine = UNKNOWN_MACHINE, silent: float = 0.0
    ) -> tuple[Finding, ...]:
        """As `health`. Where the training's earlier runs can't be listed, it is judged alone."""
        vitals = self._signs.view()
        if said := unreadable(record, state, vitals):
            return said
        if record.stage == "train":
            vitals = self._of_training(vitals, state)
        plan, diverged = Plan.of(record.settings), has_diverged(record)
        return health(record.stage, state, vitals, plan, machine, silent, diverged=diverged)

    def _of_training(self, vitals: Vitals, state: str) -> Vitals:
        """The whole training's. A run without figures has added nothing to it if it succeeded, else begins yet."""
        resumed = state == "succeeded" if vitals.begins is None else vitals.begins.resumed
        if resumed and self._earlier is None:
            with contextlib.suppress(BitnetError):
                self._earlier = of_one_training(map(_vitals, before(self._run)))
        return whole_vitals([vitals, *(self._earlier or ())]) if resumed else vitals


def _vitals(entry: Entry) -> Vitals:
    signs = VitalSigns()
    for event in each_event(entry.run.events_path):
        signs.feed(event)
    return signs.view()
