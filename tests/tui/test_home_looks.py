"""What the list of experiments reads of a workspace, how often, and in which time."""

import itertools
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bitnet_core.workspace.changes import archive
from bitnet_tui.services.sizes import Sizes
from bitnet_tui.view import workspace
from bitnet_tui.view.experiment_list import counted
from bitnet_tui.view.home_order import Order, shown
from bitnet_tui.view.workspace import WorkspaceWatcher
from tests.tui.simulated import NOON, SimulatedRun, experiment, finished_experiment


def test_a_look_that_may_not_last_tells_the_rest_later(home: Path):
    for name in "abc":
        finished_experiment(home, name)
    watcher = WorkspaceWatcher(home)
    first = watcher.look(0.0)
    assert [row.pending for row in first] == [True] * 3
    assert sorted(row.name for row in first) == ["a", "b", "c"]
    assert watcher.look() == WorkspaceWatcher(home).look()
    assert watcher.look(0.0) == watcher.look()
    archive(home / "b")
    rows = watcher.look()
    assert [row.name for row in rows if row.hidden] == ["b"]
    assert counted(rows) == "2 experiments, 1 archived"


def test_sizes_are_measured_when_something_changed_but_not_all_the_time(tmp_path: Path):
    now = [0.0]
    sizes, root, gone = Sizes(lambda: now[0]), tmp_path / "one", tmp_path / "gone"
    (root / "data").mkdir(parents=True)
    (root / "data" / "x").write_bytes(b"x" * 1000)
    (root / "link").symlink_to(tmp_path)
    link = (root / "link").lstat().st_size
    versions = {root: 1, gone: 1}
    assert sizes.due(versions) == [root, gone]
    sizes.measure([root, gone], versions, 10.0)
    assert (sizes.of(root), sizes.of(gone)) == (1000 + link, None)
    (root / "y").write_bytes(b"y" * 50)
    now[0] = 31.0
    assert sizes.due(versions) == []
    assert sizes.due({root: 2, gone: 1}) == [root]
    sizes.measure([root], {root: 2}, 10.0)
    assert sizes.of(root) == 1050 + link
    now[0] = 32.0
    assert sizes.due({root: 3, gone: 1}) == []
    now[0] = 700.0
    assert sizes.due({root: 2, gone: 1}) == [root, gone]


def test_experiments_in_which_something_runs_do_not_change_places(home: Path):
    exps = {name: experiment(home, name) for name in ("b", "a", "old")}
    live = [SimulatedRun(exps[name], "train", NOON, alive=True) for name in ("b", "a")]
    try:
        for newest in ("a", "b"):
            watcher = WorkspaceWatcher(home)
            for name, exp in exps.items():
                moment = time.time() + (5 if name == newest else 0)
                for path in (exp.root, exp.root / "logs"):
                    os.utime(path, (moment, moment))
            assert [row.name for row in shown(watcher.look(), Order(), "")] == ["a", "b", "old"]
            assert [row.name for row in shown(watcher.look(), Order(turned=True), "")] == ["old", "a", "b"]
    finally:
        for one in live:
            one.end_process()


def test_an_unchanged_workspace_is_read_no_more_and_each_of_its_files_is_looked_at_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    roots = [finished_experiment(home, name).root for name in ("one", "two")]
    watcher = WorkspaceWatcher(home, wall=lambda: time.time() + 60)
    first = watcher.look()
    asked: list[str] = []
    for name in ("stat", "lstat"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda path, *given, real=real, **named: asked.append(str(path)) or real(path, *given, **named)
        )
    assert [*map(id, watcher.look())] == [*map(id, first)]
    monkeypatch.undo()
    within = [one for one in asked if one.startswith(str(home))]
    assert {str(root) for root in roots} < set(within)
    assert len(within) == len(set(within))


def test_a_run_whose_record_comes_after_its_folder_is_shown_at_the_next_look(home: Path):
    watcher, away = WorkspaceWatcher(home), home.parent / "run.json"
    live = SimulatedRun(experiment(home, "one"), "train", alive=True)
    try:
        live.run.record_path.rename(away)
        (row,) = watcher.look()
        assert "run.json is missing" in row.unreadable
        away.rename(live.run.record_path)
        (row,) = watcher.look()
        assert (row.unreadable, row.now) == ("", "train …")
    finally:
        live.end_process()


def test_what_other_programs_take_of_the_processor_does_not_shorten_a_look(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    """With other programs at work, one to four experiments of 200 were read at each look."""
    for name in ("one", "two", "three"):
        experiment(home, name)
    clocks = SimpleNamespace(
        monotonic=time.monotonic, perf_counter=itertools.count(0, 0.15).__next__, thread_time=lambda: 0.0
    )
    monkeypatch.setattr(workspace, "time", clocks)
    watcher = WorkspaceWatcher(home)
    watcher.glance()
    assert not [row for row in watcher.glance() if row.pending]
    clocks.thread_time = itertools.count(0, 0.06).__next__
    assert [row.pending for row in WorkspaceWatcher(home).look(0.1)] == [False, True, True]
    clocks.thread_time, clocks.perf_counter = lambda: 0.0, itertools.count(0, 60.0).__next__
    assert [row.pending for row in WorkspaceWatcher(home).look(0.1)] == [True, True, True]  # the disk is slow
