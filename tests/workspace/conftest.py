"""A workspace of its own for each test."""

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of experiments, as the settings name it; nothing is there yet."""
    monkeypatch.setenv("BITNET_HOME", str(tmp_path / "experiments"))
    return tmp_path / "experiments"
