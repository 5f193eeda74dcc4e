"""Which figures of a comparison make an export not the student."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from bitnet_core.export.compare import Comparison
from bitnet_core.export.verify import Verification, _closer

SAME = Comparison(
    steps=100,
    max_difference=0.2,
    mean_difference=0.01,
    mean_kl=2e-3,
    agreement=0.5,
    decided_steps=50,
    decided_agreement=0.98,
)
VERIFIED = Verification("llama.cpp", Path("x/student.gguf"), 9, "the student", SAME, [], [], True, 1.0, 1, 2e-3)


def said(**changes: float | None) -> list[str]:
    return [str(problem) for problem in replace(VERIFIED, found=replace(SAME, **changes)).problems()]


def test_what_is_at_its_limit_is_the_student() -> None:
    assert said() == []
    assert said(decided_agreement=None, agreement=0.0) == [], "no step is decided, and rounding may change each"


@pytest.mark.parametrize("kl", [2.1e-3, math.nan])
def test_a_distribution_that_is_farther_away_is_not(kl: float) -> None:
    (problem,) = said(mean_kl=kl)
    assert problem.startswith("student.gguf in llama.cpp has a mean KL of ")
    assert problem.endswith("above 0.002; export it again, and report this if it happens again.")


def test_an_embedding_that_was_rounded_too_much_is_told_how_to_store() -> None:
    """`--embedding` has types that hold a trained embedding, or one that is kept in another type, too coarsely."""
    for problems in ({"mean_kl": 2.1e-3}, {"decided_agreement": 0.9}):
        (problem,) = replace(VERIFIED, found=replace(SAME, **problems), closer="Q8_0").problems()
        assert str(problem).endswith("; export it again with --embedding Q8_0.")


@pytest.mark.parametrize(
    ("kept", "stored", "whole", "closer"),
    [
        *(("", stored, False, "Q8_0") for stored in ("Q4_0", "Q5_0", "Q6_K")),
        *(("", "Q8_0", whole, "F16") for whole in (False, True)),
        *(("Q4_0", stored, False, "Q4_0") for stored in ("Q5_0", "Q6_K", "Q8_0")),
        ("Q4_0", "Q8_0", True, "F16"),
        *((kept, stored, whole, "") for kept, stored in (("Q4_0", "Q4_0"), ("", "F16")) for whole in (False, True)),
    ],
)
def test_a_closer_type_is_offered_where_there_is_one(kept: str, stored: str, whole: bool, closer: str) -> None:
    assert _closer(kept, stored, whole=whole) == closer


def test_what_is_judged_is_the_student_with_inputs_rounded_alike() -> None:
    """Its own rounding to 8 bits can be farther from a runtime that rounds in smaller blocks."""
    assert said(mean_kl=3e-3, rounded_kl=2e-3) == []
    for away in (2.1e-3, math.nan):
        (problem,) = said(mean_kl=1e-3, rounded_kl=away)
        assert "from the student, its inputs rounded alike, above 0.002;" in problem


def test_another_token_on_more_than_two_percent_of_the_decided_steps_is_not() -> None:
    (problem,) = said(decided_agreement=0.975)
    assert "another most likely token on 2.5% of the steps where the margin exceeds its rounding" in problem


def test_other_tokens_are_not() -> None:
    (problem,) = replace(VERIFIED, same_tokens=False).problems()
    assert "cuts texts into other tokens" in str(problem)
