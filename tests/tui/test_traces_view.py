"""What is drawn of traces: text laid out token by token, lists, bars and legends, whatever is in them."""

import math
import string
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.text import width
from bitnet_tui.services.tracing import Scoring
from bitnet_tui.shell import Shell
from bitnet_tui.view.candidates import bar
from bitnet_tui.view.spans import cells_of, unstyled
from bitnet_tui.view.traces import lines, scoring, token
from bitnet_tui.view.traces.columns import Order, heading
from bitnet_tui.view.traces.found import (
    Candidate,
    Page,
    Rejects,
    Row,
    Scored,
    Step,
    Token,
    Trace,
    next_in,
    of_answer,
    worst_first,
)
from bitnet_tui.view.traces.text import SIGN_CELLS, Laid
from bitnet_tui.widgets import scoring_line

_TEXTS = st.one_of(
    st.text(string.ascii_lowercase + "  \n", max_size=9),
    st.sampled_from(["東京", " 🌧", "", "\x1b[2J", "\n\n", " a" * 40]),
)
_VALUES = st.one_of(st.none(), st.floats(0, 20), st.just(math.nan))


def _tokens(texts: list[str]) -> list[Token]:
    return [Token(place, text, text) for place, text in enumerate(texts)]


@given(st.lists(_TEXTS, max_size=40), st.integers(2, 60))
def test_every_token_is_in_the_text_once_and_where_it_is_clicked(texts: list[str], cells: int):
    laid = Laid(_tokens(texts), cells)
    seen: dict[int, str] = {}
    for row, pieces in enumerate(laid.lines):
        at = 0
        for piece in pieces:
            assert piece.begin == at
            at = piece.end
            seen[piece.position] = seen.get(piece.position, "") + piece.text
            for x in range(piece.begin, piece.end):
                assert laid.at(x, row) == piece.position
        assert at <= max(cells, 2)
        assert laid.at(at + 5, row) == pieces[-1].position
    assert list(seen) == list(range(len(texts)))
    assert laid.at(0, len(laid.lines)) is None
    for top in range(len(laid.lines)):
        some = laid.drawn(top, 2, 0, "other")
        signs = [one[-1].text if one[-1].style == "key" else "" for one in some]
        assert signs == ["↑" if top else "", "↓" if top + 2 < len(laid.lines) else ""][: len(some)]
        assert all(cells_of(one) == cells + SIGN_CELLS for one, sign in zip(some, signs, strict=True) if sign)
    drawn = unstyled(*laid.drawn(0, len(laid.lines), 0, "other"))
    assert "\x1b" not in drawn
    for place, text in enumerate(texts):
        assert laid.lines[laid.row(place)][0].begin == 0
        if text.isascii() and text.isprintable() and text.strip():
            assert seen[place].strip(" ") == text.strip(" ") or seen[place].lstrip() == text.lstrip()


def test_the_cursor_shows_the_shade_of_its_token():
    laid = Laid([Token(0, "The", "The", kl=17.0), Token(1, " end", " end", kl=0.1)], 12)
    assert [one.style for one in laid.drawn(0, 9, 0, "kl")[0]] == ["chosen-shade-4", ""]
    assert [one.style for one in laid.drawn(0, 9, 1, "kl")[0]] == ["shade-4", "chosen"]


def test_words_stay_whole_and_lines_end_where_the_text_does():
    laid = Laid(_tokens(["The", " straw", "berry", " is", "\n", "\n", "red"]), 12)
    assert unstyled(*laid.drawn(0, 9, -1, "other")) == "The\nstrawberry\nis↵\n↵\nred"
    assert laid.moved(2, -1) == 0
    assert laid.moved(0, 1) == 1
    assert laid.moved(6, 5) == 6
    assert Laid([], 10).moved(0, 1) == 0


@given(st.lists(st.tuples(_VALUES, _VALUES), max_size=30))
def test_the_worst_tokens_follow_one_another_and_come_round(values):
    tokens = [Token(place, "a", "a", kl=kl, other=other) for place, (kl, other) in enumerate(values)]
    order = worst_first(tokens, "kl")
    known = {place: kl for place, (kl, _) in enumerate(values) if kl is not None and math.isfinite(kl)}
    assert sorted(order) == sorted(known)
    assert [known[place] for place in order] == sorted(known.values(), reverse=True)
    seen, here = [], -1
    for _ in order:
        here = next_in(order, here)
        seen.append(here)
    assert seen == order
    assert next_in(order, here) == (order[0] if order else None)


@given(
    st.builds(
        Row, st.integers(0, 10**6), st.text(max_size=80), st.integers(0, 10**6), st.text(max_size=20), st.booleans(),
        _VALUES, _VALUES,
    ),
    st.integers(24, 120),
)  # fmt: skip
def test_a_row_fits_its_line_whatever_is_in_it(row: Row, cells: int):
    for one in (row, None):
        assert width(unstyled(lines.row_line(one, cells, scored=True))) == cells
    assert width(unstyled(heading(cells, Order("number"), scored=False))) == cells
    trace = Trace(**{name: getattr(row, name) for name in Row.__struct_fields__}, positions=[], completion_tokens=3)
    assert all(width(unstyled(one)) <= cells for one in lines.head_lines(trace, cells))


def test_how_a_trace_ended_is_said_in_full_in_80_columns():
    trace = Trace(
        prompt_idx=58, prompt="Who painted the Mona Lisa?", tokens=96, finish_reason="length", other=0.106, kl=5.3,
        positions=[], completion_tokens=96, scored=Scored(mean_kl=3.99),
    )  # fmt: skip
    assert unstyled(lines.head_lines(trace, 78)[1]).endswith("96 tokens · KL 5.30 (mean 3.99) · Other 10.6%")
    assert unstyled(lines.head_lines(trace, 100)[1]).endswith("Other 10.6% (outside the top-k)")


