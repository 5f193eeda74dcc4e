"""The gates: limits from the settings against what an experiment measured. Pass, fail, or not measurable; no guesses.

It reads the evaluation's report alone and imports no torch, so the pipeline can judge again when only a limit has
changed. The report's `evidence` is made when the evaluation runs; a report of an older version lacks it, and what
needs it is then not measurable.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bitnet_core.settings.values import GateOptions
from bitnet_core.text import finite, number

Verdict = Literal["pass", "fail", "not measurable"]
COLUMNS = ["gate", "result", "value", "limit", "why"]


@dataclass(frozen=True)
class Found:
    """A measured value and how; `value` is None where it could not be measured, and `how` says why."""

    value: float | None
    how: str


@dataclass(frozen=True)
class Gate:
    """One row: `limit` as text, such as `≥ 1`, and the setting that it comes from."""

    name: str
    setting: str
    verdict: Verdict
    value: float | None
    limit: str
    why: str


Look = Callable[[Mapping[str, Any]], Found]


def evidence(
    rejected_tokens: int | None, answer_tokens: int | None, refused_steps: int | None, flip: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the gates need of collecting and training, for the report. None is unknown.

    `rejected_tokens` of `answer_tokens` teacher tokens are in answers that were rejected, `refused_steps` optimizer
    steps were not finite, `flip` is what `flip_report` says.
    """
    return {
        "rejected_tokens": rejected_tokens,
        "answer_tokens": answer_tokens,
        "nonfinite_steps": refused_steps,
        "flip": dict(flip) if flip is not None else None,
    }


def judge(options: GateOptions, report: Mapping[str, Any]) -> list[Gate]:
    """Every gate that has a limit, in the order of the settings. `report` is the evaluation's, as JSON gives it."""
    rows = [
        _most("invalid rows", "GATE_INVALID_ROWS", options.invalid_rows, _invalid_rows, report),
        _most("non-finite steps", "GATE_NONFINITE_STEPS", options.nonfinite_steps, _nonfinite, report),
        _flip_recovered(report) if options.flip_recovered else None,
        _least("JSON validity", "GATE_JSON_VALIDITY", options.json_validity, _json_validity, report),
        _least("Q_s/Q_t", "GATE_QUALITY_RATIO", options.quality_ratio, _quality_ratio, report),
        _least("QEI", "GATE_QEI", options.qei, _figure("qei"), report),
        _least("QEI_speed", "GATE_QEI_SPEED", options.qei_speed, _figure("qei_speed"), report),
    ]
    return [row for row in rows if row is not None]


def failures(gates: Sequence[Gate]) -> list[str]:
    """Each gate that failed and why, as a clause of a sentence."""
    return [_failure(gate) for gate in gates if gate.verdict == "fail"]


def _failure(gate: Gate) -> str:
    if gate.value is None:
        return f"{gate.name} failed, because {gate.why} ({gate.setting})"
    return f"{gate.name} is {number(gate.value)}, and {gate.setting} asks for {gate.limit}"


def table(gates: Sequence[Gate]) -> list[list[Any]]:
    """Rows under COLUMNS."""
    return [[gate.name, gate.verdict, _shown(gate), gate.limit, f"{gate.why} ({gate.setting})"] for gate in gates]


def _shown(gate: Gate) -> float | str | None:
    """What was found; a gate that failed without a number was not reached at all."""
    return "never" if gate.value is None and gate.verdict == "fail" else gate.value


