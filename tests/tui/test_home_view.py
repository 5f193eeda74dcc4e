"""The table of experiments without a screen: columns, order and filter."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.runs.experiment import Experiment
from bitnet_core.text import width
from bitnet_tui.plain import listing
from bitnet_tui.view.experiment_list import about, legend, nothing_shown
from bitnet_tui.view.figures import Figures
from bitnet_tui.view.home_columns import BY_ID, COLUMNS, age, stored_mark
from bitnet_tui.view.home_order import Order, in_places, shown
from bitnet_tui.view.home_table import layout, line_of
from bitnet_tui.view.spans import cells_of, unstyled
from bitnet_tui.view.stage_rows import StageRow, short_time
from bitnet_tui.view.titles import GAP, column_at, header
from bitnet_tui.view.workspace import ExperimentRow, Stored, WorkspaceWatcher
from tests.tui.simulated import NOON, SimulatedRun, finished_experiment

_STATES = ("new", "running", "done", "outdated", "failed", "cancelled", "interrupted")
_NUMBERS = st.none() | st.floats() | st.floats(0, 1e9)


@st.composite
def _rows(draw: st.DrawFn) -> ExperimentRow:
    stages = tuple(
        StageRow(name, name, draw(st.sampled_from(_STATES)), draw(st.sampled_from(["", "58%", "a long note"])))
        for name in ("pipeline", "teacher", "collect", "train", "eval", "dryrun")
    )
    return ExperimentRow(
        Path("/w") / draw(st.text("abc漢-.", min_size=1, max_size=30)),
        draw(st.sampled_from([(), stages])),
        qei=draw(_NUMBERS),
        touched=draw(_NUMBERS),
        problem=draw(st.sampled_from(["", "KD_TAU=9000 is not allowed.\nmore"])),
        unreadable=draw(st.sampled_from(["", "run.json is not a record."])),
        figures=Figures(*(draw(_NUMBERS) for _ in range(5)), draw(st.booleans()), draw(st.booleans())),
        teacher=draw(st.sampled_from(["", "SmolLM2-135M", "a-teacher-with-a-very-long-name"])),
        student=draw(st.sampled_from(["", "nano", "from SmolLM2"])),
        stored=Stored(
            draw(st.sampled_from(["", "s3", "mongodb_atlas"])), draw(_NUMBERS), draw(st.integers(0, 10**6))
        ),
        archived=draw(st.booleans()),
        pending=draw(st.booleans()),
        size=draw(st.none() | st.integers(0, 10**13)),
    )


@pytest.mark.parametrize(
    ("qei", "gate", "failed", "text", "styles"),
    [
        (1.31, 1.0, 0, "1.31", ["good"]),
        (0.7, 1.0, 0, "0.70 ▼", ["warn", "warn"]),
        (0.7, 1.0, 3, "0.70 ▼", ["warn", "warn"]),
        (1.31, 1.0, 1, "1.31", [""]),
        (1.31, None, 0, "1.31", [""]),
        (7.281, 8.0, 0, "7.28 ▼", ["warn", "warn"]),
    ],
)
def test_a_qei_is_good_only_above_its_gate_and_if_no_gate_failed(qei, gate, failed, text, styles):
    row = ExperimentRow(Path("/w/a"), qei=qei, qei_gate=gate, gates_failed=failed)
    spans = BY_ID["qei"].text(row, NOON)
    assert unstyled(spans) == text
    assert [span.style for span in spans] == styles
    assert cells_of(spans) <= BY_ID["qei"].widest
    assert ("▼ low QEI" in unstyled(legend(72, [row]))) == ("▼" in text)
    assert all(cells_of(legend(cells, [row])) <= cells for cells in (52, 72))


def test_the_legend_tells_the_sign_of_where_the_held_out_loss_goes():
    row = ExperimentRow(Path("/w/a"), figures=Figures(held_out=4.0, before=5.0, active=True))
    assert "↘ falling" in unstyled(legend(90, [row]))
    trains = replace(row, stages=(StageRow("pipeline", "", "new"), StageRow("train", "", "running")))
    assert "▸ running" in unstyled(legend(76, [trains])), "it is left out only where nothing runs"
    assert "falling" not in unstyled(legend(90, [replace(row, figures=Figures(held_out=4.0))]))
    assert all(cells_of(legend(cells, [row])) <= cells for cells in (52, 72))


def test_a_training_that_ended_worse_than_it_began_stands_out():
    row = ExperimentRow(Path("/w/a"), figures=Figures(held_out=6.535, first=5.636))
    spans = BY_ID["heldout"].text(row, NOON)
    assert unstyled(spans) == "6.54 ▲" and [span.style for span in spans] == ["warn", "warn"]
    assert "held-out rose from 5.64 to 6.54 · only on this machine" in unstyled(about(row, 100)[1])
    assert "▲ held-out rose" in unstyled(legend(90, [row]))
    low = replace(row, qei=0.5, qei_gate=1.0)
    falls = replace(row, figures=Figures(held_out=4.0, before=5.0, active=True))
    assert cells_of(legend(78, [low, falls, replace(row, figures=replace(row.figures, kept=(1, 5.0)))])) <= 78
    assert "▼ low QEI  ▲ held-out rose" in unstyled(legend(110, [low]))
    assert "▲" not in unstyled(legend(90, [replace(row, figures=Figures(held_out=5.0, first=5.636))]))
    kept = replace(row, figures=replace(row.figures, stopped=True, kept=(80, 4.98)))
    assert unstyled(BY_ID["heldout"].text(kept, NOON)) == "6.54 ◆"
    assert "from 5.64 to 6.54 · stopped; the best checkpoint is kept: 4.98 at step 80" in unstyled(
        about(kept, 100)[1]
    )
    assert "◆ best kept" in unstyled(legend(90, [kept])) and "▲" not in unstyled(legend(90, [kept]))
    going = replace(row, figures=replace(row.figures, before=6.0, active=True))
    assert unstyled(BY_ID["heldout"].text(going, NOON)) == "6.54 ↗▲"
    ruined = replace(row, figures=Figures(held_out=12.2, first=5.43, stopped=True))
    assert unstyled(BY_ID["heldout"].text(ruined, NOON)) == "12.2 ✗"
    assert "ruined: held-out rose from 5.43 to 12.2" in unstyled(about(ruined, 100)[1])
    assert "✗ failed, ruined" in unstyled(legend(90, [ruined])) and "▲" not in unstyled(legend(90, [ruined]))
    recovers = replace(ruined, figures=replace(ruined.figures, stopped=False, before=13.0, active=True))
    assert unstyled(BY_ID["heldout"].text(recovers, NOON)) == "12.2 ↘▲"
    falling = replace(row, figures=replace(row.figures, before=7.0, active=True))
    assert [span.style for span in BY_ID["heldout"].text(falling, NOON)] == ["warn", "label", "warn"]
    assert "held-out 6.54, still above 5.64 at the start" in unstyled(about(falling, 100)[1])


def test_what_an_evaluation_did_not_reach_is_told_of_its_experiment(home: Path):
    """By its own gate, as the number of the failed ones is: it is judged anew by the next pipeline."""
    env = finished_experiment(home, "low").root / ".env"
    settings = env.read_text()
    env.write_text(f"{settings}GATE_QEI=9\n")
    exp = Experiment.open(env.parent)
    (exp.reports / "mini_evaluation_report.json").write_text("{}")
    (exp.checkpoints / "mini_bitnet_step_200.pt").touch()
    SimulatedRun(exp, "eval", NOON + 900).finish(qei=7.281, gates={"pass": 4, "fail": 2, "not measurable": 0})
    for now in ("9", "1"):
        env.write_text(f"{settings}GATE_QEI={now}\n")
        (row,) = WorkspaceWatcher(home).look()
        assert (row.qei, row.qei_gate, row.gates_failed, row.qei_too_low) == (7.281, 9.0, 2, True)
        said = "".join(span.text for one in about(row, 100) for span in one)
        assert "QEI below its gate of 9, 2 gates failed" in said
        assert "(below its gate of 9)" in listing(home)


@settings(max_examples=40)
@given(st.lists(_rows(), max_size=3), st.integers(20, 240), st.sampled_from(COLUMNS), st.booleans())
def test_any_table_fits_and_its_titles_stand_over_their_columns(
    rows: list[ExperimentRow], cells: int, by: Any, turned
):
    placed = layout(rows, cells)
    assert placed[0].column.id == "name"
    assert placed[-1].left + placed[-1].cells <= cells
    assert all(one.left + one.cells + GAP == other.left for one, other in itertools.pairwise(placed))
    kept, gone = {one.column.id for one in placed}, [one.rank for one in COLUMNS]
    last = max(BY_ID[one].rank for one in kept)
    empty = {"student", "teacher", "stored"} - {one for row in rows for one in BY_ID if BY_ID[one].key(row)}
    assert {one.id for one in COLUMNS if one.rank <= last} - kept <= empty
    assert sorted(gone) == list(range(len(COLUMNS)))
    titles = unstyled(header(placed, Order(by.id, turned)))
    for one in placed:
        at = titles[one.left : one.left + one.cells]
        assert one.column.title in at
        assert at.endswith(one.column.title) or not one.column.right
        assert column_at(placed, one.left) == column_at(placed, one.left + one.cells - 1) == one.column.id
    assert ("▾" in titles or "▴" in titles) == (by.id in kept)
    for row in rows:
        assert cells_of(line_of(row, placed, cells, NOON)) <= cells
        for line in about(row, cells):
            assert cells_of(line) <= max(cells, 2)


@pytest.mark.parametrize(
    ("cells", "missing"), [(115, set()), (195, set()), (75, {"student", "teacher", "stored", "size"})]
)
def test_which_columns_there_are_at_80_120_and_200(cells: int, missing: set[str]):
    assert set(BY_ID) - {one.column.id for one in layout((), cells)} == missing


@pytest.mark.parametrize("cells", [115, 140, 195])
def test_a_name_is_cut_only_where_no_cell_is_left_for_it(cells: int):
    row = ExperimentRow(
        Path("/w") / ("name-" * 14), (), teacher="a-teacher-with-a-very-long-name-indeed", student="nano"
    )
    placed = layout([row], cells)
    texts = [one for one in placed if one.column.id in ("name", "teacher")]
    assert placed[-1].left + placed[-1].cells == cells or all(
        one.cells >= cells_of(one.column.text(row, NOON)) for one in texts
    )


@pytest.mark.parametrize(("long", "missing"), [(15, set()), (26, {"size"}), (35, {"size", "student"})])
def test_size_and_student_leave_where_names_would_be_cut(long: int, missing: set[str]):
    row = ExperimentRow(Path("/w") / ("n" * long), (), teacher="embedded", student="nano", stored=Stored("s3"))
    placed = layout([row], 115)
    assert set(BY_ID) - {one.column.id for one in placed} == missing
    assert placed[0].cells >= long


@pytest.mark.parametrize("teacher", ["embedded", "Other server", "qwen2.5-72b-instruct"])
@pytest.mark.parametrize("cells", [75, 95, 115])
def test_student_and_teacher_are_whole_where_less_could_be_shown_beside_them(cells: int, teacher: str):
    rows = [
        ExperimentRow(Path("/w/demo"), (), teacher="embedded", student="from teacher"),
        ExperimentRow(Path("/w") / ("n" * 16), (), teacher=teacher, student="from teacher"),
    ]
    placed = {one.column.id: one.cells for one in layout(rows, cells)}
    assert placed.get("student", 12) == 12
    assert placed.get("teacher", 20) >= min(len(teacher), 16)


@pytest.mark.parametrize("long", range(12, 40, 3))
def test_no_column_comes_or_goes_as_a_stage_begins_or_ends(long: int):
    row = ExperimentRow(Path("/w") / ("n" * long), (), teacher="embedded", student="from teacher")
    at_work = replace(row, stages=(StageRow("train", "Train", "running", "66%"),))
    for cells in (75, 115):
        idle, busy = ([one.column.id for one in layout([one], cells)] for one in (row, at_work))
        assert idle == busy


@pytest.mark.parametrize("cells", [54, 75, 84, 94, 115])
@pytest.mark.parametrize("long", [12, 17, 20, 30])
def test_no_column_moves_as_a_stage_begins_and_no_usual_name_is_cut(cells: int, long: int):
    row = ExperimentRow(Path("/w") / ("n" * long), teacher="embedded", student="from teacher")
    rest = tuple(StageRow(name, name, "done") for name in ("pipeline", "teacher", "collect", "eval", "dryrun"))
    idle = layout([row], cells)
    for note in ("preparing", "58%", "part 1/3 58%"):
        at_work = replace(row, stages=(*rest, StageRow("train", "Train", "running", note, "9 min")))
        placed = layout([row, at_work], cells)
        assert placed == idle
        shown = unstyled(line_of(at_work, placed, cells, NOON))
        assert short_time(at_work.stages[-1].brief_note) in shown
        long_yet = replace(at_work, stages=(*rest, StageRow("train", "Train", "running", "preparing", "1 h 10 min")))
        assert "▸ … " in unstyled(line_of(long_yet, placed, cells, NOON)), "no part of a figure"
        assert row.name in shown or long > 20


def _slowly_sorted(rows: Sequence[ExperimentRow], order: Order) -> list[ExperimentRow]:
    """By comparing each with each: how many known ones must stand before it."""
    column = order.column

    def value(row: ExperimentRow) -> Any:
        found = column.key(row)
        ends = isinstance(found, float) and (found != found or abs(found) == float("inf"))
        return None if ends else found

    known = [row for row in rows if value(row) is not None]
    out: list[ExperimentRow | None] = [None] * len(known)
    for place, row in enumerate(known):
        before = 0
        for other_place, other in enumerate(known):
            first, second = value(other), value(row)
            earlier = first > second if order.down else first < second
            before += earlier or (first == second and other_place < place)
        out[before] = row
    return [row for row in out if row is not None] + [row for row in rows if value(row) is None]


@settings(max_examples=40)
@given(st.lists(_rows(), max_size=5), st.sampled_from(COLUMNS), st.booleans())
def test_sorted_as_by_comparing_each_with_each(rows: list[ExperimentRow], by: Any, turned: bool):
    order = Order(by.id, turned, archived=True)
    assert list(shown(rows, order, "")) == _slowly_sorted(rows, order)
    visible = [row for row in rows if not row.archived or row.now]
    assert sorted(map(id, shown(rows, replace(order, archived=False), ""))) == sorted(map(id, visible))


def test_the_filter_looks_at_name_teacher_student_target_and_states():
    failed = (StageRow("pipeline", "", "new"), StageRow("train", "", "failed"))
    rows = [
        ExperimentRow(Path("/w/Alpha"), failed, teacher="SmolLM2", student="nano", touched=2.0),
        ExperimentRow(Path("/w/beta"), teacher="gemma", student="mini", stored=Stored("s3"), touched=1.0),
    ]
    for wanted, names in [
        ("", ["Alpha", "beta"]),
        ("alp", ["Alpha"]),
        ("GEMMA mini", ["beta"]),
        ("failed", ["Alpha"]),
        ("s3", ["beta"]),
        ("failed gemma", []),
        ("new", []),
    ]:
        assert [row.name for row in shown(rows, Order(), wanted)] == names
    assert "'failed gemma'" in nothing_shown(rows, "failed gemma")


def test_what_was_kept_may_be_anything():
    order = Order("qei", turned=True, archived=True)
    assert Order.of(json.loads(json.dumps(order.record()))) == order
    for odd in (None, [], {"sort": "x"}, {"sort": ["qei"], "turned": 1}, "age"):
        assert Order.of(odd) == Order()
    assert Order("age").sorted_by("qei") == Order("qei")
    assert not Order("qei").sorted_by("qei").down
    assert Order("age").moved(1) == Order("name")


@pytest.mark.parametrize(
    ("stored", "mark"),
    [
        (Stored("s3", 1.0), "✓"),
        (Stored("s3", None), "0 B"),
        (Stored("s3", 1.0, waiting=3), "↑3"),
        (Stored("s3", 1.0, behind=True), "↻"),
        (Stored("s3", 1.0, waiting=3, upload="running"), "▸"),
        (Stored("s3", 1.0, upload="failed"), "✗"),
        (Stored("s3", unreadable=True), "✗"),
    ],
)
def test_the_mark_of_a_copy(stored: Stored, mark: str):
    assert stored_mark(stored).text == mark


def test_ages_take_six_cells():
    wanted = {3: "now", 59: "now", 60: "1 min", 3599: "59 min", 3600: "1 h", 47 * 3600: "47 h"}
    wanted |= {48 * 3600: "2 d", 14 * 86400: "2 w", 729 * 86400: "104 w", 730 * 86400: "2 y"}
    for seconds, text in wanted.items():
        assert age(NOON - seconds, NOON) == text
        assert width(text) <= 6
    assert age(None, NOON) == "–"


def test_known_rows_stay_in_their_places_and_new_ones_come_last():
    rows = [ExperimentRow(Path(name)) for name in "dacb"]
    assert [row.name for row in in_places(rows, [Path("c"), Path("gone"), Path("d")])] == ["c", "d", "a", "b"]
    assert in_places(rows, []) == tuple(rows)
