"""An answer of one sign again and again, as small students write them: no grader's time grows with its square."""

import time

import pytest

from bitnet_core.suites.graders import grade
from bitnet_core.suites.items import Item
from tests.suites.items import item

ITEMS = {
    "json": item("json", schema={"type": "object"}),
    "tool": item("tool", name="f", arguments={}),
    "number": item("number", value="7"),
    "extract": item("extract", accepted=["x"], rejected=["q"]),
    "text": item("text", contains=["x"], sentences=1),
    "list": item("text", contains=["x"], numbered=2, words=(1, 9)),
}
BEGINNINGS = ("", "```", "1. a\n2. x", "The answer is 7", "not x")
SIGNS = (" ", "\t", "\n", ".", "?!", "`", "```", "'", '"', "(", "[", "{", "\\", "-", "7", "7,", "*", "_", "\u00a0")


def _seconds(one: Item, times: int) -> float:
    """Of processor time, for all answers of this length."""
    began = time.thread_time()
    for begin in BEGINNINGS:
        for sign in SIGNS:
            grade(one, f"{begin}{sign * (times // len(sign))}x")
    return time.thread_time() - began


@pytest.mark.parametrize("kind", ITEMS)
def test_four_times_the_answer_takes_no_sixteen_times_as_long(kind: str) -> None:
    one = ITEMS[kind]
    assert _seconds(one, 500) < 10
    assert _seconds(one, 8000) < 8 * _seconds(one, 2000) + 0.5


def test_an_end_that_never_comes_is_not_looked_for_from_every_beginning() -> None:
    call = "<tool_call>"
    short, long = (_fastest(call * times) for times in (700, 2900))
    assert long < 8 * short + 0.02


def _fastest(answer: str) -> float:
    """The least processor time of five gradings."""
    found = []
    for _ in range(5):
        began = time.thread_time()
        grade(ITEMS["tool"], answer)
        found.append(time.thread_time() - began)
    return min(found)
