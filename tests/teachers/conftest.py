"""A pace for tests in which a server refuses requests, and that are about something else."""

import pytest

from bitnet_core.teachers.http import pace


@pytest.fixture
def soon_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a refusal the next request follows in hundredths of a second, not in a second and more."""
    monkeypatch.setattr(pace, "_FIRST_SECONDS", 0.02)
