"""The text of the views: the gauge, the figures, the stages, and what went wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from bitnet_core import text as words
from bitnet_core.runs.events import Alert, Flip, Metric, Progress, Table
from bitnet_core.runs.finding import Finding
from bitnet_core.runs.vitals import Plan
from bitnet_core.settings.values import FlipOptions
from bitnet_tui.theme import paint
from bitnet_tui.view import above, gauge, panels, stage_text
from bitnet_tui.view.result_tables import table_lines
from bitnet_tui.view.run_fold import RunFold, RunView, ShownAlert
from bitnet_tui.view.spans import cells_of, line, unstyled
from bitnet_tui.view.stage_rows import COPIED, PREPARING, StageRow
from bitnet_tui.view.states import LOOKS
from bitnet_tui.view.watch import ExperimentView, RunShown
from tests.builders import event

_ROOT = Path("/experiments/demo")


def _run(stage="train", state="running", view=None, **changes) -> RunShown:
    shown = {
        "id": f"{stage}-1", "stage": stage, "state": state, "view": view or RunView(), "error": "",
        "output": _ROOT / "logs" / "output.log", "elapsed": 61.0, "position": 1, "of": 1,
        "flip": FlipOptions(budget_tokens=150_000, fraction=0.9),
    }  # fmt: skip
    return RunShown(**{**shown, **changes})


def test_the_results_begin_with_the_qei():
    view = RunView(
        tables=(Table(name="memory", columns=["a"], rows=[[1]]), Table(name="qei", columns=["a"], rows=[[2]]))
    )
    assert unstyled(*panels.result_lines(_run(view=view), 60)).startswith("QEI")


@given(st.floats(0, 2), st.integers(3, 90), st.one_of(st.none(), st.floats(0, 1)))
def test_the_bar_has_its_length_and_one_flip_mark(share, cells, mark):
    text = unstyled(gauge.bar(share, cells, mark))
    assert len(text) == cells
    assert text.count("┃") == (mark is not None)
    assert set(text) <= set("━─┃")


def test_the_gauge_shows_the_share_of_what_ends_the_training_while_it_runs_and_after():
    progress = Progress(done=30, total=60, unit="steps", seen_tokens=13_000)
    of_all = [RunView(step=30, seen=13_000, progress=one) for one in (progress, None)]
    shown = [
        unstyled(gauge.gauge(_run("train", state, view, plan=Plan(steps=60)), 90))
        for state in ("running", "cancelled", "interrupted")
        for view in of_all
    ]
    assert all("tokens 13k of 150k" in one and "  50% of steps  " in one for one in shown), shown
    narrow = unstyled(gauge.gauge(_run("train", "running", of_all[0], plan=Plan(steps=60)), 58))
    assert len(narrow) <= 58 and narrow.endswith("50% of steps   A?  flips at 135k"), narrow
    early = RunView(step=0, seen=0, progress=Progress(done=64, total=64, unit="steps"))
    assert "  0%  " in unstyled(gauge.gauge(_run(view=early), 90)), "that of the start is none of the training"
    by_tokens = replace(of_all[1], seen=75_000, step=20)
    assert "  50%  " in unstyled(gauge.gauge(_run("train", "cancelled", by_tokens, plan=Plan(steps=60)), 90))


def test_the_gauge_of_training():
    view = RunView(metric=Metric(activation_bits=8), seen=75_000)
    text = unstyled(gauge.gauge(_run(view=view), 80))
    assert text.startswith("tokens 75k of 150k  ━")
    assert text.endswith("  50%   A8  flips at 135k (hybrid)")
    drawn = text[text.index("━") : text.rindex("─") + 1]
    assert drawn.index("┃") == int(0.9 * len(drawn))
    assert len(text) == 80
    flipped = RunView(
        metric=Metric(activation_bits=4),
        seen=140_000,
        flip=Flip(step=1, seen_tokens=135_040, from_bits=8, to_bits=4),
    )
    assert " A4  flipped at 135k (hybrid)" in unstyled(gauge.gauge(_run(view=flipped), 80))
    every = _run(view=flipped, flip=FlipOptions(budget_tokens=150_000, fraction=0.9, a4_policy="all"))
    assert "hybrid" not in unstyled(gauge.gauge(every, 80))
    some = replace(flipped, metric=Metric(activation_bits=4, layers_at_4_bits=3, layers=6))
    assert " A8→A4  in 3 of 6 layers (hybrid)" in unstyled(gauge.gauge(_run(view=some), 80))
    whole = replace(flipped, metric=Metric(activation_bits=4, layers_at_4_bits=6, layers=6))
    assert " A4  flipped at 135k" in unstyled(gauge.gauge(_run(view=whole), 80))
    ramping = replace(view, metric=structs.replace(view.metric, quantized_share=0.4))
    assert " A8  not ternary yet: 40%" in unstyled(gauge.gauge(_run(view=ramping), 80))


@pytest.mark.parametrize(
    ("record", "threshold"),
    [
        ({"BUDGET_TOKENS": 100, "FLIP_FRACTION": 0.29, "FLIP_POLICY": "hard", "FLIP_RAMP_FRACTION": 0.05}, 29),
        ({"BUDGET_TOKENS": "many", "FLIP_FRACTION": [], "FLIP_POLICY": 1, "FLIP_RAMP_FRACTION": {}}, None),
        ({"BUDGET_TOKENS": 0, "FLIP_FRACTION": 0.29, "FLIP_POLICY": "hard", "FLIP_RAMP_FRACTION": 0.05}, None),
        ({}, None),
    ],
)
def test_the_flip_marker_is_the_trainers_threshold_and_no_record_breaks_it(record, threshold):
    """0.29 · 100 is 28.999… in binary."""
    flip = Plan.of(record).flip
    assert (flip and flip.threshold) == threshold


def test_the_figures_tell_steps_of_the_training_alone_and_the_rate_beside_its_peak():
    converting = Progress(done=1, total=1, unit="steps", label="converting the tokenizer")
    shown = unstyled(*panels.figures(_run(view=RunView(progress=converting)), 100))
    assert shown.partition("ETA")[2].split() == ["–"] * 6, "no step yet, so none is known to be finite"
    stepping = RunView(progress=Progress(done=3, total=9, unit="steps"), metric=Metric(step=3, lr=1.1e-4))
    shown = unstyled(*panels.figures(_run(view=stepping, plan=Plan(peak_rate=3e-4)), 100))
    assert "3/9" in shown and "1.10e-4 of 3e-4" in shown
    for rate, peak, told in (
        *((0.005, 0.005, "5.00e-3 of 5e-3"), (0.00483, 0.05, "0.0048 of 0.05")),
        *((0.483, 0.5, "0.483 of 0.5"), (1e-6, 0.0025, "1.00e-6 of 2.5e-3")),
    ):
        stepping = replace(stepping, metric=Metric(step=3, lr=rate))
        assert told in unstyled(*panels.figures(_run(view=stepping, plan=Plan(peak_rate=peak)), 100))


@pytest.mark.parametrize("figures", [panels.figures, panels.short_figures])
def test_figures_stay_in_their_places_while_they_change(figures):
    def places(left: float, rate: float) -> list[int]:
        view = RunView(progress=Progress(done=3, total=9, unit="steps", eta_s=left), metric=Metric(step=3, lr=rate))
        text = unstyled(*figures(_run(view=view, plan=Plan(peak_rate=2.5e-4)), 100)).split("\n")[0]
        return [text.index(name) for name in ("step", "tok/s", "grad norm", "NaN")]

    assert places(3_500.0, 1.1e-4) == places(9.0, 2.5e-4)


def test_the_gauge_of_other_stages():
    view = RunView(progress=Progress(done=41e6, total=93e6, unit="bytes", label="fetching the teacher"))
    assert "41 MB of 93 MB" in unstyled(gauge.gauge(_run("teacher", view=view), 80))
    for stage, told in (("teacher", True), ("train", False)):  # of a training, the sentence above it tells that
        assert ("fetching the teacher" in unstyled(gauge.gauge(_run(stage, view=view), 80))) is told
    assert unstyled(gauge.gauge(_run("teacher"), 80)) == "waiting for the first progress…"
    for total, unit in ((1, "steps"), (None, "steps"), (None, "")):
        single = RunView(progress=Progress(done=0, total=total, unit=unit, label="converting the tokenizer"))
        assert unstyled(gauge.gauge(_run("teacher", view=single), 80)) == "converting the tokenizer"
    assert unstyled(gauge.gauge(_run("teacher", "failed"), 80)) == "It ended before its first progress."
    assert gauge.gauge(_run("teacher", "succeeded", view=view), 80) == ()
    assert {cells_of(gauge.gauge(_run("teacher", view=view), cells)) for cells in (30, 60, 200)} == {30, 60, 200}


def test_the_rate_of_its_last_part_is_none_of_a_stage_that_is_done():
    view = RunView(progress=Progress(done=2, total=2, unit="shards", rate=31.5))
    told = {
        state: unstyled(*panels.figures(_run("collect", state, view=view), 80)) for state in ("failed", "succeeded")
    }
    assert "31.5 shards/s" in told["failed"] and not told["succeeded"]


def test_a_failure_is_shown_whole_with_its_output():
    run = _run(state="failed", error="The disk is full at /data; free space and start the stage again. " * 2)
    text = unstyled(*above.alert_lines(run, "", 60, 8))
    assert " ".join(text.split()).count("free space and start the stage again.") == 2
    assert "output.log" in text


@pytest.mark.parametrize(
    ("name", "title", "again"),
    [
        ("train", "“Train the student”", "was stopped; its work is kept, and starting it again continues it."),
        ("eval", "“Evaluate”", "was stopped; starting it again runs it from the beginning."),
        ("train", "“Train the student”", "was stopped, and the pipeline with it; starting it again continues it."),
        ("What runs", "What runs", "was stopped; starting it again runs it from the beginning."),
    ],
)
def test_a_run_after_which_another_one_was_started_does_not_say_what_that_would_do(name: str, title: str, again: str):
    def said(place: int) -> str:
        run = _run(state="cancelled", error=f"{name} {again}", position=place, of=2)
        return unstyled(*above.alert_lines(run, "", 99, 8))[2:]

    assert said(1) == f"{title} {again}"
    assert said(2) == f"{title} {again.partition(';')[0]}."
    gone = _run(state="interrupted", error="its process is gone", position=2, of=2)
    assert unstyled(*above.alert_lines(gone, "", 99, 8)) == "! Its process is gone."
    for state, error in (("cancelled", f"train {again}"), ("interrupted", "its process is gone")):
        run = _run(state=state, error=error, health=(Finding("bad", "Ruined.", "Lower LR."),))  # it says what to do
        assert ";" not in unstyled(*above.alert_lines(run, "", 99, 8))


def test_alerts_have_advice_and_a_count():
    run = _run(
        view=RunView(
            alerts=(
                ShownAlert(
                    Alert(severity="warning", code="nonfinite", message="Loss was not finite.", advice="Lower LR."), 3
                ),
            )
        )
    )
    assert (
        unstyled(*above.alert_lines(run, "", 60, 6))
        == "! Loss was not finite. (×3)\n  Lower “Learning rate” (6 Config)."
    )
    assert unstyled(*above.alert_lines(run, "X=1 is not allowed", 60, 2)).startswith("✗ X=1 is not allowed")


@pytest.mark.parametrize(("state", "shown"), [("running", True), ("failed", False), ("succeeded", False)])
def test_what_a_run_waits_for_is_no_alert_when_it_has_ended(state: str, shown: bool):
    waits = Alert(severity="warning", code="retrying", message="No connection; trying again soon.", advice="")
    run = _run("teacher", state, view=RunView(alerts=(ShownAlert(waits, 2),)))
    assert ("trying again" in unstyled(*above.alert_lines(run, "", 60, 6))) == shown


def test_escape_sequences_from_outside_are_never_drawn():
    bad = "\x1b[2J\x07"
    fold = RunFold()
    fold.feed(
        [
            event("progress", done=1, total=2, unit=bad, rate=1.0, label=bad),
            event("trace", tokens=1, dropped={bad: 1}),
            event("sample", prompt=bad, text=f"a\t{bad}", source=bad),
            event("alert", severity="error", code="x", message=bad, advice=bad),
            event("table", name=bad, columns=[bad], rows=[[bad]]),
            event("log", message=bad, level="info"),
        ]
    )
    run = _run("collect", "failed", view=fold.view(), error=bad)
    view = ExperimentView(_ROOT, stage="collect", run=run)
    drawn = (
        *panels.sample_lines(run, 60), *panels.result_lines(run, 60), *above.alert_lines(run, "", 60, 8),
        *panels.figures(run, 90), *panels.summary(view, 60), *panels.log_tail(run, 9, 60), gauge.gauge(run, 80),
    )  # fmt: skip
    assert not {"\x1b", "\x07"} & set(unstyled(*drawn))
    assert paint([line(bad)]).plain == "·[2J·"


def test_the_tail_of_the_log_begins_with_a_message():
    fold = RunFold()
    fold.feed(event("alert", severity="warning", code="x", message=f"Bad {n}.", advice="Mend it.") for n in range(3))
    run = _run("train", view=fold.view())
    told = [unstyled(one) for one in panels.log_tail(run, 5, 60)]
    assert [words.split()[-1] for words in told] == ["1.", "it.", "2.", "it."]
    assert [words.split()[-1] for words in map(unstyled, panels.log_tail(run, 1, 60))] == ["it."], (
        "it is all there is"
    )


def test_the_tail_of_the_log_cuts_no_message():
    fold = RunFold()
    said = "Only 24 prompts with 30 traces are held out, so the held-out figures are rough."
    fold.feed([event("log", message="Before.", level="info"), event("log", message=said, level="info")])
    rows = [unstyled(one) for one in panels.log_tail(_run("train", view=fold.view()), 3, 60)]
    assert len(rows) == 3
    assert max(map(len, rows)) <= 60
    assert " ".join(row[11:] for row in rows) == f"Before. {said}"
    assert rows[2].startswith(11 * " "), "beneath its own words"
    none = panels.log_tail(_run("train", view=fold.view()), 2, 60)
    assert "Before." not in unstyled(*none)


def test_an_empty_stage_says_what_to_do():
    rows = (StageRow("collect", "Collect traces", "new"), StageRow("train", "Train the student", "new"))
    text = unstyled(*panels.what_next(ExperimentView(_ROOT, rows, "train"), 70))
    assert "needs   · Collect traces  not run yet" in text
    assert "Press r to run it" in text
    rows = (rows[0], replace(rows[1], lacking=("teacher", "collect")))
    lines = [unstyled(one) for one in panels.what_next(ExperimentView(_ROOT, rows, "train"), 70)]
    assert "Press r" not in (text := " ".join(lines))
    assert "once “Teacher baseline” and “Collect traces” have run; press p for the whole pipeline." in text
    assert max(map(words.width, lines)) <= 70


def test_the_figures_of_training_side_by_side_or_in_columns():
    view = RunView(
        metric=Metric(step=50, tokens_per_s=690, lr=1.1e-3, grad_norm=0.84, nonfinite=2),
        progress=Progress(done=50, total=200, unit="steps", rate=0.9, eta_s=166),
    )
    wide = panels.figures(_run(view=view), 90)
    assert unstyled(*wide).split("\n")[0].split() == ["step", "tok/s", "lr", "grad", "norm", "NaN", "ETA"]
    assert unstyled(*wide).split("\n")[1].split() == ["50/200", "690", "1.10e-3", "0.840", "2", "3", "min"]
    evaluated = replace(view, held_out=Metric(step=40, heldout_loss=2.71828, heldout_agreement=0.31))
    assert unstyled(*panels.figures(_run(view=evaluated), 90)[:-1]) == unstyled(*wide)
    last = unstyled(*panels.figures(_run(view=evaluated), 58)).split("\n")[-1]
    assert last == "held-out loss 2.718   agreement 31.0%   at step 40"
    narrow = unstyled(*panels.figures(_run(view=view), 60))
    assert "step 50/200" in narrow
    assert all(len(line.rstrip()) <= 60 for line in narrow.split("\n"))


def test_glyphs_tell_the_states_apart_without_colour():
    glyphs = {state: look.glyph for state, look in LOOKS.items() if state != "succeeded"}
    assert len(set(glyphs.values())) == len(glyphs)
    assert all(len(glyph) == 1 and words.width(glyph) == 1 for glyph in glyphs.values())


_ROWS = (
    StageRow("pipeline", "Whole pipeline", "running", "2/5", "p-1"),
    StageRow("teacher", "Teacher baseline", "done", "12s", "t-1"),
    StageRow("collect", "Collect traces", "done", "1m 40s", "c-1"),
    StageRow("train", "Train the student", "running", "58%", "r-1"),
    StageRow("eval", "Evaluate", "new"),
    StageRow("dryrun", "7B dry run", "new"),
)


def test_the_stages_as_a_column_and_as_a_strip():
    column = unstyled(*stage_text.column(_ROWS, "train", 32, focused=True)).split("\n")
    assert column[1] == ""
    assert column[4] == " ▸ Train the student        58% "
    timed = tuple(replace(row, eta="4 min") if row.name == "train" else row for row in _ROWS)
    for cells, train in (
        (32, " ▸ Train the student  58% 4 min "),
        (31, " ▸ Train the student    58% 4m "),
        (26, " ▸ Train the student  58% "),
    ):
        assert unstyled(*stage_text.column(timed, "train", cells, focused=True)).split("\n")[4] == train
    for note, eta, told in (("part 1/2 58%", "", "1/2 58%"), (PREPARING, "9 min", "in 9 min")):
        rows = tuple(replace(row, note=note, eta=eta) if row.name == "train" else row for row in _ROWS)
        train = unstyled(*stage_text.column(rows, "train", 32, focused=True)).split("\n")[4]
        assert train == f" ▸ Train the student{told:>11} "
        assert f" {told} " in unstyled(stage_text.strip(rows, "train", 80, focused=True))
        if note == PREPARING:
            assert f"train starts {told} " in unstyled(stage_text.strip(rows, "train", 120, focused=True))
    strip = unstyled(stage_text.strip(_ROWS, "train", 80, focused=True))
    assert len(strip) <= 80
    assert "▸ train 58%" in strip
    assert "✓ collect" in strip
    copied = tuple(StageRow(row.name, row.title, "new", COPIED if row.name == "collect" else "") for row in _ROWS)
    assert "✓ collect copied" in unstyled(stage_text.strip(copied, "train", 80, focused=True))
    begun = [replace(row, state="running", note=PREPARING) if row.name == "train" else row for row in copied]
    strip = unstyled(stage_text.strip(tuple(begun), "train", 80, focused=True))
    assert "✓ collect copied" in strip and "train …" in strip and len(strip) <= 80
    beside = {"pipeline": "0/5", "teacher": PREPARING, "collect": COPIED, "train": "100%"}
    rows = tuple(replace(row, state="running", note=beside.get(row.name, "")) for row in _ROWS)
    assert "pipeline 0/5" in (strip := unstyled(stage_text.strip(rows, "train", 80, focused=True)))
    assert "teacher …" in strip and "train 100%" in strip
    strip = unstyled(stage_text.strip(rows, "train", 76, focused=True))
    assert "teacher …" in strip and "train 100%" in strip and "0/5" not in strip


@pytest.mark.parametrize("chosen", [row.name for row in _ROWS])
def test_a_click_finds_the_stage_that_is_drawn_there(chosen):
    strip = unstyled(stage_text.strip(_ROWS, chosen, 80, focused=True))
    for row in _ROWS:
        x = strip.index(f" {row.name}") + 1
        assert stage_text.at(_ROWS, x, 0, 80, as_column=False) == row.name
    column = unstyled(*stage_text.column(_ROWS, chosen, 32, focused=True)).split("\n")
    for row in _ROWS:
        y = next(index for index, line in enumerate(column) if row.title in line)
        assert stage_text.at(_ROWS, 4, y, 32, as_column=True) == row.name


@pytest.mark.parametrize(
    ("value", "text"), [(2.5, "$2.50"), (10, "$10.00"), (0.075, "$0.075"), (1234.5, "$1,234.50"), (None, "–")]
)
def test_dollars_have_cents_and_the_decimals_they_need(value, text):
    assert words.dollars(value) == text


@given(st.integers(30, 120), st.sampled_from([row.name for row in _ROWS]))
def test_every_cell_of_the_strip_belongs_to_the_stage_that_is_drawn_there(cells, chosen):
    """On a narrow screen the notes are left out, so the names are elsewhere."""
    rows = tuple(replace(row, state="running", note="1 of 5") for row in _ROWS)
    strip = unstyled(stage_text.strip(rows, chosen, cells, focused=True))
    for row in rows:
        start = strip.index(f" {row.name} ") + 1
        assert {stage_text.at(rows, start + x, 0, cells, as_column=False) for x in range(len(row.name))} == {row.name}


def test_a_stage_that_generates_text_has_no_samples_yet():
    def said(**changes: Any) -> str:
        return " ".join(unstyled(*panels.sample_lines(_run(**changes), 60)).split())

    assert said(stage="teacher") == "No samples yet. They appear here once the stage has generated a text."
    assert said(stage="eval", state="failed") == "This run ended before it had generated a text."
    assert said(stage="train") == ""


def test_a_pipeline_says_that_an_evaluation_has_found_another_qei_since():
    def results(qei):
        return (Table(name="qei", columns=["quantity", "student"], rows=[["student", 1], ["QEI", qei]]),)

    def figures(since):
        run = _run(stage="pipeline", state="succeeded", view=RunView(tables=results(1.023)), since=since)
        return unstyled(*panels.figures(run, 60))

    assert figures(results(0.697)).split() == ["QEI", "1.023", "in", "this", "run,", "0.6970", "since"]
    assert figures(()).split() == figures(results(1.023)).split() == ["QEI", "1.023"]


def test_failed_gates_are_named_with_the_place_of_their_table():
    run = _run(
        stage="eval", state="succeeded", health=(Finding("warn", "1 of 2 gates met; failed: QEI.", "", "gates"),)
    )
    for cells in (70, 44, 38):  # whole, or broken at one of its words
        lines = above.health_lines(run, cells, 4)
        assert " ".join(unstyled(*lines).split()) == "▲ 1 of 2 gates met; failed: QEI. 3 opens Reports."
        links = [span.text for one in lines for span in one if span.action == "view('reports')"]
        assert " ".join(map(str.strip, links)) == "3 opens Reports"
    assert unstyled(*above.health_lines(run, 70, 4, "reports")) == "▲ 1 of 2 gates met; failed: QEI."
    rows = [["QEI_speed", "pass"], ["rows", "not measurable"], ["QEI", "fail"], ["Q", "fail"]]
    told = unstyled(*table_lines(Table(name="gates", columns=["gate", "result"], rows=rows), 70))
    assert [one.split()[0] for one in told.splitlines()[3:]] == ["QEI", "Q", "rows", "QEI_speed"]
