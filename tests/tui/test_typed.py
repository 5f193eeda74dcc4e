"""Counts as people type them."""

import pytest

from bitnet_core.text import count
from bitnet_tui.view.play.form import asked_of
from bitnet_tui.view.typed import plain_count, plain_value


@pytest.mark.parametrize(
    ("typed", "plain"),
    [
        ("60k", "60000"), ("60 K", "60000"), ("1.5M", "1500000"), ("2g", "2000000000"), ("60,000", "60000"),
        ("1 500 000", "1500000"), ("7", "7"), (count(87_400), "87400"), (count(10**6), "1000000"),
        (count(3 * 10**12), "3000000000000"), ("1.5B", "1500000000"), ("60\u202f000", "60000"),
    ],
)  # fmt: skip
def test_a_count_is_taken_as_the_app_writes_it(typed: str, plain: str) -> None:
    assert plain_count(typed) == plain


@pytest.mark.parametrize("typed", ["", "60.000", "1.2345k", "1,5M", "1,50", "-5", "5e3", "60_000", "many", "9" * 99])
def test_what_may_mean_something_else_stays_as_it_was_typed(typed: str) -> None:
    assert plain_count(typed) == typed


def test_only_settings_that_are_counts_are_read_so() -> None:
    assert plain_value("BUDGET_TOKENS", "60k") == "60000"
    assert plain_value("TEACHER_MODEL", "60k") == "60k"
    assert plain_value("LR", "1k") == "1k"


def test_the_playground_reads_its_counts_so_too() -> None:
    form = {"prompt": "Hi", "system": "", "temperature": "0", "length": "1k", "seed": "1,234"}
    asked = asked_of(form, 8)
    assert not isinstance(asked, str), asked
    assert (asked.length, asked.seed) == (1000, 1234)
