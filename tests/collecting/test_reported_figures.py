"""What collecting reports beside its answers: requests at once, what is spent, and what requests wait for."""

from types import SimpleNamespace
from typing import Any

import pytest

from bitnet_core.collecting import reporting
from bitnet_core.collecting.accounting import Accounts
from bitnet_core.collecting.reporting import SessionReporter, Tally
from bitnet_core.runs.reporter import Reporter
from bitnet_core.teachers.http.pace import Pace


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _session(pace: Pace | None, events: list[Any]) -> tuple[SessionReporter, tuple[Any, ...]]:
    budget: Any = SimpleNamespace(requests=12, tokens=340, usd=0.25, priced=True)
    unused: Any = None
    accounts = Accounts(unused, budget, in_flight={1, 2, 3})  # type: ignore[arg-type]
    teacher: Any = SimpleNamespace(pace=pace, answering=True)
    return SessionReporter(Reporter(events.append), unused, unused), (Tally(), teacher, accounts)


def test_figures_say_what_is_under_way_and_what_is_spent():
    events: list[Any] = []
    session, parts = _session(None, events)
    session.figures(*parts)
    (told,) = events
    assert (told.requests, told.requests_at_once, told.spent_tokens, told.spent_usd) == (12, 3, 340, 0.25)
    assert told.waits_for == ""


def test_requests_that_wait_at_a_model_in_this_process_are_not_under_way():
    events: list[Any] = []
    session, parts = _session(None, events)
    parts[2].at_once = 2
    session.figures(*parts)
    (told,) = events
    assert told.requests_at_once == 2


def test_a_wait_is_told_when_it_begins_and_when_it_ends(monkeypatch: pytest.MonkeyPatch):
    clock, events = _Clock(), []
    monkeypatch.setattr(reporting.time, "monotonic", clock)
    pace = Pace(clock=clock)
    session, parts = _session(pace, events)
    for seconds in (0.0, 0.2, 5.0):
        pace.pause(seconds)
        for _ in range(3):
            clock.now += 0.05
            session.waiting(*parts)
    assert [event.waits_for for event in events] == ["the server asked to wait"]
    clock.now += 10
    session.waiting(*parts)
    assert [event.waits_for for event in events] == ["the server asked to wait", ""]
    pace.pause(5)  # at once again: told a second later at the earliest
    session.waiting(*parts)
    assert len(events) == 2
    clock.now += 1.1
    session.waiting(*parts)
    assert len(events) == 3
    parts[1].answering = False
    clock.now += 1.1
    session.waiting(*parts)
    assert events[-1].waits_for == "the teacher does not answer"