def record(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """The same for a report."""
    return [dict(vars(gate)) for gate in gates]


def counts(gates: Sequence[Gate]) -> dict[str, int]:
    """How many passed, failed, and could not be measured."""
    verdicts: tuple[Verdict, ...] = ("pass", "fail", "not measurable")
    return {verdict: sum(gate.verdict == verdict for gate in gates) for verdict in verdicts}


# -- one gate --------------------------------------------------------------------------------------------------------


def _most(name: str, setting: str, limit: float | None, look: Look, report: Mapping[str, Any]) -> Gate | None:
    return (
        None
        if limit is None
        else _compared(name, setting, f"≤ {limit:g}", lambda value: value <= limit, look(report))
    )


def _least(name: str, setting: str, limit: float | None, look: Look, report: Mapping[str, Any]) -> Gate | None:
    return (
        None
        if limit is None
        else _compared(name, setting, f"≥ {limit:g}", lambda value: value >= limit, look(report))
    )


def _compared(name: str, setting: str, limit: str, holds: Callable[[float], bool], found: Found) -> Gate:
    verdict: Verdict = "not measurable"
    if found.value is not None:
        verdict = "pass" if holds(found.value) else "fail"
    return Gate(name, setting, verdict, found.value, limit, found.how)


def _part(report: Mapping[str, Any], *names: str) -> Any:
    """What is under these keys, one inside the other; None if something else is there."""
    found: Any = report
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _invalid_rows(report: Mapping[str, Any]) -> Found:
    rejected = finite(_part(report, "evidence", "rejected_tokens"))
    total = finite(_part(report, "evidence", "answer_tokens"))
    if rejected is None or not total:
        return Found(None, "the report does not say how many of the teacher's tokens were rejected")
    return Found(rejected / total, f"{rejected:,.0f} of {total:,.0f} teacher tokens are in rejected answers")


def _nonfinite(report: Mapping[str, Any]) -> Found:
    steps = finite(_part(report, "evidence", "nonfinite_steps"))
    if steps is None:
        return Found(None, "the checkpoint does not say how many steps were skipped")
    return Found(steps, "steps of the training that were skipped")


def _flip_recovered(report: Mapping[str, Any]) -> Gate:
    flip = _part(report, "evidence", "flip")
    tokens = finite(_part(report, "evidence", "flip", "flip_recovered_after_tokens"))
    shock = finite(_part(report, "evidence", "flip", "flip_shock"))
    verdict: Verdict
    if not isinstance(flip, Mapping) or shock is None:
        verdict, why = "not measurable", "no held-out loss was measured around a flip, or there was no flip"
    elif tokens is None:
        verdict, why = "fail", f"the held-out loss changed by {number(shock)} at the flip and was not back by the end"
    else:
        verdict, why = (
            "pass",
            f"tokens from the flip until the held-out loss was back; it had changed by {number(shock)}",
        )
    return Gate("flip recovered", "GATE_FLIP_RECOVERED", verdict, tokens, "recovered", why)


def _json_validity(report: Mapping[str, Any]) -> Found:
    """The score on the packaged checks that ask for JSON by a schema; an unanswered one is not counted as JSON."""
    suite = ("checks", "suites", "json")
    passed, items = finite(_part(report, *suite, "passed")), finite(_part(report, *suite, "items"))
    if passed is None or not items:
        return Found(None, "the student was not asked for JSON; add json to EVAL_SUITE")
    silent = items - (finite(_part(report, *suite, "answered")) or 0)
    counted = f"; {silent:,.0f} without an answer count as none" if silent > 0 else ""
    return Found(passed / items, f"share of {items:,.0f} answers that are the JSON asked for{counted}")


def _quality_ratio(report: Mapping[str, Any]) -> Found:
    sides = {side: _part(report, "qei", side, "quality") for side in ("student", "teacher")}
    values = {side: finite(_part(sides, side, "value")) for side in sides}
    for side, value in values.items():
        if value is None:
            return Found(None, f"{side} quality: {_part(sides, side, 'how') or 'missing'}")
    student, teacher = (values[side] or 0.0 for side in ("student", "teacher"))
    if not teacher:
        return Found(None, "the teacher's quality is 0")
    origins = {str(_part(sides, side, "origin")) for side in sides}
    return Found(student / teacher, f"the student's quality over the teacher's, {' and '.join(sorted(origins))}")


def _figure(name: str) -> Look:
    def look(report: Mapping[str, Any]) -> Found:
        how = str(_part(report, "qei", name, "how") or "the report has none")
        return Found(finite(_part(report, "qei", name, "value")), how)

    return look
