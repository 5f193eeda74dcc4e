"""Folding a run's events into what the screen shows, whatever JSON they are read from."""

import json
import math
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.runs.event_files import EventReader, EventWriter
from bitnet_core.runs.events import KINDS, Event, decode, to_dict
from bitnet_core.settings.values import FlipOptions
from bitnet_tui.plot import draw
from bitnet_tui.view import above, panels
from bitnet_tui.view.chart import drawing
from bitnet_tui.view.gauge import gauge
from bitnet_tui.view.run_fold import CURVES, RunFold
from bitnet_tui.view.watch import ExperimentView, RunShown
from tests.builders import event

_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
    max_leaves=8,
)
_names = st.sampled_from(
    [
        *("t", "seq", "step", "seen_tokens", "loss", "kl", "ce", "format", "done", "total", "unit", "level", "error"),
        *("columns", "rows", "name", "prompt", "text", "dropped", "tokens", "kept", "from_bits", "to_bits", "state"),
        *("message", "code", "path", "bytes", "pid", "device", "stage", "sha256", "role", "target", "summary"),
    ]
)
_odd = st.one_of(_json, st.sampled_from([0, -1, 10**400, 1e308, "2", 8.0, None]))
_event = st.builds(
    lambda kind, fields: {**to_dict(event(kind.__struct_config__.tag)), **fields},
    st.sampled_from(KINDS),
    st.dictionaries(_names, _odd, max_size=3),
)


def _metric(step: int, **fields) -> Event:
    return event("metric", step=step, seen_tokens=step * 10, **fields)


def _events(objects) -> list[Event]:
    """The events that a reader finds among JSON objects."""
    lines = (json.dumps(one).encode(errors="surrogatepass") for one in objects)
    return [found for line in lines if (found := decode(line)) is not None]


@given(st.lists(_event, max_size=30))
def test_any_json_folds_to_finite_curves(events):
    fold = RunFold()
    fold.feed(_events(events))
    view = fold.view()
    for curve in view.curves:
        for segment in curve.segments:
            assert all(math.isfinite(x) and math.isfinite(y) for x, y in segment)
    assert view.log_total >= len(view.log)
    for stage in ("train", "collect"):
        run = RunShown(
            "r-1", stage, "running", view, "", None, 1.0, 1, 1, FlipOptions(budget_tokens=100, fraction=0.9)
        )
        seen = ExperimentView(Path("/e"), (), stage, run)
        lines = (
            gauge(run, 80),
            *panels.figures(run, 80),
            *panels.summary(seen, 80),
            *above.alert_lines(run, "", 80, 9),
        )
        assert all(isinstance(span.text, str) for line in lines for span in line)
        picture = drawing(view, CURVES, 80, 20, log=False)
        assert picture is None or draw(picture)


@given(st.lists(_event, max_size=20), st.integers(0, 20))
def test_folding_in_pieces_gives_the_same_view(events, cut):
    events = _events(events)
    at_once, in_pieces = RunFold(), RunFold()
    at_once.feed(events)
    in_pieces.feed(events[:cut])
    in_pieces.view()
    in_pieces.feed(events[cut:])
    # By text: JSON may hold NaN, which does not equal itself.
    assert repr(at_once.view()) == repr(in_pieces.view())


def test_without_new_events_the_view_is_the_same_object():
    fold = RunFold()
    fold.feed([_metric(1, loss=2.0)])
    assert fold.view() is fold.view()


def test_the_newest_metric_wins_and_null_means_not_finite():
    fold = RunFold()
    fold.feed([_metric(1, loss=2.0, lr=1e-3), _metric(2, loss=None, nonfinite=1), _metric(3, loss=1.5)])
    view = fold.view()
    assert (view.metric.loss, view.metric.lr, view.metric.nonfinite) == (1.5, 1e-3, 1)
    loss = next(curve for curve in view.curves if curve.name == "loss")
    assert loss.segments == (((10.0, 2.0),), ((30.0, 1.5),))
    assert loss.not_finite == (20.0,)


def test_a_step_without_tokens_for_a_part_of_the_loss_is_a_gap_without_an_alarm():
    whole, absent = ("kl", "ce", "format", "agreement"), ("format", "kl", "agreement")
    steps = [event("metric", step=s, seen_tokens=s, loss=2.0, **dict.fromkeys(whole, 0.5)) for s in range(1, 9)]
    steps[2] = event("metric", step=3, seen_tokens=3, loss=2.0, ce=1.0)
    steps[4] = event("metric", step=5, seen_tokens=5, loss=2.0, own_text_kl=1.0)  # has no cross-entropy either
    steps.insert(6, event("metric", step=6, seen_tokens=6, when="checkpoint", heldout_loss=2.0))
    for size in (1, 3, len(steps)):
        fold = RunFold()
        for start in range(0, len(steps), size):
            fold.feed(steps[start : start + size])
        curves = {curve.name: curve for curve in fold.view().curves}
        for name in absent:
            assert [[x for x, _ in part] for part in curves[name].segments] == [[1, 2], [4, 6, 7, 8]]
        assert len(curves["ce"].segments) == len(curves["loss"].segments) == 1
        assert not any(curve.not_finite for curve in curves.values())


