"""`bitnet config --check`: what it refuses, and what it only warns of."""

from pathlib import Path

import pytest

from bitnet_core.cli.main import main


def test_check_reports_everything_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_text("SEED=1\nSEED=2\nLR=hot\nwhat is this\nKDTAU=1\n")
    assert main(["config", "--check"]) == 2
    err = capsys.readouterr().err
    assert [word in err for word in ("lines 1, 2", "LR=hot", "line 4", "KDTAU")] == [True] * 4


def test_check_reports_settings_that_contradict_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_text("STUDENT_INIT_LAYERS=3\n")
    assert main(["config", "--check"]) == 2
    assert "STUDENT_INIT_LAYERS keeps layers of a model, and STUDENT_INIT names none" in capsys.readouterr().err


def test_check_accepts_a_setting_without_effect_and_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_text("WANDB_PROJECT=mine\n")
    assert main(["config", "--check"]) == 0
    assert capsys.readouterr().err == "bitnet: warning: WANDB_PROJECT=mine (.env line 1) has no effect yet.\n"
