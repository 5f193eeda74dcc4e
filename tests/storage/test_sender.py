"""The budget of what is in flight: whoever sends has no more in memory, however slow the target is."""

import threading

import pytest

from bitnet_core.storage import sender
from bitnet_core.storage.sender import Sender
from bitnet_core.storage.target import Limits


@pytest.mark.parametrize(("budget", "object_bytes", "most"), [(100, 1000, 100), (1 << 20, 10, 20)])
def test_no_more_is_in_flight_than_the_budget(
    monkeypatch: pytest.MonkeyPatch, budget: int, object_bytes: int, most: int
) -> None:
    """It is the smaller one of the budget and of what the threads can send at once."""
    monkeypatch.setattr(sender, "BUDGET_BYTES", budget)
    in_flight, seen = 0, []
    goes_on = threading.Event()

    def handled(_: object) -> None:
        nonlocal in_flight
        in_flight -= 10

    with Sender(Limits(object_bytes=object_bytes, workers=2)) as sending:
        threading.Timer(0.05, goes_on.set).start()
        for _ in range(50):
            sending.submit(goes_on.wait, 10, handled)
            in_flight += 10
            seen.append(in_flight)
        sending.drain()
    assert max(seen) == most
    assert in_flight == 0
