"""From an experiment to its comparison with two others, and what one asks its chart."""

from pathlib import Path

from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.compare import CompareScreen
from bitnet_tui.screens.experiment import ExperimentScreen
from tests.results.trainings import whole
from tests.tui.conftest import RecordingLaunch
from tests.tui.journeys.hand import Hand, by_each
from tests.tui.pilots import settled, shown, words


@by_each
async def test_two_others_are_marked_compared_and_looked_at_closely(home: Path, by: str):
    for name, loss in (("slow", 5.4), ("fast", 5.0), ("base", 5.2)):
        whole(home, name, loss, LR="1e-3" if name == "fast" else "6e-4")
    async with BitnetApp(home, root=home / "base", launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        hand = Hand(pilot, by)
        await settled(pilot)
        await hand.do(["V"], "3 Reports", "  V Compare  ")
        await hand.do(["space", "down", "space"], "○ fast", "○ slow")
        await hand.do(["enter"], "  Compare  ", last=True)
        screen = pilot.app.screen
        assert isinstance(screen, CompareScreen)
        assert "C is better on held-out loss: 5.000 against A 5.200 (3.8% less), B 5.400." in words(pilot)
        assert "Learning rate 6e-4 6e-4 1e-3" in words(pilot)
        assert "‹ held-out loss › A 5.20 B 5.40 C 5.00 ┊ABC flip" in words(pilot)
        await hand.do(["o", "down", "enter"], "B 5.40 ")
        assert "‹ held-out loss › A 5.20 ○B C 5.00" in words(pilot)
        await hand.do(["o", "down", "enter"], "○B")
        assert "○B" not in shown(pilot)
        await hand.do(["c"], "held-out loss ›")
        assert "‹ total loss ›" in words(pilot)
        await hand.do(["escape"], "esc Back")
        assert isinstance(pilot.app.screen, ExperimentScreen)
