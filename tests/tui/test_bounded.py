"""A run may write texts, tables and names without bound; what is kept and drawn of it stays small."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.runs.events import Event, to_dict
from bitnet_tui.view import bounded, panels
from bitnet_tui.view.run_fold import RunFold, RunView
from bitnet_tui.view.watch import ExperimentView, RunShown
from tests.builders import event

_LARGE = 500_000
"""More characters in a kept view than any of these may leave."""


def _table(name: str, columns: list[str], rows: list[list]) -> Event:
    return event("table", name=name, columns=columns, rows=rows)


_FLOODS = {
    "lines": [event("sample", prompt="p", text="x\n" * 50_000, source="teacher")] * 25,
    "long samples": [event("sample", prompt="p" * 50_000, text="é " * 50_000, source="s" * 50_000)] * 25,
    "marks": [event("sample", prompt="\u0300" * 50_000, text="\u202e\u0300" * 50_000, source="")] * 25,
    "rows": [_table("qei", ["a"], [[1]] * 100_000)],
    "empty rows": [_table("qei", ["a"], [[]] * 100_000)],
    "columns": [_table("qei", [f"c{n}" for n in range(50_000)], [[1] * 50_000])],
    "long row": [_table("qei", [], [[1] * 50_000])],
    "cells": [_table("t", ["a"], [["x" * 100_000], [{"a": ["y" * 100_000]}], [["z"] * 50_000]])],
    "names": [_table("n" * 100_000, ["c" * 100_000], [])],
    "many tables": [_table(f"t{n}", ["a"], [[n]]) for n in range(5_000)],
    "large tables": [_table(f"t{n}", ["a", "b"], [["x" * 100, n]] * 500) for n in range(50)],
    "reasons": [event("trace", dropped={f"r{n}-{m}" * 50: 1 for m in range(50)}) for n in range(50)],
    "alerts": [event("alert", code=f"c{n}" * 500, message="m\n" * 5_000, advice="a " * 5_000) for n in range(60)],
    "log": [event("log", message="\n" * 300_000)] * 3,
    "layers": [event("metric", step=1, zero_weights_by_layer=[0.1] * 100_000)] * 2,
    "progress": [event("progress", done=1, total=2, unit="x" * 100_000, label="l" * 100_000)],
    "device": [event("run_started", device="d" * 100_000)],
}


def _view(events: list[Event]) -> RunView:
    fold = RunFold()
    fold.feed(events)
    return fold.view()


@pytest.mark.parametrize("flood", _FLOODS)
def test_what_is_kept_and_drawn_is_small(flood: str):
    view = _view(_FLOODS[flood])
    assert len(repr(view)) < _LARGE
    run = RunShown("r", "eval", "running", view, "", None, 1.0, 1, 1, None)
    seen = ExperimentView(Path("/e"), (), "eval", run)
    for lines in (panels.summary(seen, 80), panels.result_lines(run, 80), panels.sample_lines(run, 80)):
        assert len(lines) < 20_000


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("x\n" * 1_000, "\n… [cut; 1001 lines]"),
        ("x" * 5_000, "… [cut; 5000 characters]"),
        ("x\n" * 199 + "x", "x"),
        ("x" * bounded.TEXT_CHARS, "x"),
    ],
)
def test_a_cut_text_says_so(text: str, end: str):
    (sample,) = _view([event("sample", prompt="p", text=text, source="s")]).samples
    assert sample.text.endswith(end)
    assert (sample.text == text) == ("cut" not in end)


def test_a_cut_table_says_how_much_is_left_out():
    (table,) = _view([_table("t", ["a"], [[n] for n in range(1_000)])]).tables
    assert table.rows[:2] == [[0], [1]]
    assert table.rows[bounded.ROWS - 1 :] == [[bounded.ROWS - 1], [f"… and {1_000 - bounded.ROWS} more rows"]]
    (wide,) = _view([_table("t", [str(n) for n in range(30)], [list(range(30))])]).tables
    assert wide.columns[-1] == "… and 10 more columns"
    assert wide.rows == [[*range(20), "… and 10 more cells"]]


def test_a_table_of_the_usual_size_is_kept_as_it_is():
    rows = [[f"layer {n}", n, 0.5, True, None] for n in range(150)]
    (table,) = _view([_table("layers", ["a", "b", "c", "d", "e"], rows)]).tables
    assert (table.name, table.columns, table.rows) == ("layers", ["a", "b", "c", "d", "e"], rows)


def test_the_newest_tables_are_kept():
    names = [table.name for table in _view([_table(f"t{n}", ["a"], [[n]]) for n in range(100)]).tables]
    assert names == [f"t{n}" for n in range(100 - bounded.TABLES, 100)]


@given(st.lists(st.dictionaries(st.sampled_from([f"r{n}" for n in range(40)]), st.integers(1, 9), max_size=30)))
def test_reasons_beyond_the_first_are_summed(dropped: list[dict[str, int]]):
    kept = dict(_view([event("trace", dropped=one) for one in dropped]).traces.dropped)
    first = list(dict.fromkeys(reason for one in dropped for reason in one))[: bounded.REASONS]
    expected: dict[str, int] = {}
    for one in dropped:
        for reason, tokens in one.items():
            name = reason if reason in first else bounded.OTHER
            expected[name] = expected.get(name, 0) + tokens
    assert kept == expected


@pytest.mark.parametrize("kind", ["flip", "checkpoint", "artifact", "upload", "run_finished", "alert", "log"])
def test_an_ordinary_event_is_left_as_it_is(kind: str):
    one = event(kind)
    assert json.dumps(to_dict(bounded.bounded(one))) == json.dumps(to_dict(one))
