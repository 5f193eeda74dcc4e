"""QEI is computed from four quantities, and has no value while one of them is missing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.evaluation import qei
from bitnet_core.evaluation.qei import Model, Quantity

positive = st.floats(1e-3, 1e3)


def model(quality: float | None, memory: float | None, speed: float | None) -> Model:
    def quantity(value: float | None, name: str) -> Quantity:
        return qei.placeholder(f"supply the {name}") if value is None else qei.measured(value, f"ran the {name}")

    return Model(quantity(quality, "quality"), quantity(memory, "memory"), quantity(speed, "speed"))


def values(student: Model, teacher: Model) -> tuple[float, float]:
    result = qei.index(student, teacher)
    assert result.qei.value is not None
    assert result.qei_speed.value is not None
    return result.qei.value, result.qei_speed.value


@given(positive, positive, positive)
def test_the_teacher_itself_has_an_index_of_one(quality: float, memory: float, speed: float) -> None:
    same = model(quality, memory, speed)
    assert values(same, same) == pytest.approx((1.0, 1.0))


@given(st.tuples(positive, positive, positive), st.tuples(positive, positive, positive), positive, positive, positive)
def test_units_cancel(
    s: tuple[float, float, float], t: tuple[float, float, float], q: float, m: float, v: float
) -> None:
    scaled = values(model(s[0] * q, s[1] * m, s[2] * v), model(t[0] * q, t[1] * m, t[2] * v))
    assert scaled == pytest.approx(values(model(*s), model(*t)))


@given(st.tuples(positive, positive, positive), st.tuples(positive, positive, positive), st.floats(1.01, 10))
def test_better_smaller_and_faster_raise_it(
    s: tuple[float, float, float], t: tuple[float, float, float], more: float
) -> None:
    base, base_speed = values(model(*s), model(*t))
    assert values(model(s[0] * more, s[1], s[2]), model(*t))[0] > base
    assert values(model(s[0], s[1] * more, s[2]), model(*t))[0] < base
    assert values(model(s[0], s[1], s[2] * more), model(*t)) == pytest.approx((base, base_speed * more))


def test_the_formula_by_hand() -> None:
    assert values(model(0.4, 50, 200), model(0.8, 300, 100)) == pytest.approx((3.0, 6.0))


@pytest.mark.parametrize("place", range(2))
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_no_value_without_all_four(side: str, place: int) -> None:
    numbers: list[float | None] = [0.5, 10.0, 20.0]
    numbers[place] = None
    whole, broken = model(0.5, 10.0, 20.0), model(*numbers)
    pair = (broken, whole) if side == "student" else (whole, broken)
    result = qei.index(*pair)
    assert result.qei.value is None
    assert result.qei_speed.value is None
    assert result.qei.origin == "placeholder"
    name = ["quality", "memory"][place]
    assert result.qei.how == f"missing: {side} {name} (supply the {name})"


def test_without_a_speed_only_the_speed_figure_is_missing() -> None:
    result = qei.index(model(0.5, 10, 20), model(0.5, 10, None))
    assert result.qei.value == 1.0
    assert result.qei_speed.value is None
    assert "teacher speed" in result.qei_speed.how


def test_a_given_input_makes_a_given_figure() -> None:
    teacher = Model(qei.given(0.9, "EVAL_TEACHER_QUALITY"), qei.measured(10, "rss"), qei.measured(20, "timed"))
    result = qei.index(model(0.45, 10, 20), teacher)
    assert (result.qei.value, result.qei.origin) == (0.5, "given")
    assert "teacher quality" in result.qei.how


def test_an_uncertain_speed_is_said_beside_the_figure_that_rests_on_it() -> None:
    known = model(0.5, 1e6, 10.0)
    found = qei.index(replace(known, speed=qei.measured(50.0, "by turns", sure=False)), known)
    assert found.qei_speed.how.endswith(", with an uncertain speed")
    assert "uncertain" not in found.qei.how


def test_the_table_has_every_origin() -> None:
    teacher = Model(qei.given(0.9, "typed in"), qei.placeholder("set TEACHER_MEMORY_GB"), qei.measured(20, "timed"))
    rows = qei.table(qei.index(model(0.45, 51_209_328, 20), teacher))
    assert all(len(row) == len(qei.COLUMNS) for row in rows)
    by_name = {row[0]: row for row in rows}
    assert by_name["memory, bytes"][1:4] == [51_209_328, None, "student measured, teacher placeholder"]
    assert by_name["QEI"][1] is None
    assert "TEACHER_MEMORY_GB" in by_name["QEI"][4]


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_quantity_is_finite_and_not_negative(value: float) -> None:
    with pytest.raises(ValueError, match="not below 0"):
        qei.measured(value, "")


def test_a_placeholder_is_what_has_no_value() -> None:
    with pytest.raises(ValueError, match="placeholder"):
        Quantity(None, "measured", "")
    with pytest.raises(ValueError, match="placeholder"):
        Quantity(1.0, "placeholder", "")


def test_the_table_says_a_spread_once_and_imitation_apart() -> None:
    def side(spread: float | None) -> Model:
        return Model(qei.measured(0.1, "items"), qei.measured(10, "here"), qei.measured(20, "by turns", spread))

    own = qei.measured(0.3, "not in QEI")
    rows = qei.table(qei.index(side(0.3), side(None)), (own, own))
    assert [(row[0], row[-1]) for row in rows[2:]] == [
        ("speed, tokens/s", "by turns; spread 30% (student), < 10% (teacher)"),
        ("QEI", "(Q_s/Q_t)/(M_s/M_t)"),
        ("QEI_speed", "QEI·TPS_s/TPS_t"),
        ("imitation", "not in QEI"),
    ]
    assert rows[3][1] == 1.0


def test_a_student_that_passes_nothing_has_an_index_of_nothing() -> None:
    nothing = Model(qei.measured(0, "items"), qei.measured(10, "here"), qei.measured(20, "by turns"))
    some = Model(qei.measured(0.5, "items"), qei.measured(10, "here"), qei.measured(20, "by turns"))
    assert qei.index(nothing, some).qei.value == 0.0
    without = qei.index(some, nothing).qei
    assert (without.value, without.how) == (None, "the teacher quality is 0")
