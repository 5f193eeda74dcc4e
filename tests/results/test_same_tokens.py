"""After how many tokens trainings that have not seen the same are put beside each other, and how they stand there."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.results.compare import Comparison, compare
from bitnet_core.results.finding import reader_of
from bitnet_core.results.same_tokens import SAME_TOKENS, standings
from tests.results.trainings import made, trained
from tests.tui.simulated import NOON, SimulatedRun

_CURVES = st.lists(st.lists(st.integers(0, 300), unique=True, max_size=12).map(sorted), min_size=2, max_size=4)


@given(_CURVES)
def test_it_is_where_the_first_was_measured_last(seen: list[list[int]]):
    curves = [[(float(tokens), 9 - tokens / 50) for tokens in some] for some in seen]
    after, found = standings(curves)
    end = min((some[-1] for some in seen if some), default=0)
    known = end > 0 and all(some and some[0] * (1 - SAME_TOKENS) <= end for some in seen)
    assert after == (end if known else 0) and bool(found) == known
    for some, one in zip(seen, found, strict=False):
        assert one.value == pytest.approx(9 - one.tokens / 50)
        assert one.measured == any(abs(tokens - end) <= SAME_TOKENS * max(tokens, end) for tokens in some)
        assert one.bounds[0] <= one.value <= one.bounds[1]


def test_what_is_between_two_measurements_is_lower_only_beyond_both():
    """From the start the loss falls steeply, so a line from there says nothing."""
    long = [(0.0, 12.4), (30.0, 6.7), (60.0, 6.0)]
    for x, value, words, below, above in (
        (20.0, 7.1, "between 6.70 and 12.4", False, False),
        (20.0, 6.5, "between 6.70 and 12.4", True, False),
        (45.0, 6.3, "about 6.35", False, False),
        (45.0, 5.9, "about 6.35", True, False),
        (45.0, 6.8, "about 6.35", False, True),
        (60.5, 6.1, "6.000", False, True),
    ):
        _, (short, other) = standings([[(0.0, 12.4), (x, value)], [*long, (90.0, 5.5)]])
        assert (other.words, short.below(other), other.below(short)) == (words, below, above)


def compared(home: Path, *names: str) -> Comparison:
    return compare([reader_of(name, home).read() for name in names])


def test_finished_trainings_of_other_lengths_are_put_beside_each_other_after_the_same_tokens(home: Path):
    trained(made(home, "long"), 5.21)
    trained(made(home, "short", BUDGET_TOKENS=15_000), 5.0, last=15)
    said = compared(home, "long", "short").sentence
    assert said.startswith(
        "A saw 33% more tokens than B; at 15k B was lower (6.000 against 6.210). A looks better on held-out"
    )
    assert "Seen: A 20k, B 15k tokens." in said
    assert "saw" not in compared(home, "long", "long").sentence
    brief = trained(made(home, "brief", BUDGET_TOKENS=4_000), 9.5, last=4)
    brief.emit("metric", step=4, seen_tokens=4_000, heldout_loss=9.5, heldout_ce=4.0)
    said = compared(home, "brief", "long").sentence
    assert said.startswith(
        "B saw 5 times as many tokens as A; there is no number of tokens after which both were measured. "
    )
    for step, loss, words in (
        (6, 8.0, "they were level: A 8.000, B about 8.01. B looks better"),
        (7, 7.0, "A was lower (7.000 against about"),
    ):
        brief.emit("metric", step=step, seen_tokens=6_000, heldout_loss=loss, heldout_ce=4.0)
        assert f"B saw 5 times as many tokens as A; at 6k {words}" in compared(home, "brief", "long").sentence
    trained(made(home, "equal", BUDGET_TOKENS=15_000), 5.21, last=15)
    assert compared(home, "long", "equal").sentence.startswith(
        "A saw 33% more tokens than B; at 15k they were level at 6.210. "
    )
    start = SimulatedRun(made(home, "start"), "train", NOON)
    for seen, loss in ((0, 12.36), (29_548, 6.67), (126_000, 5.5)):
        start.emit("metric", step=seen // 1000, seen_tokens=seen, loss=loss, heldout_loss=loss, heldout_ce=4.0)
    start.finish()
    said = [compared(home, other, "start").sentence for other in ("long", "brief")]
    assert said[0].startswith(
        "B saw 6.3 times as many tokens as A; at 20k A was lower (5.210; B between 6.67 and 12.4). "
    )
    assert said[1].startswith("B saw 32 times as many tokens as A; at 6k A was at 7.000, B between 6.67 and 12.4. ")
    said = compared(home, "short", "brief", "long").sentence
    assert said.startswith("They have not seen the same number of tokens. After 6k tokens held-out loss is A about ")


@pytest.mark.parametrize(
    ("flip", "words"),
    [(15_000, "After 15k tokens B had flipped to 4-bit activations, A had not."), (15_500, "")],
)
def test_bits_that_differ_after_the_same_tokens_are_said(home: Path, flip: int, words: str):
    trained(made(home, "long"), 5.21)
    exp = made(home, "short", BUDGET_TOKENS=15_000)
    run = trained(exp, 5.0, last=15)
    run.emit("flip", step=15, seen_tokens=flip, from_bits=8, to_bits=4)
    said = compared(home, "long", "short").verdict
    assert "at 15k B was lower (6.000 against 6.210)." in said.headline
    assert words in said.reasons and ("flipped" in said.reasons) == bool(words)
