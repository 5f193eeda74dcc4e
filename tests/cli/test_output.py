"""Events on the command line: every kind renders, JSON stays JSON, progress does not flood the output."""

import io
import json

import pytest

from bitnet_core.cli.output import Console, render
from bitnet_core.runs.events import KINDS
from tests.builders import event
from tests.hostile import terminal

EXAMPLES = {
    "run_started": {"stage": "train", "run": "train-1", "pid": 7, "host": "box", "device": "cpu", "versions": {}},
    "progress": {"done": 3, "total": 9, "unit": "prompts", "rate": 1.5, "eta_s": 61.0, "label": "collect"},
    "metric": {"step": 1200, "seen_tokens": 34567, "loss": 2.5, "kl": None, "lr": 6e-4, "activation_bits": 4,
               "nonfinite": 2},
    "budget": {"tokens": 28000, "epoch_tokens": 7000, "epochs": 4, "flip_at_tokens": 25200},
    "changed": {"step": 900, "seen_tokens": 800000, "before": {"LR": 6e-4}, "after": {"LR": 3e-4}},
    "flip": {"step": 1000, "seen_tokens": 900000, "from_bits": 8, "to_bits": 4},
    "checkpoint": {"step": 200, "path": "/x/checkpoints/mini.pt", "bytes": 1234567, "sha256": "00"},
    "sample": {"prompt": "Say\nhello", "text": "x" * 200, "source": "teacher"},
    "trace": {"prompt_idx": 1, "tokens": 10, "kept": 10, "dropped": {}, "other_mass_mean": 0.01},
    "table": {"name": "qei", "columns": ["quantity", "value"], "rows": [["QEI", 1.25], ["memory", None]]},
    "artifact": {"path": "/x/reports/report.json", "bytes": 10, "sha256": "00", "role": "report"},
    "upload": {"path": "/x/data/a", "target": "s3", "bytes": 1, "done": 1, "state": "done"},
    "alert": {"severity": "warning", "code": "low_disk", "message": "The disk is filling.", "advice": "Free some."},
    "log": {"level": "info", "message": "hello"},
    "run_finished": {"state": "failed", "exit_code": 1, "error": "The moon.", "summary": {}},
}  # fmt: skip
LINES = {
    "run_started": "▸ train-1 started (pid 7 on box, cpu)",
    "progress": "  collect  3/9 prompts  1.50 prompts/s  1m 01s left",
    "metric": "  step 1,200  34,567 tokens  loss 2.500  lr 6.00e-4  A4  2 steps not finite",
    "budget": "  budget: 28,000 tokens, 4 epochs of 7,000; the flip is at 25,200",
    "changed": "║ Training continues from step 900 with LR 6e-4 → 3e-4.",
    "flip": "┊ activations A8 → A4 at step 1,000, 900,000 tokens seen",
    "checkpoint": "  checkpoint of step 200: checkpoints/mini.pt, 1.2 MB",
    "sample": "› Say hello\n  " + "x" * 77 + "…",
    "trace": "",
    "artifact": "  wrote reports/report.json, 10 B",
    "upload": "  upload of data/a to s3: done",
    "alert": "! The disk is filling.\n  Free some.",
    "log": "  hello",
    "run_finished": "✗ failed: The moon.",
}


@pytest.mark.parametrize("kind", LINES)
def test_the_line_of_each_kind(kind: str) -> None:
    assert render(event(kind, **EXAMPLES[kind])) == LINES[kind]


def test_a_metric_without_a_step_has_no_line() -> None:
    assert render(event("metric", answers=3, tokens_per_s=10.0)) == ""


def test_an_upload_that_goes_on_says_how_far_it_is() -> None:
    sending = {"path": "/x/data/a", "target": "s3", "bytes": 193_000_000, "done": 8_400_000, "state": "sending"}
    assert render(event("upload", **sending)) == "  upload of data/a to s3: sending, 8.4 MB of 193 MB"


def test_a_ramp_says_how_many_layers_have_flipped() -> None:
    flip = {"step": 9, "seen_tokens": 900, "from_bits": 8, "to_bits": 4, "layers_total": 4}
    assert "A8 → A4 in 2 of 4 layers at step 9" in render(event("flip", **flip, layers_flipped=2))
    assert "A8 → A4 at step 9" in render(event("flip", **flip, layers_flipped=4))


def test_escape_sequences_from_outside_are_not_printed() -> None:
    for kind in ("log", "alert"):
        assert "\x1b" not in render(
            event(kind, level="info", message="\x1b]0;title\x07") if kind == "log" else event(kind, message="\x1b[2J")
        )
    assert "\x1b" not in render(event("table", name="t", columns=["\x1b[1m"], rows=[["\x1b[2J"]]))


def test_json_mode_writes_every_event_with_its_run() -> None:
    stream = io.StringIO()
    console = Console(stream, as_json=True)
    for kind, fields in EXAMPLES.items():
        console.event("run-1", event(kind, **fields))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["kind"] for line in lines] == [kind.__struct_config__.tag for kind in KINDS]
    assert {line["run"] for line in lines} == {"run-1"}


def test_uploads_do_not_drown_the_stage_beside_them() -> None:
    stream = io.StringIO()
    console = Console(stream)
    for run in ("train-1", "upload-1"):
        console.event(run, event("upload", **EXAMPLES["upload"]))
    assert stream.getvalue() == LINES["upload"] + "\n"


def test_progress_does_not_flood_a_stream_that_is_not_a_terminal() -> None:
    stream = io.StringIO()
    console = Console(stream)
    for done in range(100):
        console.event("run-1", event("progress", **EXAMPLES["progress"] | {"done": done}))
    assert stream.getvalue().count("\n") == 1


def test_progress_is_redrawn_on_a_terminal_and_cleared_by_the_next_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    with terminal(monkeypatch, "ascii") as got:
        console = Console()
        for done in (1, 2):
            fields = EXAMPLES["progress"] | {"done": done, "label": "collect… \x1b[2J"}
            console.event("run-1", event("progress", **fields))
        console.event("run-1", event("log", **EXAMPLES["log"]))
    assert got.getvalue() == (
        b"\r\x1b[K  collect... .[2J  1/9 prompt\r\x1b[K  collect... .[2J  2/9 prompt\r\x1b[K  hello\n"
    )
