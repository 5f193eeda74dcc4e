"""When the app looks for cyclic garbage, and that closed screens leave nothing else."""

import gc
import sys
import weakref
from pathlib import Path
from typing import cast
from unittest.mock import Mock

import pytest
from rich.segment import Segment
from textual.cache import FIFOCache
from textual.strip import Strip
from textual.widgets._footer import FooterKey

from bitnet_tui.app import BitnetApp
from bitnet_tui.garbage import AtRest, Tidying, after_first_paint, in_small_steps, let_go
from bitnet_tui.start import _parser, _run
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import settled
from tests.tui.simulated import finished_experiment


def test_a_rest_is_when_all_that_is_new_is_looked_at_and_new_modules_stay(monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []
    for name in ("collect", "freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, lambda name=name: done.append(name))
    now, acted, at_home = 0.0, 0.0, True
    rest = AtRest(lambda: now - acted, lambda: at_home, lambda: now)

    def after(seconds: float) -> list[str]:
        nonlocal now
        now += seconds
        done.clear()
        rest.look()
        return done

    assert after(0.5) == []
    acted = now
    assert after(0.5) == [], "somebody works"
    assert after(4.0) == ["collect", "freeze"]
    assert after(5.0) == after(60.0) == [], "the same rest"
    assert after(600.0) == ["collect"], "no new module"
    monkeypatch.setitem(sys.modules, "a_new_one", sys)
    assert after(601.0) == ["collect", "freeze"]
    monkeypatch.setitem(sys.modules, "another", sys)
    acted, at_home = now + 1.0, False
    assert after(6.0) == ["collect"], "what an open screen has made will be garbage when it is closed"


def test_what_closed_screens_have_left_goes_before_what_is_loaded_stays(monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []
    for name in ("collect", "freeze"):
        monkeypatch.setattr(gc, name, lambda name=name: done.append(name))
    monkeypatch.setattr(gc, "get_freeze_count", lambda: 1)
    app = Mock(idle_seconds=2.0, _used=False, _to_load=iter(()), _to_parse=iter([True, True]), _at_home=True)

    def after(seconds: float, at_home: bool = True) -> list[str]:
        app.idle_seconds, app._at_home = seconds, at_home
        done.clear()
        Tidying._load(app)
        return done

    assert after(2.0) == ["freeze"]
    assert after(0.0) == []
    assert after(2.0) == ["collect", "freeze"]
    assert after(2.0, at_home=False) == []
    assert app.set_timer.call_count == 4
    assert after(2.0) == [] and app.set_timer.call_count == 4, "all is loaded"


def test_what_is_there_is_left_out_and_the_rest_comes_in_steps():
    thresholds = gc.get_threshold()
    try:
        kept = [[] for _ in range(10)]
        in_small_steps()
        young, *_ = gc.get_threshold()
        assert 0 < young <= 5000
        assert not {id(one) for one in kept} & {id(one) for one in gc.get_objects()}
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def test_nothing_is_looked_at_before_the_first_paint(isolated: Path, monkeypatch: pytest.MonkeyPatch):
    looked: list[bool] = []

    class Painting:
        return_code, stops_sent = 0, ()

        def __init__(self, *_: object) -> None: ...

        def run(self, **_: object) -> None:
            looked.append(gc.isenabled())
            after_first_paint()
            looked.append(gc.isenabled())

    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, Mock(isatty=lambda: True))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("bitnet_core.secrets.known.keep_out_of_core_dumps", lambda: None)
    monkeypatch.setattr("bitnet_tui.app.BitnetApp", Painting)
    monkeypatch.setattr("bitnet_tui.plain.going_on", lambda *_: [])
    kept = [[] for _ in range(10)]
    try:
        assert _run(_parser().parse_args(["--home", str(isolated)])) == 0
        assert looked == [False, True] and gc.isenabled()
        assert not {id(one) for one in kept} & {id(one) for one in gc.get_objects()}
    finally:
        gc.unfreeze()


def test_a_line_has_no_cache_before_it_uses_it():
    line = Strip([Segment("a line")], 6)
    assert line.text == "a line" and line.cell_length == 6 and not _caches(line)
    part = line.crop(0, 3)
    assert line.crop(0, 3) is part and part.text == "a l" and len(_caches(line)) == 1
    assert not hasattr(line, "no_such_part")


def _caches(line: Strip) -> list[FIFOCache]:
    return [one for one in gc.get_referents(line) if isinstance(one, FIFOCache)]


async def test_what_was_drawn_goes_with_its_screen_and_nothing_keeps_what_is_gone(home: Path):
    finished_experiment(home)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        at_home, keys = _lines_drawn(), weakref.WeakSet(pilot.app.screen.query(FooterKey))
        await pilot.press("enter", "7")
        await settled(pilot)
        drawn = _lines_drawn()
        await pilot.press("escape", "escape", "slash")
        await settled(pilot)
        assert len(pilot.app.screen_stack) == 1
        assert _lines_drawn() - at_home < (drawn - at_home) / 2
        let_go()
        gc.collect()
        assert [one for one in keys if not one.is_attached] == []
        told = cast("BitnetApp", pilot.app).keymap_signal._subscriptions
        assert [one for one in told if not one.is_attached] == []


def _lines_drawn() -> int:
    """Those that are kept."""
    return sum(type(one) is Strip for one in gc.get_objects())
