"""Small windows: what a key does stays beside the key, and a form's buttons stay in sight."""

from pathlib import Path

import pytest

from bitnet_tui.actions import ACTIONS, keys_text
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.help import help_lines
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import settled, shown, until
from tests.tui.simulated import finished_experiment


@pytest.mark.parametrize("width", [20, 45, 60, 66, 80, 200])
def test_what_a_key_does_is_wrapped_beside_it(width: int):
    lines = ["".join(span.text for span in one) for one in help_lines(width)]
    for one in ACTIONS:
        assert any(text.startswith(f"  {keys_text(one)}") for text in lines)
    for text in lines:
        assert len(text) <= max(width, 32)
        assert not text.startswith("   ") or text.startswith(" " * 12)
    assert sum(text.startswith("  r  ") for text in lines) == 2  # experiment and playground
    said = " ".join(" ".join(lines).split())
    assert all(" ".join(one.tooltip.split()) in said for one in ACTIONS)


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (120, 36)])
async def test_the_help_wraps_as_wide_as_its_window(home: Path, size: tuple[int, int]):
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("f1")
        await settled(pilot)
        for _ in range(12):
            rows = [one.split("│")[1][:-5] for one in shown(pilot).splitlines() if one.count("│") == 2]
            assert {len(row) - len(row.lstrip()) for row in rows if row.strip()} <= {3, 5, 15}, rows
            await pilot.press("down", "down")
            await pilot.pause()


async def test_all_stages_and_tabs_are_there_at_64_columns(home: Path):
    exp = finished_experiment(home, "kd")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch(warning="")).run_test(size=(64, 20)) as pilot:
        await settled(pilot)
        await until(pilot, lambda: "Traces  Reports  Checkpoints  Storage  Config  Log" in shown(pilot))
        assert "dryrun" in shown(pilot).split("\n")[1]
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        await until(pilot, lambda: "6 Config  7 Log" in shown(pilot))
