"""Which of the figures of a comparison are marked as the best of their row."""

from pathlib import Path

import pytest

from bitnet_core.results.compare import Comparison, compare
from bitnet_core.results.finding import reader_of
from tests.results.trainings import STEPS, TOKENS, collected, evaluated, made, trained
from tests.tui.simulated import NOON


@pytest.fixture
def home(isolated: Path) -> Path:
    return isolated / "experiments"


def _compared(home: Path, *names: str) -> Comparison:
    return compare([reader_of(name, home).read() for name in names])


def _cells(found: Comparison, name: str) -> list[str]:
    row = next(row for row in found.rows if row.measure.name == name)
    return [row.cell(place) for place in range(len(found.subjects))]


def _whole(home: Path, name: str, loss: float, half: float = 0.05, tokens: int = 2113, **settings: object) -> None:
    exp = made(home, name, **settings)
    collected(exp)
    trained(exp, loss, tokens=tokens)
    evaluated(exp, half=half)


def test_a_star_is_for_a_difference_that_is_shown_and_beyond_chance(home: Path):
    for name, loss, half in (("base", 5.21, 0.05), ("near", 5.17, 0.05), ("far", 5.00, 0.05), ("wide", 5.00, 0.5)):
        _whole(home, name, loss, half=half)
    assert _cells(_compared(home, "base", "wide"), "heldout_loss") == ["5.210", "5.000"]
    assert _cells(_compared(home, "base", "near"), "heldout_kl") == ["4.210", "4.170"]
    assert _cells(_compared(home, "base", "near"), "heldout_loss") == ["5.210", "5.170"]
    assert _cells(_compared(home, "base", "near", "far"), "heldout_loss") == ["5.210", "5.170", "5.000 *"]
    assert _cells(_compared(home, "base", "wide"), "best_loss") == ["5.210", "5.000"]
    assert not any("*" in one for one in _cells(_compared(home, "base", "far"), "flip_shock"))
    _whole(home, "weighted", 3.00, KD_WEIGHT="2")
    for name in ("heldout_loss", "best_loss"):
        assert _cells(_compared(home, "base", "weighted"), name) == ["5.210", "3.000"]
    assert _cells(_compared(home, "base", "weighted"), "heldout_kl") == ["4.210", "2.000 *"]
    evaluated(reader_of("base", home).read().experiment, at=NOON + 500, qei=1.3004)
    assert _cells(_compared(home, "base", "far"), "qei") == ["1.30", "1.30"]
    evaluated(reader_of("far", home).read().experiment, at=NOON + 500, qei=1.33, speed=95.0)
    assert _cells(_compared(home, "base", "far"), "qei") == ["1.30", "1.33"]
    assert _cells(_compared(home, "base", "far"), "speed") == ["90.5", "95.0"]
    evaluated(reader_of("far", home).read().experiment, at=NOON + 600, qei=1.6, speed=190.0)
    assert _cells(_compared(home, "base", "far"), "qei") == ["1.30", "1.60 *"]
    assert _cells(_compared(home, "base", "far"), "speed") == ["90.5", "190 *"]
    evaluated(
        reader_of("far", home).read().experiment, at=NOON + 700, speed=190.0, how="llama.cpp, uncertain: 7 turns"
    )
    assert _cells(_compared(home, "base", "far"), "speed") == ["90.5", "190"]
    assert _cells(_compared(home, "base", "far"), "qei_speed") == ["2.60", "2.60"]


def test_speed_while_training_has_no_best(home: Path):
    """What else the machine did decides it."""
    for name, speed in (("slow", 300.0), ("fast", 700.0)):
        run = trained(made(home, name), 5.0, alive=True)
        for step in range(STEPS + 1, 4 * STEPS):
            run.emit("metric", step=step, seen_tokens=step * TOKENS, loss=5.0, tokens_per_s=speed)
        run.end_process()
        run.finish()
    assert _cells(_compared(home, "slow", "fast"), "train_speed") == ["300 ↻", "700 ↻"]
