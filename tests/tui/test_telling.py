"""In the app: runs that end and alarms are told once, by a message, the title, the bell and the desktop."""

import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bitnet_core.runs.notices import Notice
from bitnet_core.runs.record import BALLAST
from bitnet_core.settings.values import NotifyOptions
from bitnet_tui import noticing
from bitnet_tui.app import BitnetApp
from bitnet_tui.driver import desktop_sequence
from bitnet_tui.telling import bell_and_desktop
from bitnet_tui.view.news import News, NewsReader
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import SIZES, notices, settled, shown, until
from tests.tui.simulated import SimulatedRun, experiment, finished_experiment
from tests.tui.terminal import Terminal


def _told(reader: NewsReader) -> list[tuple[str, str]]:
    return [(one.notice.title, one.notice.code) for one in reader.look()]


def test_what_happens_after_the_first_look_is_told_once(home: Path):
    finished_experiment(home, "old")
    exp = experiment(home, "kd")
    running, forgotten = SimulatedRun(exp, "train", time.time(), alive=True), SimulatedRun(exp, "collect")
    (running.run.path / BALLAST).touch()
    running.emit("alert", severity="warning", code="before", message="Old.")
    reader = NewsReader(home)
    assert _told(reader) == []
    for _ in range(2):
        running.emit("alert", severity="warning", code="nonfinite", message="Not finite.")
        running.emit("log", message='an "alert" that is none')
    assert _told(reader) == [("train alarm: kd", "nonfinite")]
    running.end_process()
    running.finish("failed", error="The disk is full.")
    forgotten.finish()
    new = SimulatedRun(exp, "teacher")
    new.finish()
    (exp.logs / "not-a-run").mkdir()
    assert sorted(_told(reader)) == [("teacher done: kd", ""), ("train failed: kd", "")]
    assert _told(reader) == []


