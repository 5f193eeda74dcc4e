"""How long a target with patience tries."""

import pytest

from bitnet_core.storage import patient
from bitnet_core.storage.patient import ATTEMPTS, Patient
from bitnet_core.storage.target import Unreachable
from tests.storage.memory import MemoryTarget


@pytest.mark.parametrize(
    ("seconds", "attempts"), [(1.0, ATTEMPTS), (40.0, ATTEMPTS), (61.0, 2), (451.0, 2), (1800.0, 1)]
)
def test_a_server_that_fails_late_is_not_asked_for_hours(
    monkeypatch: pytest.MonkeyPatch, seconds: float, attempts: int
) -> None:
    now, asked = 0.0, 0

    def fail(_call: str, _key: str) -> None:
        nonlocal now, asked
        now, asked = now + seconds, asked + 1
        raise Unreachable("It drips.")

    monkeypatch.setattr(patient.time, "monotonic", lambda: now)
    target = MemoryTarget()
    target.before = fail
    with pytest.raises(Unreachable, match="It drips"):
        Patient(target, first_wait=0.0).get("x")
    assert asked == attempts
