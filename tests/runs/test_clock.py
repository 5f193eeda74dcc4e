"""Order and time when the wall clock jumps: runs are counted, and seconds are those since boot."""

import dataclasses
import json
import os
import random
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core import process
from bitnet_core.errors import UsageError
from bitnet_core.runs import clock, launch
from bitnet_core.runs.clock import Moment, seconds_since_change
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.record import MOST_RUNS, START_SECONDS, Run, RunRecord
from bitnet_core.settings.resolve import from_values
from tests.builders import history_of

DAY, YEAR = 86_400.0, 366 * 86_400.0
NOW = 1_800_000_000.0
JUMPS = [-40 * YEAR, -YEAR, -DAY, -3600.0, -601.0, -2.0, 0.0, 2.0, 601.0, 3600.0, DAY, YEAR]


def add(root: Path, name: str, stage: str = "train", *, alive: bool = False, **fields: Any) -> Run:
    me = process.current()
    run = Run(root / "logs" / name)
    run.path.mkdir(parents=True)
    record = RunRecord(
        id=name, stage=stage, state="running" if alive else "succeeded", settings={}, origins={}, argv=[],
        created=NOW, host=socket.gethostname(), boot_id=me.boot_id, fingerprint="",
        pid=me.pid if alive else None, process_start=me.start if alive else None,
    )  # fmt: skip
    run.write(dataclasses.replace(record, **fields))
    return run


class Clocks:
    """The wall clock and the time since boot, as the program sees them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.up = NOW, 5000.0
        monkeypatch.setattr("bitnet_core.runs.clock.time.time", lambda: self.wall)
        monkeypatch.setattr("bitnet_core.process.uptime", lambda: self.up)

    def work(self, seconds: float) -> None:
        self.wall += seconds
        self.up += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


# -- order ---------------------------------------------------------------------------------------------------------


@given(st.permutations(range(1, 9)), st.lists(st.floats(0, 1e10), min_size=8, max_size=8))
def test_numbers_order_the_runs_whatever_the_clock_said(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], created: list[float]
) -> None:
    root = tmp_path_factory.mktemp("e")
    for number, moment in zip(numbers, created, strict=True):
        add(root, f"train-{number}", number=number, created=moment)
    history = history_of(root)
    assert [entry.record.number for entry in history.entries] == list(range(8, 0, -1))
    assert history.next_number == 9
    assert history.find("train").id == "train-8"


def test_runs_without_a_number_come_before_by_their_time(tmp_path: Path) -> None:
    add(tmp_path, "old-a", created=NOW + YEAR)
    add(tmp_path, "old-b", created=NOW + 2 * YEAR)
    add(tmp_path, "new", created=NOW, number=1)
    assert [entry.run.id for entry in history_of(tmp_path).entries] == ["new", "old-b", "old-a"]


@pytest.mark.parametrize("jump", JUMPS)
def test_an_active_run_comes_first(tmp_path: Path, jump: float) -> None:
    """An old version's run without a number, with the clock put back before it started, was hidden by ended ones."""
    ended = [add(tmp_path, "train-1"), add(tmp_path, "train-2", number=7)]
    active = add(tmp_path, "train-0", alive=True, created=NOW + jump, started=NOW + jump)
    history = history_of(tmp_path)
    assert history.entries[0].run == active
    assert history.find("train") == history.active("train") == history.active() == active
    latest = history.latest("train")
    assert latest is not None
    assert latest.run == active
    assert {entry.run for entry in history.entries[1:]} == set(ended)


@pytest.mark.parametrize("number", [MOST_RUNS, MOST_RUNS - 1, MOST_RUNS - 2, 10**12, 2**64, -1, 0, "7", None, 1.5])
def test_a_number_out_of_range_leaves_room_for_the_next(tmp_path: Path, number: Any) -> None:
    run = add(tmp_path, "train-1", number=3)
    other = add(tmp_path, "train-2")
    other.record_path.write_text(json.dumps(json.loads(other.record_path.read_text()) | {"number": number}))
    following = history_of(tmp_path).next_number
    assert 3 < following <= MOST_RUNS
    run.write(dataclasses.replace(run.record(), number=following))
    assert run.record().number == following


