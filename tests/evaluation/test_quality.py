"""Q on items and on fixed text: equal models have one, a worse answer never raises it, and a toy has a score."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bitnet_core.evaluation.quality import COLUMNS, TEXT, Part, Quality, measure, record, table
from bitnet_core.runs.strict_json import strict
from bitnet_core.suites.intervals import share

verdicts = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12)
bits = st.lists(st.tuples(*[st.floats(0.01, 12)] * 2, st.integers(1, 900)), min_size=1, max_size=8)
weight = st.sampled_from([0.0, 0.25, 0.5, 1.0])


def suite(name: str, pairs: list[tuple[bool, bool]]) -> Part:
    student_N, teacher_N = np.array(pairs, np.float64).T
    return Part(name, student_N, teacher_N, np.ones(len(pairs)))


def passages(rows: list[tuple[float, float, int]]) -> Part:
    student_N, teacher_N, bytes_N = np.array(rows, np.float64).T
    return Part(TEXT, student_N, teacher_N, bytes_N, is_text=True)


def whole(
    suites: list[list[tuple[bool, bool]]], text: list[tuple[float, float, int]], share_of_text: float
) -> Quality:
    parts = [suite(f"suite {place}", pairs) for place, pairs in enumerate(suites)]
    found = measure(parts, passages(text) if text else None, share_of_text, 3)
    assert found is not None
    return found


@settings(max_examples=40)
@given(st.lists(verdicts, max_size=3), bits | st.just([]), weight)
def test_it_is_the_weighted_mean_written_out(
    suites: list[list[tuple[bool, bool]]], text: list[tuple[float, float, int]], share_of_text: float
) -> None:
    weights = (1 - share_of_text) * bool(suites), share_of_text * bool(text)
    assume(sum(weights))
    found = whole(suites, text, share_of_text)
    for side, score in enumerate((found.whole.student, found.whole.teacher)):
        expected = 0.0
        if weights[0]:
            expected += weights[0] * sum(sum(pair[side] for pair in one) / len(one) for one in suites) / len(suites)
        if weights[1]:
            total = sum(row[side] * row[2] for row in text) / sum(row[2] for row in text)
            expected += weights[1] * 2**-total
        assert score.value == pytest.approx(expected / sum(weights))
        assert 0 <= score.low <= score.high <= 1 + 1e-9


@settings(max_examples=40)
@given(st.lists(verdicts, max_size=3), bits, weight)
def test_the_teacher_as_its_own_student_has_exactly_one(
    suites: list[list[tuple[bool, bool]]], text: list[tuple[float, float, int]], share_of_text: float
) -> None:
    same = [[(theirs, theirs) for _, theirs in one] for one in suites]
    assume(share_of_text or any(passed for one in same for _, passed in one))
    found = whole(same, [(theirs, theirs, size) for _, theirs, size in text], share_of_text if suites else 1.0)
    assert found.whole.ratio is not None
    assert found.whole.ratio.value == 1.0
    assert found.whole.student == found.whole.teacher


@settings(max_examples=40)
@given(st.lists(verdicts, min_size=1, max_size=3), bits, st.floats(0.1, 0.9), st.data())
def test_a_worse_answer_or_a_less_likely_text_never_raises_it(
    suites: list[list[tuple[bool, bool]]],
    text: list[tuple[float, float, int]],
    share_of_text: float,
    data: st.DataObject,
) -> None:
    before = whole(suites, text, share_of_text).whole
    worse = [[(ours and data.draw(st.booleans()), theirs) for ours, theirs in one] for one in suites]
    longer = [(ours + data.draw(st.floats(0, 2)), theirs, size) for ours, theirs, size in text]
    after = whole(worse, longer, share_of_text).whole
    assert after.student.value <= before.student.value + 1e-12
    assert after.teacher == before.teacher


def test_a_toy_student_has_a_small_score_and_a_bounded_interval() -> None:
    nothing = [[(False, place < 2) for place in range(3)] for _ in range(5)]
    text = [(3.1, 1.3, 400), (2.9, 1.4, 420), (3.3, 1.2, 380)]
    found = whole(nothing, text, 0.5)
    assert found.whole.student.value == pytest.approx(0.5 * 2**-3.1, rel=0.03)
    assert found.whole.ratio is not None and 0.05 < found.whole.ratio.value < 0.2
    # Nothing passed of 15 does not prove that nothing would: the exact bound is in the interval.
    assert found.items is not None
    assert found.items.student.high == pytest.approx(share([False] * 15, 0).high)
    assert found.whole.student.high > 0.5 * found.items.student.high
    assert found.whole.ratio.low > 0 and found.whole.ratio.high < 1


def test_suites_that_are_passed_as_a_whole_or_not_at_all_are_not_certain() -> None:
    all_of, none_of = [(True, True)] * 3, [(False, True)] * 3
    found = whole([all_of, none_of, [(False, False)] * 3], [], 0.5).whole
    assert found.student.high - found.student.low > 0.3
    assert found.ratio is not None and found.ratio.low < found.ratio.value < found.ratio.high


def test_what_one_model_lacks_is_counted_for_neither() -> None:
    pairs = [(True, True), (False, True)]
    alone = whole([pairs], [], 0.5)
    assert (alone.whole.student.value, alone.whole.teacher.value, alone.how) == (0.5, 1.0, "items")
    assert alone.weights == {"items": 1.0, TEXT: 0.0}
    only_text = whole([], [(2.0, 1.0, 100)], 0.5)
    assert (only_text.whole.student.value, only_text.whole.teacher.value) == (0.25, 0.5)
    assert only_text.how == TEXT
    assert measure([], None, 0.5, 0) is None
    assert measure([suite("a", pairs)], None, 1.0, 0) is None, "items have no weight"


def test_a_teacher_that_passes_nothing_gives_no_ratio() -> None:
    found = whole([[(True, False), (False, False)]], [], 0.5)
    assert found.whole.teacher.value == 0 and found.whole.ratio is None
    assert "Q_s/Q_t" not in [row[0] for row in table(found)]


def test_table_and_report_say_both_models_and_bits_per_byte() -> None:
    found = whole([[(True, True), (False, True)]], [(3.0, 1.0, 100), (2.0, 1.0, 100)], 0.25)
    rows = table(found)
    assert all(len(row) == len(COLUMNS) for row in rows)
    by_name = {(row[0], row[1]): row[2] for row in rows}
    assert by_name["fixed text, bits/byte", "student"] == 2.5
    assert by_name["fixed text, 2^(-bits/byte)", "teacher"] == 0.5
    assert by_name["Q", "student"] == pytest.approx(0.75 * 0.5 + 0.25 * 2**-2.5, abs=1e-4)
    told = record(found)
    assert strict(told) == told
    assert told["text"]["bits_per_byte"]["student"]["value"] == pytest.approx(2.5)
    assert told["parts"]["suite 0"] == {"items": 2, "student": 0.5, "teacher": 1.0}


def test_more_text_narrows_the_interval() -> None:
    rng = np.random.default_rng(0)
    rows = [(float(one), 1.0, 400) for one in rng.normal(3, 0.3, 64)]
    widths = [score.student.high - score.student.low for n in (4, 64) if (score := whole([], rows[:n], 1.0).text)]
    assert widths[1] < widths[0]
    assert math.isfinite(widths[0])
