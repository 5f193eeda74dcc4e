"""Notices cover no action, stay as long as they take to read, and go at a key or a click."""

import time
from pathlib import Path

import pytest
from textual.events import MouseDown
from textual.pilot import Pilot
from textual.widgets import Button
from textual.widgets._toast import Toast, ToastHolder

from bitnet_tui import noticing
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.message import MessageScreen
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import SIZES, click_on, notices, settled, shown, until, words
from tests.tui.simulated import NOON, SimulatedRun, finished_experiment


class Clock:
    """The one that notices go by. The wall clock is another one, which is wrong here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.monotonic()
        monkeypatch.setattr(noticing, "monotonic", lambda: self.now)
        monkeypatch.setattr("textual.notifications.time", lambda: 1e12)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def slow_reader(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Clock:
    """No notice goes by itself."""
    monkeypatch.setattr(noticing, "reading_seconds", lambda _: 3600.0)
    return clock


def _seconds(pilot: Pilot[None]) -> list[float]:
    return [one.timeout for one in pilot.app._notifications]


async def test_a_key_or_a_click_takes_a_notice_away_that_can_have_been_read(home: Path, slow_reader: Clock):
    clock = slow_reader
    finished_experiment(home)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        for _ in range(2):
            pilot.app.notify("It is saved.", title="Report")
            await settled(pilot)
        await pilot.press("down")
        assert notices(pilot) == ["Report: It is saved."]
        clock.now += 2
        await pilot.hover("#head")
        assert notices(pilot) == ["Report: It is saved."]
        await pilot.press("down")
        await settled(pilot)
        assert notices(pilot) == []
        pilot.app.notify("Not this.", severity="error")
        pilot.app.notify("Mind this.", severity="warning")
        await settled(pilot)
        assert notices(pilot) == ["✗ Not this.", "! Mind this."]
        for toast in pilot.app.screen.query(Toast):
            assert toast.region.y > pilot.app.screen.query_one("#titles").region.y + 1, "neither titles nor rows"
        await click_on(pilot, "Mind this")
        assert notices(pilot) == ["✗ Not this."]
        clock.now += 2
        pilot.app.post_message(MouseDown(None, 5, 5, 0, 0, 1, False, False, False))
        await settled(pilot)
        assert notices(pilot) == []
        assert not pilot.app.screen.query("ToastHolder")


async def test_a_notice_waits_for_somebody_to_read_it(home: Path, clock: Clock):
    finished_experiment(home)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        pilot.app.notify("x" * 40)
        await settled(pilot)
        assert _seconds(pilot) == [noticing.reading_seconds("x" * 40)] == [5]
        pilot.app.clear_notifications()
        clock.now += 3600
        pilot.app.notify("It ended.", title="train")
        await settled(pilot)
        assert _seconds(pilot)[0] > 3600
        clock.now += 1800
        await pilot.press("down")
        assert notices(pilot) == ["train: It ended."]  # the key that brought one back has read nothing
        clock.now += 2
        await pilot.press("down")
        await settled(pilot)
        assert notices(pilot) == []
        clock.now += 3600
        for number in range(30):
            pilot.app.notify(str(number))
        await settled(pilot)
        assert len(_seconds(pilot)) == 20


@pytest.mark.usefixtures("slow_reader")
async def test_a_notice_is_seen_whole_however_its_lines_break(home: Path):
    finished_experiment(home)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        for letters in range(112, 121):
            pilot.app.notify(f"{'a' * letters} {'b' * letters} end{letters}")
            await until(pilot, lambda end=f"end{letters}": end in shown(pilot))
            for toast in pilot.app.screen.query(Toast):
                toast._expire()
            await settled(pilot)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("slow_reader")
async def test_a_notice_covers_nothing_to_press(home: Path, size: tuple[int, int]):
    exp = finished_experiment(home)
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=size, notifications=True) as pilot:
        await settled(pilot)
        for key in ("3", "4", "5", "6", "7"):
            await pilot.press(key)
            pilot.app.notify("Words. " * (size[0] // 8))
            await settled(pilot)
            toast = pilot.app.screen.query("Toast").last().region
            assert toast.height == 1
            things = [*pilot.app.screen.query(Button), *pilot.app.screen.query("#stages, #views, Footer")]
            assert not any(toast.overlaps(one.region) for one in things if one.region)


@pytest.mark.parametrize("size", [(60, 15), *SIZES, (200, 55)])
@pytest.mark.usefixtures("slow_reader")
async def test_a_long_notice_below_the_title_covers_nothing_to_press_or_to_know(home: Path, size: tuple[int, int]):
    exp = finished_experiment(home)
    trained = SimulatedRun(exp, "train", NOON + 900)
    trained.train(0, 60)
    for step in (1, 60):
        trained.emit("metric", step=step, seen_tokens=745 * step, heldout_loss=9.0 - step / 30)
    trained.finish()
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=size, notifications=True) as pilot:
        await settled(pilot)
        assert pilot.app.screen.query_one("#health").region
        title = shown(pilot).splitlines()[0].split("teacher")[0].strip()
        for key in ("1", "4", "7"):
            await pilot.press(key)
            await settled(pilot)
            pilot.app.notify("Words. " * (size[0] // 5) + f"The end of {key}.")
            await settled(pilot)
            assert f"The end of {key}." in words(pilot)
            assert shown(pilot).splitlines()[0].strip().startswith(title)
            toast = pilot.app.screen.query("Toast").last().region
            assert toast.height > 1
            things = [
                *pilot.app.screen.query(Button),
                *pilot.app.screen.query("Input, #stages, #views, #title, #health, Foot"),
            ]
            assert not any(toast.overlaps(one.region) for one in things if one.region)
            pilot.app.screen.query(Toast).last()._expire()
            await settled(pilot)


@pytest.mark.usefixtures("slow_reader")
async def test_a_short_notice_stands_beside_the_title(home: Path):
    exp = finished_experiment(home)
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(
        size=(80, 24), notifications=True
    ) as pilot:
        await settled(pilot)
        pilot.app.notify("It is saved.")
        await settled(pilot)
        head = shown(pilot).splitlines()[0]
        assert head.strip().startswith(exp.name)
        assert "It is saved." in head


async def test_a_notice_that_goes_while_a_dialog_is_above_leaves_the_title(home: Path, slow_reader: Clock):
    finished_experiment(home)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        pilot.app.notify("One.")
        await settled(pilot)
        pilot.app.push_screen(MessageScreen("A dialog", "Above it."))
        pilot.app.notify("Two.")
        await settled(pilot)
        slow_reader.now += 10
        await pilot.press("escape")
        await settled(pilot)
        pilot.app.notify("Three.")
        await settled(pilot)
        slow_reader.now += 10
        await pilot.press("down")
        await settled(pilot)
        assert not pilot.app.screen.query(ToastHolder)
        assert "1 experiment" in shown(pilot)


async def test_the_newest_notice_is_in_sight_however_many_there_are(home: Path, slow_reader: Clock):
    finished_experiment(home)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        for number in range(1, 10):
            pilot.app.notify(f"Notice {number}.")
        await settled(pilot)
        assert "Notice 9." in words(pilot)
        pilot.app.notify("This one " + "is long " * 20 + "and ends here.")
        await settled(pilot)
        assert "and ends here." in words(pilot)


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        (99, "train done: kd. Held-out rose from 5.64 to 6.54, best at the start. This run took 2 min."),
        (75, "train done: kd. Held-out rose from 5.64 to 6.54, best at the start."),
        (60, "train done: kd. Held-out rose from 5.64 to 6.54."),
        (40, "train done: kd. Held-out rose from 5.64 to 6.54, best at the start. This run took 2 min."),
    ],
)
def test_a_notice_of_one_line_ends_with_a_clause(cells: int, shown: str):
    text = "train done: kd. Held-out rose from 5.64 to 6.54, best at the start. This run took 2 min."
    assert noticing.whole_clauses(text, 16, cells) == shown