def test_a_run_that_is_killed_is_no_news_before_its_end_is_recorded(home: Path):
    exp = experiment(home, "kd")
    killed, crashed = (SimulatedRun(exp, stage, time.time(), alive=True) for stage in ("train", "eval"))
    for one in (killed, crashed):
        (one.run.path / BALLAST).touch()
    reader = NewsReader(home)
    assert _told(reader) == []
    killed.end_process()
    crashed.end_process()
    assert _told(reader) == []  # whoever killed one of them may still say so
    killed.run.kill()
    assert _told(reader) == [("train stopped: kd", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bitnet_core.runs.notices.KILL_SECONDS", -1.0)
        assert _told(reader) == [("eval interrupted: kd", "")]


def test_old_runs_of_an_experiment_that_gets_another_name_are_no_news(home: Path):
    exp = experiment(home, "one")
    SimulatedRun(exp, "train").finish("failed", error="Full.")
    reader = NewsReader(home)
    assert reader.look() == ()
    exp.root.rename(home / "two")
    assert reader.look() == ()
    new = SimulatedRun(experiment(home, "three"), "train", time.time())
    new.finish("failed", error="Full.")
    assert [news.notice.kind for news in reader.look()] == ["end"]


def test_an_experiment_elsewhere_and_folders_that_vanish_are_no_trouble(home: Path, tmp_path: Path):
    exp = experiment(tmp_path, "outside")
    reader = NewsReader(home / "gone", exp.root)
    assert _told(reader) == []
    SimulatedRun(exp, "eval").finish()
    assert _told(reader) == [("eval done: outside", "")]
    run = SimulatedRun(exp, "dryrun", time.time(), alive=True)
    assert _told(reader) == []
    run.end_process()
    shutil.rmtree(run.run.path)
    assert _told(reader) == []


@pytest.mark.parametrize(
    ("environment", "sequence"),
    [
        ({"TERM": "xterm-kitty"}, "\x1b]9;train failed, x. No·way.\x07"),
        ({"TERM": "xterm-256color", "VTE_VERSION": "7600"}, "\x1b]777;notify;train failed, x;No·way.\x07"),
        ({"TERM": "tmux", "TMUX": "/t"}, "\x1bPtmux;\x1b\x1b]9;train failed, x. No·way.\x07\x1b\\"),
        ({"TERM": "linux"}, ""),
    ],
)
def test_one_form_of_notification_that_no_text_can_leave(environment: dict[str, str], sequence: str):
    assert desktop_sequence("train failed; x", "No\x07way.", environment) == sequence


async def test_the_message_is_shown_with_its_signs(home: Path):
    experiment(home, "kd")
    app = BitnetApp(home)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        why = "Why\x1b[2J [/b], and so on for more cells than a line has beside the title of the screen."
        app.tell(News(Notice("end", "k[b]d", "train", "t", "failed", why), NotifyOptions()))
        await settled(pilot)
        assert notices(pilot) == ["✗ train failed: k[b]d. Why·[2J [/b]."], "whole clauses, where it would be cut"


async def test_a_stop_from_here_is_no_news_but_all_else_is(home: Path, monkeypatch: pytest.MonkeyPatch):
    app, told = BitnetApp(home), list[str]()
    monkeypatch.setattr(app, "notify_beside", lambda _, title, **__: told.append(title))
    stopped = Notice("end", "kd", "train", "train-1", "cancelled", "")
    alarm = replace(stopped, kind="alarm", state="running", words="It begins anew.")
    others = (replace(stopped, run="train-2"), alarm, replace(stopped, state="succeeded"), stopped)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        for notice in (stopped, *others):
            if not told:
                app.confirmed.add("train-1")
            app.tell(News(notice, NotifyOptions()))
        assert told == ["train stopped: kd", "train alarm: kd", "train done: kd", "train stopped: kd"]
        assert app.confirmed == set()
        monkeypatch.setattr(type(app.screen), "shows_run", lambda _, run: run == "train-2")
        app.tell(News(others[0], NotifyOptions()))
        assert len(told) == 4, "what is on the screen is not said beside it too"
        await pilot.resize_terminal(50, 12)
        await until(pilot, lambda: app._too_small)
        app.tell(News(others[0], NotifyOptions()))
        assert len(told) == 5, "a screen without room shows nothing"


@pytest.mark.parametrize(
    ("state", "terminal", "hour", "expected"),
    [
        ("failed", "all", 12, (True, True)),
        ("succeeded", "bell", 12, (True, False)),
        ("succeeded", "off", 12, (False, False)),
        ("failed", "all", 23, (False, False)),
        ("cancelled", "all", 12, (False, False)),
    ],
)
def test_quiet_hours_and_what_one_has_stopped_ring_no_bell(
    state: str, terminal: str, hour: int, expected: tuple[bool, bool]
):
    news = News(
        Notice("end", "kd", "train", "t", state, ""), NotifyOptions(terminal=terminal, quiet_from=22, quiet_until=7)
    )
    assert bell_and_desktop(news, hour) == expected


def test_title_bell_and_desktop_in_a_terminal(home: Path):
    exp = experiment(home, "kd")
    with Terminal("--home", str(home)) as app:
        app.until("1 experiment")
        app.read(0.5)
        SimulatedRun(exp, "train").finish("failed", error="Full.")
        app.until("train failed: kd")
        app.read(0.3)
        told = app.written
        assert told.count(b"\x1b[22;2t\x1b]2;train failed: kd\x07") == 1
        assert told.count(b"\x1b]9;train failed: kd. Full.") == 1
        assert re.sub(rb"\x1b\][^\x07]*\x07", b"", told).count(b"\x07") == 1
        app.press("?")
        app.until("esc closes")
        assert app.written.count(b"\x1b[23;2t") == 1


@pytest.mark.parametrize("size", SIZES)
async def test_news_leave_the_title_in_sight_and_come_one_after_the_other(
    home: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(noticing, "reading_seconds", lambda _: 3600.0)
    monkeypatch.setattr(noticing, "_GLANCE_SECONDS", -1.0)
    exp = finished_experiment(home)
    app = BitnetApp(home, exp.root, launch=RecordingLaunch())
    async with app.run_test(size=size, notifications=True) as pilot:
        await settled(pilot)
        for name in ("kd", "other"):
            app.tell(News(Notice("alarm", name, "train", "t", "running", "It is long. " * 30), NotifyOptions()))
        await settled(pilot)

        async def is_beside_the_title(name: str) -> None:
            await until(pilot, lambda: name in " ".join(notices(pilot)))
            first = shown(pilot).split("\n")[0]
            assert first.startswith(" demo ") and first.rstrip().endswith("It is long.")
            assert f"! train alarm: {name}. It is long. It" in first
            assert [toast.region.height for toast in app.screen.query("Toast")] == [1]

        await is_beside_the_title("kd")
        app.action_command_palette()
        await is_beside_the_title("kd")
        app.pop_screen()
        await is_beside_the_title("kd")
        app.notify("It is saved.")
        await until(pilot, lambda: notices(pilot) == ["It is saved."])
        await pilot.press("down")
        await is_beside_the_title("kd")
        await pilot.press("down")
        await is_beside_the_title("other")
        await pilot.press("down")
        await settled(pilot)
        assert notices(pilot) == []
