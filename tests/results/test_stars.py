"""Which of the figures of a comparison are marked as the best of their row."""

from pathlib import Path

from bitnet_core.results.finding import reader_of
from tests.results.trainings import STEPS, TOKENS, cells, compared, evaluated, made, trained, whole
from tests.tui.simulated import NOON


def test_a_star_is_for_a_difference_that_is_shown_and_beyond_chance(home: Path):
    for name, loss, half in (("base", 5.21, 0.05), ("near", 5.17, 0.05), ("far", 5.00, 0.05), ("wide", 5.00, 0.5)):
        whole(home, name, loss, half=half)
    assert cells(compared(home, "base", "wide"), "heldout_loss") == ["5.210", "5.000"]
    assert cells(compared(home, "base", "near"), "heldout_kl") == ["4.210", "4.170"]
    assert cells(compared(home, "base", "near"), "heldout_loss") == ["5.210", "5.170"]
    assert cells(compared(home, "base", "near", "far"), "heldout_loss") == ["5.210", "5.170", "5.000 *"]
    assert cells(compared(home, "base", "wide"), "best_loss") == ["5.210", "5.000"]
    assert not any("*" in one for one in cells(compared(home, "base", "far"), "flip_shock"))
    whole(home, "weighted", 3.00, KD_WEIGHT="2")
    for name in ("heldout_loss", "best_loss"):
        assert cells(compared(home, "base", "weighted"), name) == ["5.210", "3.000"]
    assert cells(compared(home, "base", "weighted"), "heldout_kl") == ["4.210", "2.000 *"]
    evaluated(reader_of("base", home).read().experiment, at=NOON + 500, qei=1.3004)
    assert cells(compared(home, "base", "far"), "qei") == ["1.30", "1.30"]
    evaluated(reader_of("far", home).read().experiment, at=NOON + 500, qei=1.33, speed=95.0)
    assert cells(compared(home, "base", "far"), "qei") == ["1.30", "1.33"]
    assert cells(compared(home, "base", "far"), "speed") == ["90.5", "95.0"]
    evaluated(reader_of("far", home).read().experiment, at=NOON + 600, qei=1.6, speed=190.0)
    assert cells(compared(home, "base", "far"), "qei") == ["1.30", "1.60 *"]
    assert cells(compared(home, "base", "far"), "speed") == ["90.5", "190 *"]
    evaluated(
        reader_of("far", home).read().experiment, at=NOON + 700, speed=190.0, how="llama.cpp, uncertain: 7 turns"
    )
    assert cells(compared(home, "base", "far"), "speed") == ["90.5", "190"]
    assert cells(compared(home, "base", "far"), "qei_speed") == ["2.60", "2.60"]


def test_speed_while_training_has_no_best(home: Path):
    """What else the machine did decides it."""
    for name, speed in (("slow", 300.0), ("fast", 700.0)):
        run = trained(made(home, name), 5.0, alive=True)
        for step in range(STEPS + 1, 4 * STEPS):
            run.emit("metric", step=step, seen_tokens=step * TOKENS, loss=5.0, tokens_per_s=speed)
        run.end_process()
        run.finish()
    assert cells(compared(home, "slow", "fast"), "train_speed") == ["300 ↻", "700 ↻"]
