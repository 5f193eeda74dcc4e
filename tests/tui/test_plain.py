"""The experiments as plain text."""

import re
from pathlib import Path

from bitnet_tui.plain import listing
from tests.tui.simulated import NOON, SimulatedRun, experiment


def test_it_names_what_the_table_of_experiments_has_in_columns(home: Path):
    exp = experiment(home, "kd")
    assert "held-out" not in listing(home)
    run = SimulatedRun(exp, "train", NOON)
    run.train(0, 200)
    run.emit("metric", step=1, seen_tokens=745, heldout_loss=9.1)
    run.emit("metric", step=200, seen_tokens=149_000, heldout_loss=6.207, activation_bits=4)
    (exp.checkpoints / "mini_bitnet_step_200.pt").touch()
    run.finish()
    text = listing(home)
    assert "held-out loss 6.21, 149k of 150k tokens, activations of 4 bits\n" in text
    assert re.search(r"train +done.*\n      Done\. Held-out fell from 9\.10 to 6\.21", text)
    assert "student nano, teacher embedded\n" in text
    assert re.search(r"only on this machine, [\d.]+ kB\n", text)
    (exp.root / ".env").write_text("BUDGET_TOKENS=150000\nFLIP_FRACTION=0.9\nTOTAL_STEPS=200\nLR=0.5\n")
    assert "held-out loss 6.21 (outdated), 149k" in listing(home)