@given(st.integers(20, 120), st.integers(2, 15), st.text(max_size=9), _VALUES, st.booleans())
def test_a_token_fits_its_room_and_shows_the_one_that_was_sampled(cells, rows, sampled, value, student):
    candidates = [Candidate(f"c{place}", 0.1, value) for place in range(12)] + [Candidate(sampled, 0.01, value)]
    own = [Candidate("own", 0.5)] if student else None
    shown = Token(3, sampled, sampled, candidates=candidates, other=0.2, student_other=value, student_top=own)
    drawn = token.token_lines(shown, 40, cells, rows)
    assert len(drawn) <= rows
    assert all(width(unstyled(one)) <= max(cells, 44) for one in drawn)
    if rows >= 6:
        assert sum(one[0].text == "› " for one in drawn[1:] if len(one) > 2) >= 1
        assert token.OTHER in unstyled(*drawn)
        listed = sum(len(one) > 2 for one in drawn) - 1
        assert (f"{listed} of 13" in unstyled(*drawn)) == (listed < 13), "the rest is not missed"


def test_a_bar_is_as_long_as_its_value():
    assert [bar(value, 4) for value in (None, 0.25, 0.3, 1.0, 7.0)] == ["    ", "█   ", "█▎  ", "████", "████"]


def test_a_piece_of_a_teachers_token_and_what_the_student_would_say_are_told():
    step = Step(" strawberry", 4, 2)
    inside = Token(5, "berry", "berry", teacher=step, structure=True, student=0.25, student_top=[])
    told = unstyled(*token.token_lines(inside, 9, 80, 6))
    assert "piece 2 of 2; the teacher has ␣strawberry whole" in told
    assert "{} structure" in told
    assert "trained by cross-entropy alone" in told
    first = Token(
        4, " straw", " straw", teacher=step, kl=2.0, other=0.1, student_other=0.3,
        candidates=[Candidate(" straw", 0.9, 0.01)], student_top=[Candidate(" rasp", 0.5), Candidate(" straw", 0.01)],
    )  # fmt: skip
    told = unstyled(*token.token_lines(first, 9, 80, 9))
    assert "KL 2.00" in told
    assert "student's first ␣rasp 0.50   ␣straw 0.010" in told
    assert "0.900" in told


def test_what_the_student_would_say_first_is_told_though_its_row_is_out_of_sight():
    candidates = [Candidate(f"c{place}", 0.1, 0.3 if place == 7 else 0.0) for place in range(8)]
    top = [Candidate("c7", 0.3), Candidate("2", 0.06)]
    shown = Token(3, "c0", "c0", candidates=candidates, other=0.2, student_other=0.5, student_top=top)
    assert "student's first c7 0.30   2 0.060" in unstyled(*token.token_lines(shown, 9, 80, 6))
    all_in_sight = msgspec.structs.replace(shown, student_top=top[:1])
    assert "student's first" in unstyled(*token.token_lines(all_in_sight, 9, 80, 10))
    assert "student's first" not in unstyled(*token.token_lines(all_in_sight, 9, 80, 11))


def test_shades_differ_at_their_limits_and_the_legend_says_of_which_student():
    assert [lines.shade(value, "other") for value in (None, 0.0, 0.02, 0.3, 0.9)] == [
        "", "", "shade-1", "shade-3", "shade-4",
    ]  # fmt: skip
    assert "student of step 7 A4" in unstyled(lines.legend("kl", Scored(7, 4), 90))
    old = Scored(7, 4, outdated="the newest is step 9")
    for shading in ("kl", "other"):
        assert "↻ KL of step 7: the newest is step 9" in unstyled(lines.legend(shading, old, 110))
    assert width(unstyled(lines.legend("kl", old, 30))) <= 30
    assert unstyled(lines.legend("other", None, 40)) == "teacher's Other  0.02  0.1  0.25  0.5 "


def test_rejects_and_counts_in_words():
    found = {"rejected": [{"reason": "no_logprobs", "answers": 2, "examples": [
        {"prompt_idx": 3, "prompt": "why\x1b", "answer": "", "finish_reason": None}]}]}  # fmt: skip
    told = unstyled(*lines.reject_lines(of_answer(Rejects, found), 60))
    assert told.splitlines()[0] == "no logprobs  2 answers"
    assert "3  why·" in told
    assert "no text" in told
    assert "No answer was rejected." in unstyled(*lines.reject_lines(Rejects([]), 60))
    assert unstyled(lines.found_line(Page(220, 3, 0, []), 60)) == "3 of 220 traces match"
    with pytest.raises(BitnetError, match="an unexpected answer"):
        of_answer(Page, {"total": "many"})


@pytest.mark.parametrize("there", [True, False])
def test_scoring_an_experiment_that_was_renamed_meanwhile_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    class Host:
        def call_later(self, *_: object) -> None:
            pass

        def at_work(self, _: object) -> AbstractContextManager[None]:
            return nullcontext()

    def fails(_: Scoring) -> int:
        raise BitnetError("scores.parquet can't be written; choose another place.")

    monkeypatch.setattr(Scoring, "score", fails)
    scored = Scoring(tmp_path, tmp_path / ("" if there else "renamed"))
    scoring_line._run(cast("Shell", Host()), scored)
    assert (scored.problem == scoring.GONE) == (not there)


def test_one_trace_is_no_traces() -> None:
    assert scoring.ended(1, 20) == "Scored the one held-out trace of 20"
    assert scoring.ended(7, None) == "Scored the 7 held-out traces"
