"""Events as text: every kind renders, numbers stay readable, tables stay aligned, JSON stays JSON."""

import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.console import Console, duration, number, render, render_table, size
from bitnet_core.events import KINDS

EXAMPLES = {
    "run_started": {"stage": "train", "run": "train-1", "pid": 7, "host": "box", "device": "cpu", "versions": {}},
    "progress": {"done": 3, "total": 9, "unit": "prompts", "rate": 1.5, "eta_s": 61.0, "label": "collect"},
    "metric": {
        "step": 1200,
        "seen_tokens": 34567,
        "loss": 2.5,
        "kl": None,
        "lr": 6e-4,
        "activation_bits": 4,
        "nonfinite": 2,
    },
    "flip": {"step": 1000, "seen_tokens": 900000, "from_bits": 8, "to_bits": 4},
    "checkpoint": {"step": 200, "path": "/x/mini.pt", "bytes": 1234567, "sha256": "00"},
    "sample": {"prompt": "Say\nhello", "text": "x" * 200, "source": "teacher"},
    "trace": {"prompt_idx": 1, "tokens": 10, "kept": 10, "dropped": {}, "other_mass_mean": 0.01},
    "table": {"name": "qei", "columns": ["quantity", "value"], "rows": [["QEI", 1.25], ["memory", None]]},
    "artifact": {"path": "/x/report.json", "bytes": 10, "sha256": "00", "role": "report"},
    "upload": {"path": "/x", "target": "s3", "bytes": 1, "done": 1, "state": "done"},
    "alert": {"severity": "warning", "code": "low_disk", "message": "The disk is filling.", "advice": "Free some."},
    "log": {"level": "info", "message": "hello"},
    "run_finished": {"state": "failed", "exit_code": 1, "error": "The moon.", "summary": {}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_renders_on_few_lines(kind: str) -> None:
    text = render({"v": 1, "t": 0.0, "seq": 0, "kind": kind, **EXAMPLES[kind]})
    assert bool(text) == (kind not in ("trace", "upload"))
    assert kind == "table" or "\n" not in text
    assert all(len(line) < 200 for line in text.splitlines())


def test_what_the_lines_say() -> None:
    assert render({"kind": "progress", **EXAMPLES["progress"]}) == "  collect  3/9 prompts  1.5 prompts/s  1:01 left"
    assert render({"kind": "metric", **EXAMPLES["metric"]}) == (
        "  step 1,200  34,567 tokens  loss 2.5  lr 6.00e-04  A4  2 not finite"
    )
    assert render({"kind": "run_finished", **EXAMPLES["run_finished"]}) == "✗ failed: The moon."


_CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9), st.text("abc ", max_size=9)
)


@given(st.lists(st.lists(_CELLS, min_size=3, max_size=3), max_size=6))
def test_tables_are_aligned(rows: list[list[object]]) -> None:
    lines = render_table("t", ["a", "bb", "ccc"], rows).splitlines()
    assert len(lines) == len(rows) + 3
    rule = lines[2]
    for line in lines[3:]:
        assert len(line) <= len(rule)
        gaps = [i for i in range(2, len(line)) if i < len(rule) and rule[i] == " "]
        assert all(line[i] == " " for i in gaps)


def test_a_column_of_prose_folds_to_the_terminal() -> None:
    prose = "resident bytes added by loading and running the student, in a process of its own, and more"
    lines = render_table("memory", ["memory", "bytes", "how"], [["student", 123456789, prose]], width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines[3:]).split()) == f"student 123,456,789 {prose}"


@given(st.floats(-1e300, 1e300))
def test_a_number_keeps_its_value(value: float) -> None:
    shown = float(number(value).replace(",", ""))
    assert math.isclose(shown, value, rel_tol=6e-3, abs_tol=1e-300)


def test_sizes_and_durations() -> None:
    assert [size(n) for n in (0, 999, 1500, 98_400_000, 4e9, 5e12)] == [
        "0 B", "999 B", "1.5 kB", "98.4 MB", "4.0 GB", "5000.0 GB",
    ]  # fmt: skip
    assert [duration(s) for s in (None, 0, 61, 3725)] == ["–", "0:00", "1:01", "1:02:05"]


def test_json_mode_writes_every_event_with_its_run() -> None:
    stream = io.StringIO()
    console = Console(stream, as_json=True)
    for kind in KINDS:
        console.event("run-1", {"kind": kind, **EXAMPLES[kind]})
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["kind"] for line in lines] == list(KINDS)
    assert {line["run"] for line in lines} == {"run-1"}


def test_progress_is_not_a_flood_where_nobody_redraws() -> None:
    stream = io.StringIO()
    console = Console(stream)
    for done in range(100):
        console.event("run-1", {"kind": "progress", **EXAMPLES["progress"], "done": done})
    assert stream.getvalue().count("\n") == 1


def test_a_ramp_says_how_many_layers_have_flipped() -> None:
    flip = {"kind": "flip", "step": 9, "seen_tokens": 900, "from_bits": 8, "to_bits": 4, "layers_total": 4}
    assert "A8 → A4 in 2 of 4 layers at step 9" in render(flip | {"layers_flipped": 2})
    assert "A8 → A4 at step 9" in render(flip | {"layers_flipped": 4})
