"""The Reports tab: the tables of the shown run, of the evaluation and the baseline, and answers side by side."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.runs.events import Table
from bitnet_core.text import width
from bitnet_tui.app import BitnetApp
from bitnet_tui.view import reports
from bitnet_tui.view.reports import Answer, Pair, Report, ReportReader, ReportsView
from bitnet_tui.view.spans import unstyled
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import settled, shown, words
from tests.tui.simulated import NOON, QEI, SimulatedRun, experiment

_TEACHER = {
    "generations": [{"prompt": "Two tides?", "text": "Two a day."}, {"prompt": "Ice?", "text": "It floats."}],
    "checks": {"answers": [{"id": "json-01", "text": "{}", "passed": True, "reason": ""}]},
}
_STUDENT = {
    "samples": [{"prompt": "Two tides?", "text": "the the"}],
    "checks": {"answers": [{"id": "json-01", "text": "no", "passed": False, "reason": "it has no JSON"}]},
}


def test_answers_are_paired_by_item_and_by_prompt():
    assert list(reports.pairs(_TEACHER, _STUDENT)) == [
        Pair("json-01", Answer("{}", True), Answer("no", False, "it has no JSON")),
        Pair("Two tides?", Answer("Two a day."), Answer("the the")),
        Pair("Ice?", Answer("It floats."), None),
    ]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["checks", "answers", "generations", "samples", "prompt", "text", "id", "passed", "reason"]),
        inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@given(_json, _json, st.integers(48, 120))
def test_any_report_is_drawn_within_its_width(teacher, student, cells: int):
    found = reports.pairs(*(one if isinstance(one, dict) else {} for one in (teacher, student)))
    assert all(width(unstyled(one)) <= cells for one in reports.answer_lines(tuple(found), cells))


_answer = st.none() | st.builds(Answer, st.text(max_size=300), st.none() | st.booleans(), st.text(max_size=60))


@given(st.lists(st.builds(Pair, st.text(max_size=90), _answer, _answer), max_size=4), st.integers(48, 160))
def test_answers_fit_side_by_side_and_below_each_other(pairs: list[Pair], cells: int):
    lines = reports.answer_lines(pairs, cells)
    assert all(width(unstyled(one)) <= cells for one in lines)
    both = any(pair.teacher is not None and pair.student is not None for pair in pairs)
    assert any(one.text == " │ " for line in lines for one in line) == (both and cells >= 74)


async def test_results_are_found_from_any_stage(home: Path):
    exp = experiment(home, "one")
    teacher = SimulatedRun(exp, "teacher", NOON)
    teacher.emit("table", name="baseline", columns=["quantity", "value"], rows=[["latency p50", 3.1]])
    teacher.finish()
    evaluated = SimulatedRun(exp, "eval", NOON + 100)
    evaluated.emit("table", name="qei", columns=QEI[0], rows=QEI[1])
    evaluated.finish()
    trained = SimulatedRun(exp, "train", NOON + 200)
    trained.emit("table", name="training", columns=["when", "step"], rows=[["end", 267]])
    trained.finish()
    (exp.reports / "teacher_baseline.json").write_text(json.dumps(_TEACHER))
    (exp.reports / "mini_evaluation_report.json").write_text(json.dumps(_STUDENT))
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert "Train the student" in shown(pilot)
        await pilot.press("3")
        await settled(pilot)
        text = unstyled(*pilot.app.screen.query_one("#reports-text")._lines)  # type: ignore[attr-defined]
        places = [
            text.index(one) for one in ("training", "── Evaluation", "QEI", "── Teacher baseline", "── Answers")
        ]
        assert places == sorted(places)
        assert "outdated: settings or input have changed" in text  # train has run since
        await pilot.press("end")
        await settled(pilot)
        assert "✗ it has no JSON" in words(pilot)
        assert "Two a day. │ the the" in " ".join(shown(pilot).split())


def test_a_pipelines_own_tables_are_not_shown_twice(home: Path):
    exp = experiment(home, "one")
    (exp.reports / "teacher_baseline.json").write_text("{" * 100_000)
    evaluated = SimulatedRun(exp, "eval", NOON)
    evaluated.emit("table", name="qei", columns=QEI[0], rows=QEI[1])
    evaluated.emit("table", name="memory", columns=["a"], rows=[[1]])
    evaluated.finish()
    (report,) = ReportReader(exp.root, home).read().reports
    assert [table.name for table in report.tables] == ["qei", "memory"]
    assert "QEI\n" in unstyled(*reports._report_lines(report, set(), 80))
    assert "QEI\n" not in unstyled(*reports._report_lines(report, {"qei"}, 80))
    assert ReportReader(home / "gone", home).read() == ReportsView()
    assert unstyled(*reports.report_lines(None, ReportsView(), 80)).startswith("No results yet.")
    many = Report("eval", "x", "done", None, (Table(name="empty", columns=[], rows=[]),))
    assert "empty" in unstyled(*reports.report_lines(None, ReportsView((many,)), 80))
