"""Public benchmarks in the app: what is here, their licences, and fetching them before a stage that needs them."""

import json
import sys
import threading
from pathlib import Path

import pytest

from bitnet_tui.app import BitnetApp
from bitnet_tui.services import commands
from bitnet_tui.services.benchmarks import GetBenchmarks
from bitnet_tui.view.spans import unstyled
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import click_on, notices, settled, shown, until, words
from tests.tui.simulated import finished_experiment

_ROWS = [
    {"benchmark": "arc_easy", "items": 570, "about": "science", "licence": "CC BY-SA 4.0", "package": "olmo==1"},
    {"benchmark": "piqa", "items": 1838, "about": "common sense", "licence": "not stated", "package": "olmo==1"},
    {"benchmark": "bfcl", "items": 395, "about": "one tool", "licence": "Apache-2.0", "package": "bfcl==1"},
]
_BITNET = """
import json, pathlib, sys
here, rows = pathlib.Path({here!r}), json.loads({rows!r})
got = here.read_text().split() if here.exists() else []
if "list" in sys.argv:
    for one in rows:
        bytes_ = 86_000_000 if one["package"] == "olmo==1" else 2_000_000
        print(json.dumps(one | {{"fetched": one["benchmark"] in got, "package_bytes": bytes_}}))
elif {fails!r}:
    print("bitnet: pip can't download it: go online.", file=sys.stderr)
    sys.exit(1)
else:
    print(json.dumps({{"kind": "progress", "label": "downloading", "done": 1, "total": 2, "unit": "bytes"}}))
    here.write_text(" ".join(got + [one["benchmark"] for one in rows if one["benchmark"] in sys.argv]))
"""


@pytest.fixture
def bitnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Replaces the command `bitnet bench`: called with whether fetching fails, it gives the file of what is here."""

    def replace(*, fails: bool = False) -> Path:
        script, here = tmp_path / "bitnet.py", tmp_path / "here"
        script.write_text(_BITNET.format(here=str(here), rows=json.dumps(_ROWS), fails=fails))
        start = commands.start_with_secrets

        def other(command: list[str], *rest: object) -> object:
            return start([sys.executable, str(script), *command[3:]], *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(commands, "start_with_secrets", other)
        return here

    return replace


def _asks_for(home: Path, suite: str) -> Path:
    root = finished_experiment(home, "kd").root
    (root / ".env").write_text((root / ".env").read_text() + f"EVAL_SUITE={suite}\n")
    return root


async def test_a_stage_that_needs_them_offers_to_fetch_them_and_starts_then(home: Path, bitnet):
    here, root, launch = bitnet(), _asks_for(home, "checks,arc_easy,piqa"), RecordingLaunch(warning="")
    async with BitnetApp(home, root, launch=launch).run_test(size=(110, 36)) as pilot:
        await settled(pilot)
        await pilot.press("p")
        await until(pilot, lambda: "Fetch the benchmarks first?" in shown(pilot))
        asked = " ".join(str(one.visual) for one in pilot.app.screen.query(Words))
        assert "arc_easy and piqa, which are not here yet. 86 MB will come" in asked
        assert "CC BY-SA 4.0, not stated" in asked
        await pilot.press("n")
        await settled(pilot)
        assert launch.launched == []
        await pilot.press("p")
        await until(pilot, lambda: "Fetch, then start" in shown(pilot))
        await click_on(pilot, "Fetch, then start")
        await until(pilot, lambda: bool(launch.launched))
        assert here.read_text() == "arc_easy piqa"
        assert [stage for _, stage in launch.launched] == ["pipeline"]


async def test_packaged_checks_need_no_fetching(home: Path, bitnet):
    bitnet(fails=True)
    root, launch = finished_experiment(home, "kd").root, RecordingLaunch(warning="")
    async with BitnetApp(home, root, launch=launch).run_test(size=(110, 36)) as pilot:
        await settled(pilot)
        await pilot.press("p")
        await until(pilot, lambda: bool(launch.launched))


async def test_the_dialog_lists_licences_and_fetches(home: Path, bitnet):
    bitnet()
    root = _asks_for(home, "piqa")
    async with BitnetApp(home, root, launch=RecordingLaunch(warning="")).run_test(size=(110, 36)) as pilot:
        await settled(pilot)
        await pilot.press("B")
        await until(pilot, lambda: "! piqa" in shown(pilot))
        assert "· arc_easy" in shown(pilot) and "CC BY-SA 4.0" in shown(pilot)
        await click_on(pilot, "Fetch what this experiment scores (86 MB)")
        await until(pilot, lambda: "✓ piqa" in shown(pilot))
        assert "· arc_easy" in shown(pilot)


async def test_a_fetch_that_fails_says_why_and_starts_nothing(home: Path, bitnet):
    bitnet(fails=True)
    root, launch = _asks_for(home, "piqa"), RecordingLaunch(warning="")
    async with BitnetApp(home, root, launch=launch).run_test(size=(110, 36), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("p")
        await until(pilot, lambda: "Fetch, then start" in shown(pilot))
        await click_on(pilot, "Fetch, then start")
        await until(pilot, lambda: "go online" in words(pilot))
        assert launch.launched == [] and pilot.app.getting is None


async def test_a_stage_whose_experiment_was_closed_meanwhile_is_said_not_to_start(
    home: Path, bitnet, monkeypatch: pytest.MonkeyPatch
):
    bitnet()
    left = threading.Event()
    monkeypatch.setattr(GetBenchmarks, "fetched", lambda *_: left.wait(60))
    root, launch = _asks_for(home, "piqa"), RecordingLaunch(warning="")
    async with BitnetApp(home, root, launch=launch).run_test(size=(110, 36), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("p")
        await until(pilot, lambda: "Fetch, then start" in shown(pilot))
        start = pilot.app.screen_stack[-2]
        await pilot.press("y")
        await until(pilot, lambda: pilot.app.screen is start)
        await pilot.press("escape")
        await until(pilot, lambda: start not in pilot.app.screen_stack)
        assert [one.what for one in pilot.app.works] == ["benchmarks are being fetched"]
        left.set()
        await until(
            pilot, lambda: any("of kd was not started: its experiment was closed" in one for one in notices(pilot))
        )
        assert not pilot.app.works
        assert launch.launched == []


@pytest.mark.parametrize("size", [(80, 24), (60, 15)])
async def test_buttons_stay_in_sight_and_the_list_scrolls_by_keys_from_home_too(
    home: Path, bitnet, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
):
    rows = [{**_ROWS[0], "benchmark": f"one_{number}", "about": "what is asked " * 5} for number in range(24)]
    monkeypatch.setattr(f"{__name__}._ROWS", rows)
    bitnet()
    finished_experiment(home, "kd")
    async with BitnetApp(home, launch=RecordingLaunch(warning="")).run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("B")
        await until(pilot, lambda: "one_0" in shown(pilot))
        await settled(pilot)
        assert "Close" in shown(pilot) and "Fetch all" in shown(pilot)
        assert "this experiment scores" not in shown(pilot)
        assert "✓ here" not in shown(pilot)
        drawn = pilot.app.screen.query_one("#benchmarks-lines", Painted)
        assert drawn.size.height == len(drawn._lines)  # the widget wraps none of them
        said = " ".join(unstyled(*drawn._lines).split())
        assert said.count("what is asked") == 5 * len(rows)
        await pilot.press("end")
        await until(pilot, lambda: "✓ here" in shown(pilot))
        await pilot.press("up", "up", "up", "home")
        await until(pilot, lambda: "one_0" in shown(pilot))
