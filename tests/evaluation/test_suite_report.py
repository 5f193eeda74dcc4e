"""Teacher and student on suites: the same answers give the same scores, and only common items are compared."""

from bitnet_core.evaluation import suite_report
from bitnet_core.suites.items import load_suites
from bitnet_core.suites.run import Unanswered, grade_answers

SUITES = load_suites(["json", "tools"], None, 10)
REFERENCES = [item.reference for items in SUITES.values() for item in items]
SOME = {place: text if place % 3 else "no" for place, text in enumerate(REFERENCES)}


def test_the_teacher_as_its_own_student_scores_the_same() -> None:
    graded = grade_answers(SUITES, SOME)
    verdicts = suite_report.teacher_verdicts({"checks": suite_report.record(graded, 3, 96, "x")})
    assert len(verdicts) == 20
    both = suite_report.common(graded, verdicts, 3)
    assert both is not None
    assert both.items == 20
    assert both.student == both.teacher
    assert all(row[-2] == row[-1] == row[3] for row in suite_report.compared_table(graded, verdicts, 3))


def test_only_items_that_both_answered_are_compared() -> None:
    teacher = grade_answers(SUITES, {place: text for place, text in SOME.items() if place != 1})
    student = grade_answers(SUITES, {**dict(enumerate(REFERENCES)), 2: Unanswered("refused")})
    verdicts = suite_report.teacher_verdicts({"checks": suite_report.record(teacher, 3, 96, "x")})
    both = suite_report.common(student, verdicts, 3)
    assert both is not None
    assert both.items == 18
    assert both.student.value == 1
    assert both.teacher.value < 1


def test_a_baseline_of_anything_compares_nothing() -> None:
    for checks in (None, 7, {}, {"answers": 7}, {"answers": [None, {"hash": 3}, {"hash": "a", "passed": "yes"}]}):
        assert suite_report.teacher_verdicts({"checks": checks}) == {}
    assert suite_report.common(grade_answers(SUITES, SOME), {}, 3) is None