def test_launches_at_the_same_time_get_different_numbers(tmp_path: Path) -> None:
    experiment = Experiment.from_settings(from_values({"DRIVE_ROOT": str(tmp_path)}))
    experiment.ensure()

    def prepare(stage: str) -> None:
        with launch.launch_lock(experiment):
            launch._prepare(experiment, stage, ["test"])

    stages = ["teacher", "collect", "train", "eval", "dryrun", "pipeline", "upload"]
    threads = [threading.Thread(target=prepare, args=[stage]) for stage in stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = sorted(entry.record.number or 0 for entry in history_of(tmp_path).entries)
    assert numbers == list(range(1, 8))


# -- seconds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", JUMPS)
def test_a_duration_within_one_boot_does_not_follow_the_wall_clock(
    clocks: Clocks, tmp_path: Path, jump: float
) -> None:
    run = add(tmp_path, "train-1", alive=True, started=clocks.wall, started_uptime=clocks.up)
    clocks.work(90)
    clocks.wall += jump
    clocks.work(30)
    record = run.record()
    assert record.seconds(clock.now(record.boot_id)) == pytest.approx(120)
    ended = dataclasses.replace(record, ended=clocks.wall, ended_uptime=clocks.up)
    assert ended.seconds() == pytest.approx(120)


@pytest.mark.parametrize("jump", JUMPS)
def test_a_duration_across_boots_is_the_wall_clocks_but_never_negative(clocks: Clocks, jump: float) -> None:
    assert clock.now("another boot").uptime is None
    start = Moment(clocks.wall, clocks.up)
    assert start.until(Moment(clocks.wall + jump, None)) == max(0.0, jump)
    assert start.until(Moment(clocks.wall + jump, clocks.up - 1)) == max(0.0, jump)
    assert Moment(clocks.wall, None).until(Moment(clocks.wall + jump, clocks.up)) == max(0.0, jump)


def test_neither_time_is_known_for_a_run_that_has_not_ended(tmp_path: Path) -> None:
    assert add(tmp_path, "train-1").record().seconds() is None


@pytest.mark.parametrize("jump", JUMPS)
def test_a_run_that_starts_is_gone_after_a_minute_since_boot(clocks: Clocks, tmp_path: Path, jump: float) -> None:
    run = add(tmp_path, "train-1", state="starting", created=clocks.wall, created_uptime=clocks.up)
    clocks.wall += jump
    clocks.work(START_SECONDS - 1)
    assert run.state() == "starting"
    clocks.work(2)
    assert run.state() == "interrupted"


def test_a_run_that_started_before_this_machine_booted_is_gone(clocks: Clocks, tmp_path: Path) -> None:
    here = add(tmp_path, "a", state="starting", created=clocks.wall, created_uptime=clocks.up, boot_id="earlier")
    elsewhere = dataclasses.replace(here.record(), host="elsewhere")
    assert (here.state(), here.state(elsewhere)) == ("interrupted", "starting")


def test_what_runs_elsewhere_can_be_stopped_only_there(clocks: Clocks, tmp_path: Path) -> None:
    run = add(
        tmp_path, "train-1", alive=True, process_start=-1.0, host="elsewhere",
        started=clocks.wall, started_uptime=clocks.up,
    )  # fmt: skip
    run.events_path.write_text("")
    os.utime(run.events_path, (clocks.wall,) * 2)
    with pytest.raises(UsageError, match=r" on elsewhere; follow it with `.* watch train-1` or stop it there\.$"):
        launch.launch(from_values({"DRIVE_ROOT": str(tmp_path)}), "train")


@pytest.mark.parametrize("before", [True, False], ids=["written before the jump", "written after the jump"])
@pytest.mark.parametrize("jump", [jump for jump in JUMPS if abs(jump) > 2])
def test_the_silence_of_a_run_is_counted_since_boot(
    clocks: Clocks, tmp_path: Path, jump: float, before: bool
) -> None:
    """A process that can't be seen from here, such as one in another container of this machine."""
    run = add(
        tmp_path, "train-1", alive=True, process_start=-1.0, host="elsewhere",
        started=clocks.wall, started_uptime=clocks.up,
    )  # fmt: skip
    clocks.work(100)
    if not before:
        clocks.wall += jump
    run.events_path.write_text("")
    os.utime(run.events_path, (max(0, clocks.wall),) * 2)
    if before:
        clocks.wall += jump
    clocks.work(500)
    assert run.state() == "running"
    # After a short jump both times are possible, and the run gets the benefit of the doubt.
    clocks.work(200 + (abs(jump) if abs(jump) < 700 else 0))
    assert run.state() == "interrupted"


@given(st.floats(1, 1e6), st.floats(0, 1), st.floats(0, 1), st.floats(-1e9, 1e9))
def test_the_time_since_a_change_is_exact_or_the_shorter_of_two_that_are_possible(
    longest: float, changed_at: float, jumped_at: float, jump: float
) -> None:
    start = Moment(NOW, 1000.0)
    change, set_at = longest * changed_at, longest * jumped_at
    mtime = NOW + change + (jump if change >= set_at else 0.0)
    end = Moment(NOW + longest + jump, 1000.0 + longest)
    found, true = seconds_since_change(mtime, start, end), longest - change
    assert 0 <= found <= true + 2.1
    if abs(jump) > longest + 3:
        assert found == pytest.approx(true, abs=0.01)


def test_the_time_since_boot_is_the_same_for_every_process() -> None:
    uptimes = []
    for _ in range(3):
        ours, theirs = os.pipe()
        if os.fork() == 0:  # pragma: no cover - in the child
            os.write(theirs, str(process.uptime()).encode())
            os._exit(0)
        uptimes += [float(os.read(ours, 99)), process.uptime()]
        os.wait()
    assert uptimes == sorted(uptimes)
    assert uptimes[0] > 0


def test_the_shuffled_listing_of_a_folder_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 7):
        add(tmp_path, f"train-{number}", number=number, created=NOW - number)
    whole = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: random.sample(found := list(whole(self)), len(found)))
    assert {history_of(tmp_path).entries[0].run.id for _ in range(9)} == {"train-6"}


def test_a_run_records_both_clocks(tmp_path: Path) -> None:
    experiment = Experiment.from_settings(from_values({"DRIVE_ROOT": str(tmp_path)}))
    experiment.ensure()
    record = launch._prepare(experiment, "train", ["test"]).record()
    assert record.number == 1
    assert record.created_uptime is not None
    assert 0 <= process.uptime() - record.created_uptime <= time.time()
