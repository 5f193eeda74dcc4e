"""Gates: each verdict from what a report really says, and never from what it lacks."""

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.evaluation import qei
from bitnet_core.evaluation.gates import COLUMNS, counts, evidence, failures, judge, record, table
from bitnet_core.settings.values import GateOptions

NAMES = ["invalid rows", "non-finite steps", "flip recovered", "JSON validity", "Q_s/Q_t", "QEI", "QEI_speed"]
ALL = GateOptions()
FLIP = {"flip_shock": 0.2, "flip_recovered_after_tokens": 500}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "flip", "qei"]), inner),
    max_leaves=6,
)


def _quantity(value: float | None) -> dict[str, Any]:
    return {"value": value, "origin": "placeholder" if value is None else "measured", "how": "as the test says"}


REPORT: dict[str, Any] = {
    "evidence": evidence(4, 100, 0, FLIP),
    "checks": {"suites": {"json": {"items": 200, "answered": 195, "passed": 190}}},
    "qei": {
        "student": {"quality": _quantity(0.6)},
        "teacher": {"quality": _quantity(0.8)},
        "qei": _quantity(1.5),
        "qei_speed": _quantity(2.5),
    },
}


def _changed(path: str, value: Any) -> dict[str, Any]:
    report = copy.deepcopy(REPORT)
    *before, last = path.split(".")
    part = report
    for name in before:
        part = part[name]
    part[last] = value
    return report


def _verdicts(report: Any, options: GateOptions = ALL) -> dict[str, str]:
    return {gate.name: gate.verdict for gate in judge(options, report)}


def test_a_good_report_passes_every_gate() -> None:
    gates = judge(ALL, REPORT)
    assert [gate.name for gate in gates] == NAMES
    assert counts(gates) == {"pass": 7, "fail": 0, "not measurable": 0}
    assert failures(gates) == []
    why = next(gate.why for gate in gates if gate.name == "JSON validity")
    assert why == "share of 200 answers that are the JSON asked for; 5 without an answer count as none"
    assert [gate.value for gate in gates] == pytest.approx([0.04, 0, 500, 0.95, 0.75, 1.5, 2.5])
    assert all(len(row) == len(COLUMNS) for row in table(gates))
    assert json.loads(json.dumps(record(gates)))[0]["setting"] == "GATE_INVALID_ROWS"


NEVER = object()


@pytest.mark.parametrize(
    ("name", "path", "bad", "gone"),
    [
        ("invalid rows", "evidence.rejected_tokens", 6, None),
        ("invalid rows", "evidence.answer_tokens", 79, 0),
        ("non-finite steps", "evidence.nonfinite_steps", 1, None),
        ("flip recovered", "evidence.flip.flip_recovered_after_tokens", None, NEVER),
        ("flip recovered", "evidence.flip", {"flip_shock": 0.1, "flip_recovered_after_tokens": None}, {}),
        ("JSON validity", "checks.suites.json.passed", 178, None),
        ("JSON validity", "checks.suites.json.passed", 0, None),
        ("Q_s/Q_t", "qei.student.quality", _quantity(0.39), _quantity(None)),
        ("Q_s/Q_t", "qei.teacher.quality.value", 1.3, "much"),
        ("QEI", "qei.qei", _quantity(0.99), _quantity(None)),
        ("QEI_speed", "qei.qei_speed.value", 0.99, math.nan),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_each_gate_fails_alone_and_is_never_assumed(name: str, path: str, bad: Any, gone: Any) -> None:
    assert _verdicts(_changed(path, bad)) == {other: "fail" if other == name else "pass" for other in NAMES}
    if gone is not NEVER:
        unknown = _verdicts(_changed(path, gone))
        assert unknown == {other: "not measurable" if other == name else "pass" for other in NAMES}


def test_a_failure_names_value_limit_and_setting() -> None:
    assert failures(judge(ALL, _changed("qei.qei.value", 0.76))) == ["QEI is 0.7600, and GATE_QEI asks for ≥ 1"]
    judged = judge(ALL, _changed("evidence.flip.flip_recovered_after_tokens", None))
    assert failures(judged) == [
        "flip recovered failed, because the held-out loss changed by 0.2000 at the flip and was not back by the end "
        "(GATE_FLIP_RECOVERED)"
    ]
    assert [row[2] for row in table(judged) if row[0] == "flip recovered"] == ["never"]


def test_a_limit_itself_passes_and_no_limit_is_no_gate() -> None:
    exact = GateOptions(invalid_rows=0.04, qei=1.5, quality_ratio=0.6 / 0.8)
    assert _verdicts(REPORT, exact) == dict.fromkeys(NAMES, "pass")
    some = GateOptions(invalid_rows=None, flip_recovered=False, qei=None, json_validity=None)
    assert list(_verdicts(REPORT, some)) == ["non-finite steps", "Q_s/Q_t", "QEI_speed"]


@given(JSON_VALUES)
def test_any_report_gets_verdicts_and_nothing_gives_no_pass(report: Any) -> None:
    assert list(_verdicts({"evidence": report, "qei": report, "checks": report})) == NAMES
    if not isinstance(report, dict):
        assert set(_verdicts(report).values()) == {"not measurable"}


def test_placeholders_of_qei_say_what_is_missing() -> None:
    model = qei.Model(qei.measured(1, ""), qei.placeholder("set TEACHER_MEMORY_GB"), qei.measured(1, ""))
    report = _changed("qei.qei", vars(qei.index(model, model).qei))
    (row,) = [gate for gate in judge(ALL, report) if gate.name == "QEI"]
    assert row.verdict == "not measurable" and "TEACHER_MEMORY_GB" in row.why
