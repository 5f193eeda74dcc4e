"""Starts runs in real processes for the tests of this folder."""

import os
from pathlib import Path

import pytest

from bitnet_core.runs.launch import launch
from bitnet_core.runs.record import Run
from bitnet_core.settings.resolve import from_values
from tests.runs.real import Starter


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starter:
    """Launch a fake stage whose behaviour is chosen by name, in a real process."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "fake_stages"), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_STAGES", "1")

    def starter(
        stage: str = "train", what: str = "done", secrets: dict[str, str] | None = None, **values: str
    ) -> Run:
        monkeypatch.setenv(f"FAKE_{stage.upper()}", what)
        return launch(from_values({"DRIVE_ROOT": str(tmp_path / "exp"), **values}), stage, secrets)

    return starter
