"""The Quality-Efficiency Index, from quantities that each say where they come from. Arithmetic only.

QEI = (Q_s / Q_t) / (M_s / M_t) and QEI_speed = QEI · TPS_s / TPS_t, s the student and t the teacher. A student
equal to its teacher has 1. There is no unit: qualities, memories and speeds enter only as ratios.

**Quality.** Q = 2^(-bits per byte) on held-out completions of the teacher. It is the geometric mean of the
probability that a model gives to one byte of text: it lies in (0, 1], and doubles when a model needs one bit less per
byte. Both models are measured on the same tokens, the teacher by the logprobs that it reported while writing them.

- Why not top-1 agreement: a teacher always agrees with its own top-1, so its quality would be a constant; and
  agreement depends on how text is cut into tokens.
- Why per byte and not per token: so that models with different tokenizers can be compared.
- What it does not say: the text is the teacher's own, so this measures how much of *this teacher's* behaviour is
  left. A student that is better at something else gains nothing by it. To use the score of a task instead, set
  EVAL_STUDENT_QUALITY and EVAL_TEACHER_QUALITY.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

Origin = Literal["measured", "given", "placeholder"]


@dataclass(frozen=True)
class Quantity:
    """A number and where it comes from. A placeholder has no value; its `how` says how to supply one."""

    value: float | None
    origin: Origin
    how: str

    def __post_init__(self) -> None:
        if (self.value is None) != (self.origin == "placeholder"):
            raise ValueError("a quantity has no value exactly if it is a placeholder")
        if self.value is not None and not (math.isfinite(self.value) and self.value > 0):
            raise ValueError(f"a quantity of QEI must be above 0 and finite, not {self.value}")


def measured(value: float, how: str) -> Quantity:
    return Quantity(value, "measured", how)


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


def index(student: Model, teacher: Model, speed_ratio: Quantity | None = None) -> Index:
    """Both figures. One that can't be computed is a placeholder that lists the missing inputs.

    `speed_ratio` stands for TPS_s / TPS_t where it was measured as such, by turns.
    """
    four = {
        "student quality": student.quality,
        "teacher quality": teacher.quality,
        "student memory": student.memory,
        "teacher memory": teacher.memory,
    }
    speeds = {"student speed": student.speed, "teacher speed": teacher.speed}
    qei = _combine(four, lambda q_s, q_t, m_s, m_t: (q_s / q_t) / (m_s / m_t), "(Q_s/Q_t)/(M_s/M_t)")
    if speed_ratio is not None:
        qei_speed = _combine(
            four | {"speed ratio": speed_ratio},
            lambda q_s, q_t, m_s, m_t, v: (q_s / q_t) / (m_s / m_t) * v,
            f"QEI·TPS_s/TPS_t, {speed_ratio.how}",
        )
        return Index(student, teacher, qei, qei_speed)
    qei_speed = _combine(
        four | speeds, lambda q_s, q_t, m_s, m_t, v_s, v_t: (q_s / q_t) / (m_s / m_t) * (v_s / v_t), "QEI·TPS_s/TPS_t"
    )
    return Index(student, teacher, qei, qei_speed)


def _combine(inputs: dict[str, Quantity], formula: Any, name: str) -> Quantity:
    missing = {label: quantity.how for label, quantity in inputs.items() if quantity.value is None}
    if missing:
        return placeholder("missing: " + "; ".join(f"{label} ({how})" for label, how in missing.items()))
    value = formula(*(quantity.value for quantity in inputs.values()))
    from_user = [label for label, quantity in inputs.items() if quantity.origin == "given"]
    if from_user:
        return given(value, f"{name}, with a given {', '.join(from_user)}")
    return measured(value, name)


COLUMNS = ["quantity", "student", "teacher", "origin", "how"]


def table(result: Index) -> list[list[Any]]:
    """Rows under COLUMNS: the three inputs of both sides, then the two figures."""
    rows = [
        _row("quality, 2^(-bits/byte)", result.student.quality, result.teacher.quality, 4),
        _row("memory, bytes", result.student.memory, result.teacher.memory, None),
        _row("speed, tokens/s", result.student.speed, result.teacher.speed, 1),
    ]
    for label, figure in (("QEI", result.qei), ("QEI_speed", result.qei_speed)):
        rows.append([label, _shown(figure, 3), None, figure.origin, figure.how])
    return rows


def _row(label: str, student: Quantity, teacher: Quantity, digits: int | None) -> list[Any]:
    same = student.origin == teacher.origin
    origin = student.origin if same else f"student {student.origin}, teacher {teacher.origin}"
    how = student.how if student.how == teacher.how else f"student: {student.how}; teacher: {teacher.how}"
    return [label, _shown(student, digits), _shown(teacher, digits), origin, how]


def _shown(quantity: Quantity, digits: int | None) -> float | None:
    return None if quantity.value is None else round(quantity.value, digits)
