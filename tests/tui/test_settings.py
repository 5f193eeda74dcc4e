"""The settings of an experiment in the app: kept while nothing changes, and never older than their sources."""

from pathlib import Path

import pytest

from bitnet_core.settings.values import TrainOptions
from bitnet_tui.services.settings import experiment_at


def test_settings_follow_each_of_their_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root, cwd = tmp_path / "home" / "a", tmp_path / "cwd"
    root.mkdir(parents=True)
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    monkeypatch.delenv("SEED", raising=False)

    def seed() -> int:
        experiment, problem = experiment_at(root, root.parent)
        again, _ = experiment_at(root, root.parent)
        assert again.settings is experiment.settings, "resolved again although nothing has changed"
        assert not problem
        return TrainOptions.of(experiment.settings).seed

    before = seed()
    (cwd / ".env").write_text(f"SEED={before + 1}\n")
    assert seed() == before + 1
    (root / ".env").write_text(f"SEED={before + 2}\n")
    assert seed() == before + 2
    (root / ".env").write_text(f"SEED={before + 10}\n")
    assert seed() == before + 10
    monkeypatch.setenv("SEED", "3")
    assert seed() == 3
