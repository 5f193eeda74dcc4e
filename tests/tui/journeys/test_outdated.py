"""Settings are changed: what is from before is marked everywhere."""

import re
from pathlib import Path

import pytest

from bitnet_tui.app import BitnetApp
from bitnet_tui.plain import listing
from tests.tui.conftest import RecordingLaunch
from tests.tui.journeys.hand import Hand
from tests.tui.pilots import SIZES, click_on, settled, shown, until, words
from tests.tui.simulated import finished_experiment


@pytest.mark.parametrize(("hand", "size"), [("keys", SIZES[0]), ("mouse", SIZES[1])])
async def test_what_is_from_before_a_change_is_marked_everywhere(home: Path, hand: str, size: tuple[int, int]):
    """In the stages, above the results, in Reports, in the list, beside another one and in the listing as text."""
    for name in ("demo", "other"):
        exp = finished_experiment(home, name)
        (exp.reports / "mini_evaluation_report.json").write_text("{}")
        (exp.checkpoints / "mini_bitnet_step_200.pt").touch()
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=size) as pilot:
        do = Hand(pilot, hand).do
        await settled(pilot)
        assert len(re.findall(r"··✓✓· .* 7\.28  ", shown(pilot))) == 2
        assert "(outdated)" not in listing(home)
        if hand == "keys" and " ▌○ demo" not in shown(pilot):
            await pilot.press("down")
        await do(["enter"], "demo", "demo")
        assert "✓ done" in shown(pilot)
        assert "Since these results" not in shown(pilot)
        await do(["6", "slash"], "6 Config", "/ filter")
        await pilot.press(*"eval_max_prompts")
        await settled(pilot)
        await do(["enter", "enter"], "  Evaluation prompts  ")
        await pilot.press("end", *"1")
        await settled(pilot)
        await do(["enter"], "Save")
        assert "▲ “Evaluate” is outdated." in words(pilot)
        await until(pilot, lambda: "↻ outdated" in shown(pilot) or "↻ eval" in shown(pilot))
        await do(["1"], "1 Live")
        await until(pilot, lambda: "Since these results: “Evaluation prompts” 10 → 101; r runs it" in words(pilot))
        await click_on(pilot, "✓ train" if hand == "mouse" else "✓ Train")
        await do(["3"], "3 Reports")
        await until(pilot, lambda: "outdated: settings or input have changed" in words(pilot))
        await do(["escape"], "esc Back")
        await until(pilot, lambda: "QEI from before a change" in shown(pilot))
        assert re.search(r"demo +··✓↻· .* 7\.28 ↻", shown(pilot))
        assert re.search(r"other +··✓✓· .* 7\.28  ", shown(pilot))
        await do(["space", "down", "up", "up", "space", "V"], "○ demo", "○ other", "V Compare")
        await until(pilot, lambda: "7.28 ↻" in shown(pilot) or "7.28↻" in shown(pilot))
    assert listing(home).count("QEI 7.28 (outdated))") == 1
