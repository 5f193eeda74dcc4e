"""The Traces tab: a journey by keyboard and by mouse."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot

from bitnet_core.cli import browsing
from bitnet_core.errors import BitnetError
from bitnet_core.settings.resolve import resolve
from bitnet_core.text import significant
from bitnet_core.traces import schema, writer
from bitnet_core.traces.scores import FILE, TokenScores
from bitnet_tui.app import BitnetApp
from bitnet_tui.services import tracing
from bitnet_tui.services.tracing import TraceSession
from bitnet_tui.view.traces.found import worst_first
from bitnet_tui.widgets.token_text import TokenText
from bitnet_tui.widgets.trace_list import TraceList
from bitnet_tui.widgets.traces_pane import TracesPane
from tests.traces.scored import scored
from tests.traces.sets import ORIGIN, TOKENIZER, metadata, sequence
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import click_on, notices, said, settled, shown, until, words
from tests.tui.simulated import SimulatedRun, experiment


@pytest.fixture
def root(home: Path) -> Path:
    exp = experiment(home, "traced")
    sequences = [sequence(index) for index in range(20)]
    writer.write_shard(exp.data, 0, metadata([one.request_key for one in sequences]), ORIGIN, sequences)
    writer.write_sequences(exp.data, 1, metadata([]))
    TOKENIZER.save(exp.data / schema.TOKENIZER_FOLDER)
    return exp.root


@pytest.fixture
def here(home: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are answered in this process, by what answers them in the other one."""
    traces = browsing.Traces(resolve({"BITNET_HOME": str(home)}, root=root).settings)

    def ask(_: TraceSession, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return browsing._answers(traces, browsing.Request(**request))
        except BitnetError as error:
            raise BitnetError(str(error)) from error

    monkeypatch.setattr(TraceSession, "ask", ask)


def _worst(made: dict[int, TokenScores]) -> list[tuple[float, int, int]]:
    """Value, trace and position of every scored token, the worst first."""
    every = [(float(kl), index, at) for index, one in made.items() for at, kl in enumerate(one.kl_C) if kl == kl]
    return sorted(every, reverse=True)


def _told(pilot: Pilot[None]) -> str:
    return said(pilot, "#trace-token")


async def test_rows_that_break_a_rule_are_told(home: Path, root: Path, recorder: RecordingLaunch):
    """By the real command, in a process of its own."""
    shard = root / "data" / "kd_shard_000.parquet"
    async with BitnetApp(home, root, recorder).run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        for told in ("Traces: No row breaks a rule.", "✗ Traces: "):
            await pilot.press("2", "i")
            await until(pilot, lambda told=told: any(one.startswith(told) for one in notices(pilot)))
            shard.write_bytes(shard.read_bytes()[:-40])
        # A long path is broken anywhere.
        await until(pilot, lambda: any(shard.name in one.replace(" ", "") for one in notices(pilot)))


async def test_a_journey_through_the_traces(
    home: Path, root: Path, here: None, monkeypatch: pytest.MonkeyPatch, recorder: RecordingLaunch
):
    def score(_: tracing.Scoring) -> int:
        made.update(scored(root / "data", root / "reports" / FILE))
        return len(made)

    made: dict[int, TokenScores] = {}
    monkeypatch.setattr(tracing.Scoring, "score", score)
    async with BitnetApp(home, root, recorder).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("2", "down")
        await settled(pilot)
        assert "prompt 1 " in said(pilot, "#trace-head")
        assert "Shaded by teacher's Other" in shown(pilot)
        assert "N Least sure of all" in shown(pilot) and "Worst" not in shown(pilot)
        bar = pilot.app.screen.query_one("#trace-going").region
        await pilot.press("o", "G")  # whoever asks for the errors then wants them first
        await settled(pilot)
        await click_on(pilot, "S Score student")
        order = _worst(made)
        assert "Score again" in shown(pilot) and "least sure" not in shown(pilot)
        means = {index: float(np.nanmean(one.kl_C)) for index, one in made.items()}
        listed = pilot.app.screen.query_one(TraceList)
        worst_there = next(value for value, index, _ in order if index == max(means, key=means.__getitem__))
        assert pilot.app.screen.query_one("#trace-going").region == bar
        ranked = "Worst token number {} in the 7 held-out traces of 20; N goes to number {}."
        assert ranked.format(1, 2) in words(pilot)
        (first, index, at), (second, other, _) = order[:2]
        assert f"prompt {index} " in said(pilot, "#trace-head")
        assert f"{at + 1} of " in _told(pilot)
        assert f"KL {significant(first)}" in _told(pilot)
        assert "Shaded by KL" in shown(pilot)
        assert listed.row is not None
        assert listed.row.prompt_idx == index, "the list highlights what is shown"
        await click_on(pilot, "N Worst of all")
        assert f"prompt {other} " in said(pilot, "#trace-head")
        assert listed.row.prompt_idx == other
        assert f"KL {significant(second)}" in _told(pilot)
        assert ranked.format(2, 3) in words(pilot)
        own = [one for one in order if one[1] == other]
        await pilot.press("n")
        await settled(pilot)
        assert f"KL {significant(own[1][0])}" in _told(pilot)
        await click_on(pilot, "n Worst token")
        assert f"KL {significant(own[2][0])}" in _told(pilot)
        await pilot.press("N", "N")  # faster than traces come
        await settled(pilot)
        value, index, at = order[order.index(own[2]) + 2]
        assert f"prompt {index} " in said(pilot, "#trace-head")
        assert f"{at + 1} of " in _told(pilot)
        assert f"KL {significant(value)}" in _told(pilot)
        await pilot.press("S")
        await settled(pilot)
        assert ranked.format(1, 2) in words(pilot), "another scoring begins anew"
        pane = pilot.app.screen.query_one(TracesPane)
        with monkeypatch.context() as slow:
            slow.setattr(pane._requests, "ask", lambda _: None)
            await pilot.press("N")
            await settled(pilot)
            assert ranked.format(1, 2) in words(pilot), "what is said is of the token that is shown"
            pane.on_trace_list_highlighted(TraceList.Highlighted(listed.row, chosen=False))
            assert pane._goto is not None, "a list that is read on the way does not end it"
        pane._goto = None

        await click_on(pilot, "c Shaded by KL")
        assert "Shaded by teacher's Other" in shown(pilot)
        text = pilot.app.screen.query_one(TokenText)
        piece = text._laid.lines[0][3]
        await pilot.click(TokenText, offset=(piece.begin, 0))
        assert text.token is not None
        assert text.token.position == piece.position
        await pilot.press("left", "left", "end", "home", "right")
        assert text.token.position == 1

        await pilot.press("slash", *"prompt 1")
        await settled(pilot)
        assert "18" not in shown(pilot).split("ended")[0]
        await click_on(pilot, "prompt 12")
        assert "prompt 12 " in said(pilot, "#trace-head")
        await pilot.press("R")
        await settled(pilot)
        assert "No answer was rejected." in shown(pilot)
        await pilot.press("escape")
        await click_on(pilot, "o Sorted by KL")
        await click_on(pilot, "o Sorted by Other's mass")
        assert "o Sorted by number" in shown(pilot)
        await pilot.press("o")
        assert "o Sorted by KL" in shown(pilot)
        for title, arrow, longest in ((" tok  ended", "▾tok  ended", True), ("▾tok", "▴tok", False)):
            await click_on(pilot, title)
            assert arrow in shown(pilot) and "o Sorted by tokens" in shown(pilot)
            first, second = listed._row(0), listed._row(1)
            assert first is not None and second is not None and (first.tokens >= second.tokens) is longest
        await click_on(pilot, "o Sorted by tokens")
        assert "▾KL" in shown(pilot)
        await pilot.press("escape")
        await settled(pilot)
        assert f"prompt {max(means, key=means.__getitem__)} " in shown(pilot).split("ended")[1].splitlines()[1]
        assert f"KL {significant(worst_there)}" in _told(pilot), "by KL, a trace begins at its worst token"
        assert pilot.app.screen.query("#run"), "escape left the search, not the experiment"
        await pilot.press("o", "slash", *"prompt 12", "enter", "enter", "right", "right")
        await settled(pilot)
        left_at = said(pilot, "#trace-head"), _told(pilot)
        pilot.app.go_home()
        await settled(pilot)
        await pilot.press("enter", "2")
        await settled(pilot)
        assert (said(pilot, "#trace-head"), _told(pilot)) == left_at, "it opens where it was left"
        assert "o Sorted by Other's mass" in shown(pilot)


async def test_scoring_that_ends_leaves_alone_who_does_something_else(
    home: Path, root: Path, here: None, monkeypatch: pytest.MonkeyPatch, recorder: RecordingLaunch
):
    def score(one: tracing.Scoring) -> int:
        one.done, one.total = 3, 7
        assert searching.wait(30)
        made.update(scored(root / "data", root / "reports" / FILE))
        return len(made)

    searching = threading.Event()
    made: dict[int, TokenScores] = {}
    monkeypatch.setattr(tracing.Scoring, "score", score)
    async with BitnetApp(home, root, recorder).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("2", "down")
        await settled(pilot)
        await pilot.press("S", "n")
        await until(pilot, lambda: "Scoring the newest student: 3 of 7 traces, " in words(pilot))
        await pilot.press("N")
        await until(pilot, lambda: "Ranked by Other's mass until the student is scored." in words(pilot))
        assert "Scoring the newest student: 3 of 7 traces, " in words(pilot), "what goes on stays told"
        await pilot.press("slash")
        searching.set()
        await settled(pilot)
        assert "Scored the 7 held-out traces of 20; N goes to" in words(pilot)
        assert "Scoring the newest" not in words(pilot)
        assert pilot.app.focused is pilot.app.screen.query_one("#trace-search")
        await pilot.press("escape")
        await settled(pilot)
        pane = pilot.app.screen.query_one(TracesPane)
        for key, chosen in (("down", 1), ("o", 0)):  # before the worst trace is there
            with monkeypatch.context() as slow:
                waiting: list[dict[str, Any]] = []
                slow.setattr(pane._requests, "ask", waiting.append)
                await pilot.press("S")
                await settled(pilot)
                pilot.app.screen.query_one(TraceList).focus()
                await pilot.press(key)
                await settled(pilot)
            for request in waiting:
                pane._requests.ask(request)
            await settled(pilot)
            row, text = pilot.app.screen.query_one(TraceList)._row(chosen), pilot.app.screen.query_one(TokenText)
            assert row is not None and f"prompt {row.prompt_idx} " in said(pilot, "#trace-head")
            assert text.token is not None and pane._trace is not None
            worst = worst_first(pane._trace.positions, "kl")[0]
            assert text.token.position == (0 if key == "o" else worst), "only by KL, at the worst of its tokens"


@pytest.mark.parametrize("fails", [False, True])
async def test_scoring_goes_on_when_its_screen_is_closed(
    home: Path, root: Path, here: None, monkeypatch: pytest.MonkeyPatch, recorder: RecordingLaunch, fails: bool
):
    def score(one: tracing.Scoring) -> int:
        one.done, one.total = 3, 7
        assert away.wait(30)
        if fails:
            raise BitnetError("The student can't be read.")
        return len(scored(root / "data", root / "reports" / FILE))

    away = threading.Event()
    monkeypatch.setattr(tracing.Scoring, "score", score)
    async with BitnetApp(home, launch=recorder).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("2", "S", "escape")
        await until(pilot, lambda: "by number" not in shown(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "7 Log" in words(pilot))
        await pilot.press("2")
        await until(pilot, lambda: "Scoring the newest student: 3 of 7 traces, " in words(pilot))
        assert "Stop scoring" in shown(pilot)
        room = pilot.app.screen.query_one("#trace-search").region
        await pilot.press("escape")
        await until(pilot, lambda: "by number" not in shown(pilot))
        for key, asked in (("r", "The student of traced is being scored; stop it"), ("x", "is being scored; stop"),
                           ("q", "Quit while the student of traced is being scored?")):  # fmt: skip
            await pilot.press(key)
            await until(pilot, lambda asked=asked: asked in words(pilot))
            await pilot.press("escape")
            await until(pilot, lambda asked=asked: asked not in words(pilot))
        away.set()
        told, shown_then = "Scored the 7 held-out traces", "Worst token number 1 in the 7 held-out traces of 20"
        if fails:
            told = shown_then = "The student can't be read."
        await until(pilot, lambda: any(f"Traces of traced: {told}" in one for one in notices(pilot)))
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("2")
        await until(pilot, lambda: shown_then in said(pilot, "#traces-said"))
        assert ("Score student" if fails else "Score again") in shown(pilot)
        assert pilot.app.screen.query_one("#trace-search").region == room


async def test_without_traces_the_tab_says_so_at_once_and_its_button_collects(home: Path, recorder: RecordingLaunch):
    exp = experiment(home, "bare")
    async with BitnetApp(home, exp.root, recorder).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("2")
        await settled(pilot)
        assert "There are no traces yet" in words(pilot)
        assert "Worst token" not in words(pilot) and "by number" not in words(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert recorder.launched == []
        await click_on(pilot, "Collect traces", last=True)
        assert [stage for _, stage in recorder.launched] == ["collect"]
        collecting = SimulatedRun(exp, "collect", alive=True)
        collecting.emit("progress", done=135, total=220, unit="sequences", rate=1.0, eta_s=85.0, label="")
        await pilot.press("2")
        await until(
            pilot, lambda: "Collect traces is running: 61%, 1 min left. They can be read when" in words(pilot)
        )
        assert not pilot.app.screen.query_one("#traces-none Button").display
        await pilot.press("4", "T")
        await settled(pilot)
        assert "There is no checkpoint yet: training saves the first." in words(pilot)
        await pilot.press("2")
        await settled(pilot)
        writer.write_shard(exp.data, 0, metadata([sequence(0).request_key]), ORIGIN, [sequence(0)])
        writer.write_sequences(exp.data, 1, metadata([]))
        TOKENIZER.save(exp.data / schema.TOKENIZER_FOLDER)
        collecting.finish()
        await until(pilot, lambda: "1 traces" in words(pilot) or "prompt 0" in words(pilot))
        assert "There are no traces yet" not in words(pilot)


async def test_all_that_keys_do_is_a_click_away_at_80_columns(
    home: Path, root: Path, here: None, recorder: RecordingLaunch
):
    async with BitnetApp(home, root, recorder).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("2", "down")
        await settled(pilot)
        before = _told(pilot)
        bar = pilot.app.screen.query_one("#trace-going").region
        await click_on(pilot, "n Teacher's least sure")
        assert _told(pilot) != before
        await click_on(pilot, "N Least sure of all")
        assert pilot.app.screen.query_one("#trace-going").region == bar
        by = said(pilot, "#traces-said")
        assert by == "Ranked by Other's mass; S scores the newest student."
        await click_on(pilot, "c Shaded by teacher's Other")
        assert "c Shaded by KL" in shown(pilot)
        text, listed = pilot.app.screen.query_one(TokenText), pilot.app.screen.query_one(TraceList)
        listed.focus()
        await settled(pilot)
        rows = text.region.height
        assert listed.region.height == 4
        await pilot.click(TokenText, offset=(2, 0))
        await settled(pilot)
        assert listed.region.height == 4, "nothing moves under the mouse"
        await pilot.press("shift+tab", "enter")
        await settled(pilot)
        assert (text.region.height, listed.region.height) == (rows + 4, 1), "who reads by keys has the list's room"
        assert "held out" in said(pilot, "#trace-head") or said(pilot, "#trace-head").startswith("trained on")
        await pilot.click(TraceList, offset=(5, 0))
        await settled(pilot)
        assert listed.region.height == 4 and "by number" in shown(pilot), "the click only unfolds it"


async def test_the_smallest_window_has_room_for_candidates(
    home: Path, root: Path, here: None, recorder: RecordingLaunch
):
    async with BitnetApp(home, root, recorder).run_test(size=(60, 15)) as pilot:
        await settled(pilot)
        await pilot.press("2", "down")
        await settled(pilot)
        assert "›" in said(pilot, "#trace-token")
        token = pilot.app.screen.query_one("#trace-token").region
        assert token.height >= 4
        assert token.bottom <= 14, "the foot's line is the last"
        assert "Unsure of all" in shown(pilot)


async def test_damaged_scores_are_said_and_the_traces_are_shown(
    home: Path, root: Path, here: None, recorder: RecordingLaunch
):
    (root / "reports" / FILE).write_bytes(b"damaged")
    async with BitnetApp(home, root, recorder).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("2", "down")
        await settled(pilot)
        assert "prompt 1 " in said(pilot, "#trace-head")
        assert "is not a file of scores that can be read" in said(pilot, "#traces-said")


@pytest.mark.parametrize("size", [(100, 30), (120, 36), (200, 55)])
async def test_the_candidates_follow_the_text_and_leave_it_room(
    home: Path, root: Path, here: None, recorder: RecordingLaunch, size: tuple[int, int]
):
    async with BitnetApp(home, root, recorder).run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("2", "down")
        await settled(pilot)
        text, token = (pilot.app.screen.query_one(name).region for name in ("#trace-text", "#trace-token"))
        assert text.height >= 4
        written = len(pilot.app.screen.query_one(TokenText)._laid.lines)
        assert token.y - (text.y + max(written, 6)) <= 3  # the legend, and buttons
        assert token.bottom <= size[1]
