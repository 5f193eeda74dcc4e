"""What the Live tab shows while traces are collected."""

import re
from pathlib import Path

import pytest

from bitnet_core.runs.vitals import Plan
from bitnet_core.settings.values import LimitOptions
from bitnet_core.text import width
from bitnet_tui.app import BitnetApp
from bitnet_tui.view.collecting import collecting_lines
from bitnet_tui.view.panels import figures, summary
from bitnet_tui.view.run_fold import RunFold
from bitnet_tui.view.spans import unstyled
from bitnet_tui.view.watch import ExperimentView, RunShown
from tests.builders import event
from tests.tui.pilots import settled, shown, words
from tests.tui.simulated import SimulatedRun, experiment

_EVENTS = (
    event("trace", prompt_idx=1, tokens=10, kept=10, other_mass_mean=0.1, repaired={"merged_candidates": 4}),
    event("trace", prompt_idx=2, tokens=30, kept=30, other_mass_mean=0.3, prompt="Where\x1b?",
          pieces=["In", " a 東", "\n", "x"],
          piece_other=[0.01, 0.9]),
    event("trace", prompt_idx=3, tokens=10, kept=0, dropped={"no_logprobs": 10}),
    event("metric", answers=3, tokens=50, requests=4, requests_at_once=4, spent_usd=0.25, spent_tokens=90,
          waits_for="the rate that the server allows"),
    event("progress", done=3, total=9, unit="sequences", eta_s=130.0, label="collecting"),
)  # fmt: skip


def _run(events=_EVENTS, state: str = "running") -> RunShown:
    fold = RunFold()
    fold.feed(events)
    plan = Plan(limits=LimitOptions(usd=1.0, tokens=None, requests=None))
    return RunShown("collect-1", "collect", state, fold.view(), "", None, 1.0, 1, 1, None, plan=plan)


@pytest.mark.parametrize("cells", [40, 76, 120])
def test_the_answer_and_every_figure_are_there(cells: int):
    lines = collecting_lines(_run(), cells)
    told = " ".join(unstyled(*lines).split())
    for words_ in (
        "› Where·?", "In a 東↵", "newest answer 30 tokens, the first 4", "coverage 80% of tokens",
        "mean Other 25.0% of probability", "kept 2",
        "mended 1", "rejected 1", "1 no logprobs", "at once 4", "limiter the rate that the server",
        "spent $0.25 of $1.00",
    ):  # fmt: skip
        if cells < 72 or words_ not in ("In a 東↵", "limiter the rate that the server"):
            assert words_ in told, words_
    assert all(width(unstyled(line)) <= cells for line in lines)
    styles = {span.text: span.style for line in lines for span in line}
    assert (styles["In"], styles[" a 東"]) == ("", "shade-4")


def test_before_an_answer_there_is_nothing_and_an_old_run_has_only_figures():
    assert collecting_lines(_run(()), 80) == ()
    old = [event("trace", prompt_idx=1, tokens=10, kept=10, other_mass_mean=0.1)]
    told = unstyled(*collecting_lines(_run(old), 80))
    assert "newest answer appears here" in told
    assert "mended     0" in told


@pytest.mark.parametrize("cells", [40, 76])
def test_only_the_answer_itself_is_drawn_in_other_places_for_another_answer(cells: int):
    def places(pieces: list[str]) -> list[int]:
        one = event("trace", prompt_idx=1, tokens=9, kept=9, prompt="p", pieces=pieces, piece_other=[])
        lines = unstyled(*collecting_lines(_run([one]), cells)).split("\n")
        return [next(row for row, line in enumerate(lines) if part in line) for part in ("newest", "0.25", "› p")]

    assert places(["word"]) == places(["word\n"] * 9)


@pytest.mark.parametrize("cells", range(28, 60))
def test_how_much_of_the_newest_answer_is_shown_is_not_cut(cells: int):
    pieces = ["word "] * 128
    one = event("trace", prompt_idx=1, tokens=512, kept=512, prompt="p", pieces=pieces, piece_other=[])
    (told,) = [row for row in unstyled(*collecting_lines(_run([one]), cells)).split("\n") if "newest" in row]
    assert "128" in told and "512 tokens" in told and "…" not in told


def test_odd_figures_are_left_out():
    odd = [event("trace", prompt_idx=1, tokens=10, kept=10, pieces=["a", "b", "c"], piece_other=[None])]
    assert "abc" in unstyled(*collecting_lines(_run(odd), 80))


def test_what_was_collected_stays_when_the_run_has_ended():
    table = event("table", name="traces", columns=["sequences", "rejected"], rows=[[3, 1]])
    run = _run((*_EVENTS, table), "succeeded")
    told = " ".join(unstyled(*summary(ExperimentView(Path("x"), stage="collect", run=run), 100)).split())
    for words_ in (
        "sequences rejected",
        "› Where·?",
        "newest answer 30 tokens",
        "coverage 80% of tokens",
        "spent $0.25 of $1.00",
    ):
        assert words_ in told, words_
    for words_ in ("limiter", "at once"):
        assert words_ not in told
    assert figures(run, 100) == (), "the table and what stands beside the answer say it all"


async def test_collecting_is_shown_live(home: Path):
    exp = experiment(home, "live")
    collect = SimulatedRun(exp, "collect", alive=True)
    for one in _EVENTS:
        collect._writer.emit(one)
    try:
        async with BitnetApp(home, exp.root).run_test(size=(120, 36)) as pilot:
            await settled(pilot)
            assert "newest answer 30 tokens" in words(pilot)
            assert "coverage 80% of tokens" in words(pilot)
            assert words(pilot).count("2 min") == 2 and "2m 10s" not in words(pilot), "in the rail, and beside it"
            for columns in range(72, 92):
                await pilot.resize_terminal(columns, 24)
                await pilot.pause()
                assert not re.search(r"[^ ] {1,2}following", shown(pilot).split("\n")[0]), columns
    finally:
        collect.end_process()