def test_a_resumed_training_has_its_bits_before_its_first_step():
    fold = RunFold()
    budget = {"tokens": 100, "epoch_tokens": 50, "epochs": 2.0, "flip_at_tokens": 90}
    fold.feed([event("budget", **budget, seen_tokens=95, activation_bits=4, layers_at_4_bits=1, layers=6)])
    known = fold.view().metric
    assert (known.activation_bits, known.layers_at_4_bits, known.layers) == (4, 1, 6)
    fold.feed([_metric(1, activation_bits=8), event("budget", **budget, activation_bits=4)])
    assert fold.view().metric.activation_bits == 8


def test_alerts_of_one_code_are_counted_and_the_newest_is_kept():
    fold = RunFold()
    fold.feed([event("alert", code="nonfinite", message=f"step {n}", severity="warning") for n in range(3)])
    (shown,) = fold.view().alerts
    assert (shown.alert.message, shown.times) == ("step 2", 3)


def test_a_later_table_of_the_same_name_replaces_the_earlier():
    fold = RunFold()
    for value in (1, 2):
        fold.feed([event("table", name="qei", columns=["a"], rows=[[value]])])
    assert [table.rows for table in fold.view().tables] == [[[2]]]


def test_traces_add_up():
    fold = RunFold()
    fold.feed(
        [
            event("trace", tokens=10, kept=9, dropped={"mass": 1}),
            event("trace", tokens=5, kept=5, other_mass_mean=0.03),
        ]
    )
    traces = fold.view().traces
    assert (traces.sequences, traces.dropped, traces.other_mass) == (2, (("mass", 1),), 0.03)


def test_a_torn_line_waits_for_its_rest_and_a_replaced_file_starts_over(tmp_path):
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    writer.emit(event("metric", step=1, seen_tokens=10, loss=3.0))
    with path.open("ab") as file:
        file.write(b'{"kind": "metric", "step": 2, "seen')
    fold, reader = RunFold(), EventReader(path)
    fold.feed(reader.read_new())
    assert fold.view().metric.step == 1
    with path.open("ab") as file:
        file.write(b'_tokens": 20, "loss": 2.0}\n')
    fold.feed(reader.read_new())
    assert (fold.view().metric.step, fold.view().metric.loss) == (2, 2.0)
    path.unlink()
    EventWriter(path).emit(event("metric", step=7, seen_tokens=70, loss=1.0))
    fold.feed(reader.read_new())
    (loss,) = [curve for curve in fold.view().curves if curve.name == "loss"]
    assert loss.segments == (((70.0, 1.0),),)


def test_the_step_is_that_of_the_tokens_beside_it():
    fold = RunFold()
    fold.feed([event("metric", step=5, seen_tokens=50, loss=1.0)])
    assert (fold.view().seen, fold.view().step) == (50, 5)
    for told, at in (({"step": 7}, 7), ({}, 5)):  # a version before told no step there
        fold.feed([event("progress", done=70, total=900, unit="tokens", seen_tokens=70, **told)])
        run = RunShown("r", "train", "running", fold.view(), "", None, 1.0, 1, 1, FlipOptions(budget_tokens=900))
        assert (fold.view().seen, fold.view().step) == (70, at)
        assert ("step", str(at), "value") in panels._training(run)
    fold.feed([event("progress", done=8, total=9, unit="steps", seen_tokens=80)])
    assert ("step", "8/9", "value") in panels._training(replace(run, view=fold.view()))


def test_control_characters_from_outside_are_never_drawn():
    fold = RunFold()
    fold.feed([event("sample", prompt="\x1b[2J\x07", text="a\tb", source="x")])
    fold.feed([event("log", message="\x1b]0;title\x07", level="info")])
    view = fold.view()
    assert "\x1b" not in "".join(view.log)


def test_the_log_names_settings_by_their_labels_and_leaves_a_models_words_alone():
    fold = RunFold()
    changed = {"step": 9, "seen_tokens": 90, "before": {"LR": 6e-4}, "after": {"LR": 3e-4}}
    gate = "GATE_JSON_VALIDITY is not met; `bitnet eval` measures again."
    fold.feed([event("changed", **changed), event("log", message=gate, level="info")])
    fold.feed([event("sample", prompt="What is LR?", text="run `bitnet eval`", source="x")])
    told = [text[11:] for text in fold.view().log]
    assert told[0] == "Training continues from step 9 with “Learning rate” 6e-4 → 3e-4."
    assert told[1] == "“Gate: JSON validity” is not met; run “Evaluate” (r) measures again."
    assert told[2:] == ["What is LR?", "run `bitnet eval`"]


def test_a_long_run_folds_in_bounded_memory():
    fold = RunFold()
    fold.feed(_metric(step, loss=2.0, kl=1.0, ce=3.0, format=1.0) for step in range(20_000))
    fold.feed(event("log", message=str(n), level="info") for n in range(5_000))
    view = fold.view()
    assert all(sum(len(segment) for segment in curve.segments) < 2100 for curve in view.curves)
    assert (len(view.log), view.log_total) == (2000, 5000)
