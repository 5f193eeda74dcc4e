"""Student and teacher on the same items: equal models give 1, and whoever can't answer is named."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.benchmarks import (
    COLUMNS,
    Comparison,
    Open,
    Side,
    record,
    score_both,
    table,
    with_outside,
)
from bitnet_core.runs.events import Alert
from bitnet_core.runs.reporter import Reporter
from bitnet_core.runs.strict_json import strict
from bitnet_core.suites import benchmarks
from bitnet_core.suites.likelihood import OnDone, Scored, TextScorer
from bitnet_core.suites.outside import OutsideScore, OutsideScores
from bitnet_core.suites.requests_file import load_task
from tests.suites import small_wheel
from tests.suites.test_fetch import stored


def heard(alerts: list[str]) -> Reporter:
    return Reporter(lambda event: alerts.append(event.message) if isinstance(event, Alert) else None)


class Fixed(TextScorer):
    """Likes the choice of one number (see `small_wheel.choice_requests`), and fails where the context says so."""

    def __init__(self, liked: int, fails: str = "") -> None:
        self._liked, self._fails = liked, fails

    def score(self, pairs: Sequence[tuple[str, str]], on_done: OnDone = lambda _done: None) -> list[Scored | None]:
        on_done(len(pairs))
        return [
            None if before == self._fails else Scored(-float(len(after)) - (f" a{self._liked}" not in after), False)
            for before, after in pairs
        ]


def opening(scorer: TextScorer) -> Open:
    @contextlib.contextmanager
    def opened() -> Iterator[TextScorer]:
        yield scorer

    return opened


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_wheel.packed(small_wheel.members())
    package = small_wheel.package(data)
    stored(data, tmp_path)
    monkeypatch.setenv("BITNET_CACHE", str(tmp_path))
    table = {kind: small_wheel.benchmark(package, kind, kind) for kind in ("choice", "text")}
    monkeypatch.setattr(benchmarks, "BENCHMARKS", table)


def compared(student: TextScorer, teacher: TextScorer, reporter: Reporter | None = None) -> list[Comparison]:
    sides: dict[Side, Open] = {"student": opening(student), "teacher": opening(teacher)}
    tasks = [load_task(name) for name in ("choice", "text")]
    return score_both(tasks, sides, reporter or Reporter(), 0)[0]


def test_equal_models_give_a_ratio_of_one_without_spread(small: None) -> None:
    for one in compared(Fixed(1), Fixed(1)):
        ratio = one.ratio(0)
        assert ratio is not None
        assert (ratio.value, ratio.low, ratio.high) == (1.0, 1.0, 1.0)


def test_scores_ratio_and_report(small: None) -> None:
    choice, text = found = compared(Fixed(7), Fixed(1))
    # Two of six items have choice 1 as the right one; who likes none takes the first, which two others have.
    assert choice.measured["student"].values == [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    assert choice.measured["teacher"].values == [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    ratio = choice.ratio(0)
    assert ratio is not None and ratio.value == 1.0 and ratio.low < 1 < ratio.high
    rows = table(found, 0)
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert [row[2] for row in rows if row[1] == "student"] == ["accuracy_normalised", "accuracy", "bits_per_byte"]
    report = record(found, None, 0)
    assert strict(report) == report
    assert report["benchmarks"]["text"]["student"]["main"] == "bits_per_byte"
    assert text.quality("teacher") == text.measured["teacher"].quality


def test_the_ratio_is_on_items_that_both_answered(small: None) -> None:
    alerts: list[str] = []
    choice, _ = compared(Fixed(1), Fixed(1, fails="Q1:"), heard(alerts))
    assert choice.measured["teacher"].unanswered == 1
    assert "choice, teacher: 1 of 6 items got no score" in alerts[0]
    ratio = choice.ratio(0)
    assert ratio is not None and ratio.value == 1.0


def test_a_teacher_that_can_not_score_is_said_and_the_student_still_scored(small: None) -> None:
    @contextlib.contextmanager
    def refusing() -> Iterator[TextScorer]:
        raise BitnetError("it gives no probabilities of a text")
        yield

    alerts: list[str] = []
    sides: dict[Side, Open] = {"student": opening(Fixed(1)), "teacher": refusing}
    [choice], closed = score_both([load_task("choice", 3)], sides, heard(alerts), 0)
    assert "student" in choice.measured and "teacher" not in choice.measured
    assert choice.quality("teacher") is None and choice.ratio(0) is None
    assert (closed, alerts) == ({"teacher": "it gives no probabilities of a text"}, [])
    assert record([choice], 3, 0)["benchmarks"]["choice"]["teacher"] is None


def test_scores_from_outside_stand_in(small: None) -> None:
    outside = OutsideScores(student={"mmlu": OutsideScore(0.4, 100, (0.3, 0.5))})
    [mmlu] = with_outside(score_both([], {}, Reporter(), 0)[0], outside)
    assert table([mmlu], 0) == [["mmlu", "student", "score", 0.4, 0.3, 0.5, 100, 0, "given"]]
    told = record([mmlu], None, 0)["benchmarks"]["mmlu"]
    assert told["student"]["origin"] == "given" and told["teacher"] is None and told["ratio"] is None


def test_a_benchmark_that_is_not_here_stops_before_any_is_scored(
    small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BITNET_CACHE", str(tmp_path / "empty"))
    with pytest.raises(BitnetError, match="bitnet bench get choice"):
        compared(Fixed(1), Fixed(1))
