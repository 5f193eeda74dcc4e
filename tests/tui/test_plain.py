"""The experiments as plain text."""

import re
from pathlib import Path

import pytest

from bitnet_tui.plain import listing
from bitnet_tui.view.run_reading import RunReading
from tests.tui.simulated import NOON, SimulatedRun, experiment, leave_traces


def test_it_names_what_the_table_of_experiments_has_in_columns(home: Path):
    exp = experiment(home, "kd")
    leave_traces(exp)
    assert "  ✓ collect   copied\n  · train     new\n" in listing(home)
    assert "held-out" not in listing(home)
    run = SimulatedRun(exp, "train", NOON)
    run.train(0, 200)
    run.emit(
        "metric", step=200, seen_tokens=149_000, heldout_loss=6.207, activation_bits=4, layers_at_4_bits=2, layers=6
    )
    (exp.checkpoints / "mini_bitnet_step_200.pt").touch()
    run.finish()
    text = listing(home)
    assert "held-out loss 6.21, 149k of 150k tokens, activations of 4 bits in 2 of 6 layers\n" in text
    assert "student nano, teacher embedded\n" in text
    assert re.search(r"only on this machine, [\d.]+ kB\n", text)
    (exp.root / ".env").write_text("BUDGET_TOKENS=150000\nFLIP_FRACTION=0.9\nTOTAL_STEPS=200\nLR=0.5\n")
    assert "held-out loss 6.21 (outdated), 149k" in listing(home)


def test_it_says_why_a_stage_failed_and_reads_no_event_of_one_that_has_ended(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(RunReading, "view", lambda *_: pytest.fail("events were read"))
    exp = experiment(home, "kd")
    SimulatedRun(exp, "teacher", NOON).finish()
    SimulatedRun(exp, "collect", NOON).finish("failed", "The key was refused; enter it again.\nSee the docs.")
    SimulatedRun(exp, "train", NOON)
    text = listing(home)
    assert re.search(r"collect +failed.*\n      The key was refused; enter it again\.\n      See the docs\.\n", text)
    assert re.search(r"train +interrupted\n      Its process is gone\n", text)
