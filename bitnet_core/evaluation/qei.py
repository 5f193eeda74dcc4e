"""The Quality-Efficiency Index, from quantities that each say where they come from. Arithmetic only.

QEI = (Q_s / Q_t) / (M_s / M_t) and QEI_speed = QEI · TPS_s / TPS_t, s the student and t the teacher. A student
equal to its teacher has 1. There is no unit: qualities, memories and speeds enter only as ratios.

**Quality** is Q of `quality`, from 0 to 1: the weighted score on items and on a fixed text that neither model wrote.
How well a student imitates its teacher's own text is another quantity (`imitation`); it stands below the figures and
is no part of them. To use the score of another task, set EVAL_STUDENT_QUALITY and EVAL_TEACHER_QUALITY.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from bitnet_core.evaluation.turns import NOTABLE_SPREAD

Origin = Literal["measured", "given", "placeholder"]


@dataclass(frozen=True)
class Quantity:
    """A number and where it comes from. A placeholder has no value; its `how` says how to supply one."""

    value: float | None
    origin: Origin
    how: str
    spread: float | None = None
    """The interquartile range as a share of the value, where that is notable."""
    sure: bool = True
    """False for a speed on which too few turns agree."""

    def __post_init__(self) -> None:
        if (self.value is None) != (self.origin == "placeholder"):
            raise ValueError("a quantity has no value exactly if it is a placeholder")
        if self.value is not None and not (math.isfinite(self.value) and self.value >= 0):
            raise ValueError(f"a quantity of QEI must be finite and not below 0, not {self.value}")


def measured(value: float, how: str, spread: float | None = None, *, sure: bool = True) -> Quantity:
    return Quantity(value, "measured", how, spread, sure)


def given(value: float, how: str) -> Quantity:
    return Quantity(value, "given", how)


def placeholder(how: str) -> Quantity:
    return Quantity(None, "placeholder", how)


@dataclass(frozen=True)
class Model:
    """One side of the index: quality (no unit), memory in bytes, speed in tokens/s."""

    quality: Quantity
    memory: Quantity
    speed: Quantity


@dataclass(frozen=True)
class Index:
    """The inputs and the two figures. While an input is missing, a figure is a placeholder that names it."""

    student: Model
    teacher: Model
    qei: Quantity
    qei_speed: Quantity


def index(student: Model, teacher: Model) -> Index:
    """Both figures. One that can't be computed is a placeholder that lists the missing inputs."""
    four = {
        "student quality": student.quality,
        "teacher quality": teacher.quality,
        "student memory": student.memory,
        "teacher memory": teacher.memory,
    }
    speeds = {"student speed": student.speed, "teacher speed": teacher.speed}
    qei = _combine(four, lambda q_s, q_t, m_s, m_t: (q_s / q_t) / (m_s / m_t), "(Q_s/Q_t)/(M_s/M_t)")
    qei_speed = _combine(
        four | speeds, lambda q_s, q_t, m_s, m_t, v_s, v_t: (q_s / q_t) / (m_s / m_t) * (v_s / v_t), "QEI·TPS_s/TPS_t"
    )
    return Index(student, teacher, qei, qei_speed)


_DIVISORS = ("teacher quality", "student memory", "teacher speed")


def _combine(inputs: dict[str, Quantity], formula: Any, name: str) -> Quantity:
    missing = {label: quantity.how for label, quantity in inputs.items() if quantity.value is None}
    if missing:
        return placeholder("missing: " + "; ".join(f"{label} ({how})" for label, how in missing.items()))
    divisor = next((label for label, one in inputs.items() if one.value == 0 and label in _DIVISORS), None)
    if divisor:
        return placeholder(f"the {divisor} is 0")
    value = formula(*(quantity.value for quantity in inputs.values()))
    if doubted := [label.partition(" ")[2] for label, quantity in inputs.items() if not quantity.sure]:
        name = f"{name}, with an uncertain {doubted[0]}"
    from_user = [label for label, quantity in inputs.items() if quantity.origin == "given"]
    if from_user:
        return given(value, f"{name}, with a given {', '.join(from_user)}")
    return measured(value, name)


COLUMNS = ["quantity", "student", "teacher", "origin", "how"]


def table(result: Index, imitation: tuple[Quantity, Quantity] | None = None) -> list[list[Any]]:
    """Rows under COLUMNS: the three inputs of both sides, the two figures, and imitation, which is not in them."""
    rows = [
        _row("quality", result.student.quality, result.teacher.quality),
        _row("memory, bytes", result.student.memory, result.teacher.memory),
        _row("speed, tokens/s", result.student.speed, result.teacher.speed),
    ]
    for label, figure in (("QEI", result.qei), ("QEI_speed", result.qei_speed)):
        rows.append([label, figure.value, None, figure.origin, figure.how])
    return [*rows, _row("imitation", *imitation)] if imitation else rows


def _row(label: str, student: Quantity, teacher: Quantity) -> list[Any]:
    same = student.origin == teacher.origin
    origin = student.origin if same else f"student {student.origin}, teacher {teacher.origin}"
    how = student.how if student.how == teacher.how else f"student: {student.how}; teacher: {teacher.how}"
    return [label, student.value, teacher.value, origin, _with_spread(how, (student, teacher))]


def _with_spread(how: str, quantities: tuple[Quantity, Quantity]) -> str:
    """How, and the spread of the student's turns and of the teacher's, if one is notable."""
    if all(one.spread is None for one in quantities):
        return how
    small = f"< {NOTABLE_SPREAD:.0%}"
    shares = [small if one.spread is None else f"{one.spread:.0%}" for one in quantities]
    student, teacher = shares
    return f"{how}; spread {student} (student), {teacher} (teacher)"
