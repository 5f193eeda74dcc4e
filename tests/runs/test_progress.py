"""A pace is told only where what has been done tells one."""

import pytest
from msgspec import UNSET

from bitnet_core.runs import reporter
from bitnet_core.runs.events import Event, Progress
from bitnet_core.runs.reporter import Part, Reporter


@pytest.mark.parametrize(
    ("done", "total", "unit", "told"),
    [
        ((0, 50), 100, "sequences", True),
        ((0, 1), 100_000, "steps", True),
        ((0, 1), 1, "steps", False),  # one step of unknown length
        ((0, 20_000), 93_000_000, "bytes", False),  # pip's own files, before the download begins
        ((0, 2_000_000), 93_000_000, "bytes", True),
        ((0, 5), None, "requests", True),
        ((7, 7), 100, "steps", False),
    ],
)
def test_the_pace(
    monkeypatch: pytest.MonkeyPatch, done: tuple[int, int], total: int | None, unit: str, told: bool
) -> None:
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(reporter.time, "monotonic", lambda: next(clock))
    seen: list[Event] = []
    report = Reporter(seen.append)
    for value in done:
        report.progress(value, total, unit)
    last = seen[-1]
    assert isinstance(last, Progress)
    assert (last.rate is not None) is told
    assert (last.eta_s is not None) is (told and total is not None)


def test_what_is_done_meanwhile_is_said_with_the_newest_progress_and_its_pace_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([100.0, 110.0, 111.0, 111.1, 111.3, 120.0])
    monkeypatch.setattr(reporter.time, "monotonic", lambda: next(clock))
    seen: list[Event] = []
    report = Reporter(seen.append)
    report.progress(0, 100, "steps")
    report.progress(10, 100, "steps")
    for batch in range(3):  # the second comes too soon
        report.meanwhile(f"scoring {batch}")
    report.progress(20, 100, "steps")
    told = [(one.label, one.done, one.rate) for one in seen if isinstance(one, Progress)]
    assert told[1:] == [("", 10, 1.0), ("scoring 0", 10, 1.0), ("scoring 2", 10, 1.0), ("", 20, 1.0)]


def test_a_part_is_told_and_how_long_all_parts_of_a_preparation_take(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 120.0, 130.0])
    monkeypatch.setattr(reporter.time, "monotonic", lambda: next(clock))
    seen: list[Event] = []
    report = Reporter(seen.append)
    report.part = Part(1, 3, rest=2.0)
    report.progress(0, 10, "layers")
    report.progress(1, 10, "layers")  # 10 s a layer: 90 s are left of it, and twice 100 s follow
    report.part = Part(2, 2)
    report.progress(3, 10, "layers")
    report.part = None
    report.progress(4, 10, "layers")
    told = [(one.part, one.parts, one.first_step_in_s) for one in seen if isinstance(one, Progress)]
    assert told == [(1, 3, UNSET), (1, 3, pytest.approx(290.0)), (2, 2, UNSET), (UNSET, UNSET, UNSET)]
