"""What is told of requests that a provider refuses for a while: why they wait, and how long."""

import pytest

from bitnet_core.runs.events import Alert
from bitnet_core.runs.reporter import Reporter
from bitnet_core.teachers import opening
from bitnet_core.teachers.http.pace import Pace
from bitnet_core.teachers.http.retries import FailedAttempt, NoConnection, RefusedByProxy
from bitnet_core.teachers.profiles import PROVIDERS
from tests.teachers.virtual_time import run


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (FailedAttempt("rate limited"), "Nothing to do."),
        (RefusedByProxy(503), "Nothing to do."),
        (NoConnection("connection refused"), "Check that its server is running and that its address is right."),
        (
            NoConnection("no connection within 10 s"),
            "Check that its server is running and that its address is right.",
        ),
    ],
)
def test_a_server_that_can_not_be_reached_is_to_be_looked_after(error: FailedAttempt, advice: str) -> None:
    told: list[str] = []
    host = Reporter(lambda event: told.append(event.advice) if isinstance(event, Alert) else None)
    opening._alert_of_retries(host, PROVIDERS["custom"], Pace())(error)
    assert told == [advice]


def test_a_provider_that_names_no_time_is_waited_for_as_long_as_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = 0.0, []
    monkeypatch.setattr(opening.time, "monotonic", lambda: now)
    host = Reporter(lambda event: told.append(event.message) if isinstance(event, Alert) else None)
    pace = Pace(clock=lambda: now)
    tell = opening._alert_of_retries(host, PROVIDERS["custom"], pace)

    async def refused(wait: float | None = None) -> None:
        nonlocal now
        now += pace.wait_s()
        async with pace.turn() as turn:
            pace.refused(turn, wait)
        tell(FailedAttempt("rate limited", wait=wait))

    async def many() -> None:
        for _ in range(6):
            await refused()
        assert pace.wait_s() > 30
        for _ in range(2):
            await refused(45.0)

    run(many())
    seconds = [one.removeprefix("custom: rate limited; trying again ") for one in told]
    assert seconds == ["in 1 s.", "in 16 s.", "in 32 s.", "in 45 s, as it asks.", "in 45 s, as it asks."], told
