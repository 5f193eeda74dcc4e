"""A run of any length is shown at once, and in the end as if it had been read line by line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from bitnet_core.runs import lines
from bitnet_core.runs.events import decode
from bitnet_core.runs.lines import LineReader
from bitnet_core.runs.record import Run
from bitnet_tui.view import run_reading
from bitnet_tui.view.run_fold import RunFold, RunView
from bitnet_tui.view.run_reading import RunReading
from bitnet_tui.view.watch import ExperimentWatcher
from tests.fuzzing import fuzz
from tests.tui.simulated import SimulatedRun, experiment

_value = st.one_of(st.floats(-9, 9).map(lambda one: round(one, 2)), st.none(), st.just("odd"))
_fields = ("loss", "kl", "lr", "grad_norm", "heldout_loss", "agreement", "activation_bits", "peak_rss_bytes")
_metric = st.dictionaries(st.sampled_from(_fields), _value, max_size=5).map(lambda found: {"kind": "metric", **found})
_other = st.sampled_from(
    [
        {"kind": "budget", "tokens": 9000, "epoch_tokens": 10, "epochs": 1.0, "flip_at_tokens": 8000},
        {"kind": "flip", "step": 3, "seen_tokens": 30, "from_bits": 8, "to_bits": 4},
        {"kind": "progress", "done": 3, "total": 9, "unit": "tokens"},
        {"kind": "alert", "severity": "warning", "code": "a", "message": "m"},
        {"kind": "log", "message": "x" * 300},
        {"kind": "table", "name": "t", "columns": ["a"], "rows": [[1]]},
        {"kind": "trace", "prompt_idx": 1, "tokens": 5, "kept": 4, "dropped": {"r": 1}, "other_mass_mean": 0.1},
        {"kind": "unheard of"},
    ]
)
_line = st.one_of(_metric, _metric, _metric, _other).map(json.dumps) | st.sampled_from(
    ["", "{", "[" * 90, "y" * 2000]
)


def _lines(found: list[str]) -> list[bytes]:
    """With the time, the number and the place that a run would give to each."""
    made = []
    for number, one in enumerate(found, 1):
        place = {"step": number, "seen_tokens": 10 * number} if one.startswith('{"kind": "metric"') else {}
        head = json.dumps({"v": 1, "t": 1e9 + number, "seq": number} | place)[:-1]
        made.append((f"{head}, {one[1:]}" if one.endswith("}") else one).encode() + b"\n")
    return made


def _plainly(path: Path) -> RunView:
    """The slow twin: one line after another, those too long left out."""
    fold = RunFold()
    for line in path.read_bytes().split(b"\n")[:-1]:
        event = decode(line) if len(line) < lines.LINE_BYTES else None
        fold.feed([event] if event is not None else [])
    return fold.view()


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_CHUNK_BYTES", 256)
    monkeypatch.setattr(lines, "LINE_BYTES", 1024)
    monkeypatch.setattr(run_reading, "END_BYTES", 600)


def _run(folder: Path, data: bytes) -> Run:
    run = Run(folder)
    run.events_path.write_bytes(data)
    return run


@fuzz(60)
@given(st.lists(_line, min_size=1, max_size=40))
def test_the_whole_is_what_a_plain_reader_finds(tmp_path_factory: pytest.TempPathFactory, found: list[str]) -> None:
    run = _run(tmp_path_factory.mktemp("r"), b"".join(_lines(found)))
    reading = RunReading(run)
    reading._reader._remark = False  # the plain reader makes no remarks
    wanted = _plainly(run.events_path)
    while (view := reading.view(deadline=0)).unread:
        _is_certain(view, wanted)
    assert repr(view) == repr(wanted)


def _is_certain(view: RunView, whole: RunView) -> None:
    """No figure is shown that is not the final one."""
    assert 0 < view.unread <= 1
    for name in view.metric.__struct_fields__[3:]:
        value = getattr(view.metric, name)
        assert value is UNSET or value == getattr(whole.metric, name)
    for name in ("device", "progress", "held_out", "begins", "flip"):
        assert getattr(view, name) in (None, "", getattr(whole, name))
    assert view.vitals.budget in (None, whole.vitals.budget)
    assert view.newest in (None, whole.newest)
    assert [one.alert for one in view.alerts] in ([], [one.alert for one in whole.alerts])
    assert all(table in whole.tables for table in view.tables)
    assert view.log == whole.log[len(whole.log) - len(view.log) :]
    for mine, all_of_it in zip(view.curves, whole.curves):  # noqa: B905 - none at all before the first event
        points = [point for segment in mine.segments for point in segment]
        assert points == sorted(points)
        assert set(points) <= {point for segment in all_of_it.segments for point in segment}
        if mine.segments:
            assert mine.segments[-1][-1] == all_of_it.segments[-1][-1]


def _long(first: int = 1, last: int = 60) -> list[bytes]:
    made = _lines([json.dumps({"kind": "metric", "loss": n / 2}) for n in range(1, last + 1)])
    return made[first - 1 :]


def test_the_newest_is_shown_first_and_a_file_that_grows_goes_on(tmp_path: Path) -> None:
    run = _run(tmp_path, b"".join(_long()))
    reading = RunReading(run)
    early = reading.view(deadline=0)
    assert early.metric.step == 60
    assert 0.5 < early.unread < 1
    (loss,) = [curve for curve in early.curves if curve.name == "loss"]
    first, end = loss.segments  # a gap between them
    assert (first[0], end[-1]) == ((10.0, 0.5), (600.0, 30.0))
    with run.events_path.open("ab") as out:
        out.write(b"".join(_long(61, 62)))
    assert reading.view(deadline=0).metric.step == 62
    assert reading.view().unread == 0
    assert repr(reading.view()) == repr(_plainly(run.events_path))


@pytest.mark.parametrize("last", [20, 300])
def test_another_file_in_its_place_is_read_from_its_beginning(tmp_path: Path, last: int) -> None:
    run = _run(tmp_path, b"".join(_long()))
    reading = RunReading(run)
    assert reading.view(deadline=0).metric.step == 60
    other = tmp_path / "other"
    other.write_bytes(_long(1, 1)[0].replace(b'"seq": 1,', b'"seq": 0,') + b"".join(_long(2, last)))
    other.replace(run.events_path)
    while (view := reading.view(deadline=0)).unread:
        assert view.metric.step == last
    (said,) = view.log
    assert "events.jsonl was changed by another program" in said
    assert replace(view, revision=0, log=(), log_levels=(), log_total=0) == replace(
        _plainly(run.events_path), revision=0
    )


@given(st.lists(st.binary(max_size=30).filter(lambda one: b"\n" not in one), max_size=12), st.integers(0, 200))
def test_the_last_lines_begin_in_the_last_bytes(
    tmp_path_factory: pytest.TempPathFactory, found: list[bytes], last: int
) -> None:
    path = tmp_path_factory.mktemp("l") / "lines"
    data = b"".join(one + b"\n" for one in found)
    path.write_bytes(data)
    begins, wanted = 0, []
    for one in found:
        wanted += [one] if one and begins >= len(data) - last else []
        begins += len(one) + 1
    reader, seen = LineReader(path, last_bytes=last), []
    while (more := reader.read_new()) or not reader.at_end:
        seen += more
    assert [line.data for line in seen] == wanted
    assert reader.left == 0


def test_a_long_run_says_that_the_rest_is_being_read_and_judges_nothing_before(home: Path) -> None:
    exp = experiment(home, "long")
    run = SimulatedRun(exp, "train")
    run.train(0, 60)
    run.finish()
    watcher = ExperimentWatcher(exp.root, home)
    early = watcher.look("train", seconds=0).run
    assert early is not None
    assert [one.words.split(",")[0] for one in early.health] == ["Reading the run's events"]
    late = watcher.look("train").run
    assert late is not None
    assert (early.view.metric, late.view.unread) == (late.view.metric, 0)
    assert late == ExperimentWatcher(exp.root, home).look("train").run
