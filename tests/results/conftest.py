"""Where the tests of results have their experiments."""

from pathlib import Path

import pytest


@pytest.fixture
def home(isolated: Path) -> Path:
    return isolated / "experiments"
