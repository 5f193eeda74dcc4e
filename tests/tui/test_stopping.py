"""What is asked before a run is stopped: it promises only what the stage keeps."""

import pytest

from bitnet_core.runs.catalog import stage
from bitnet_core.runs.events import Progress
from bitnet_tui.view import stopping
from bitnet_tui.view.stage_rows import StageRow

_FITTING = Progress(done=168, total=512, unit="steps", label="fitting the student to its source")


@pytest.mark.parametrize(
    ("name", "active", "asked", "told"),
    [
        ("train", ("train",), "Stop “Train the student”?", "It saves its work first; r continues from there. "),
        ("teacher", ("teacher",), "Stop “Teacher baseline”?", "It saves its work first; r continues from there. "),
        ("eval", ("eval",), "Stop “Evaluate”?", "It keeps nothing of its work; r begins it anew. "),
        (
            "dryrun",
            ("dryrun", "pipeline"),
            "Stop “7B dry run” and the pipeline?",
            "It keeps nothing of its work, and the pipeline that it belongs to ends with it; p begins it anew. ",
        ),
        (
            "pipeline",
            ("train", "pipeline"),
            "Stop “Whole pipeline”?",
            "The running stage saves its work first; p continues from there. ",
        ),
        (
            "pipeline",
            ("eval", "pipeline"),
            "Stop “Whole pipeline”?",
            "The running stage keeps nothing of its work; p begins it anew. ",
        ),
    ],
)
def test_a_stop_promises_what_the_stage_keeps(name: str, active: tuple[str, ...], asked: str, told: str) -> None:
    rows = [StageRow(one, one, "running", keeps=stage(one).resumes) for one in active]
    question, why, *_ = stopping.question(name, rows)
    assert (question, why.removesuffix("Leaving the app (q) does not stop it.")) == (asked, told)
    assert stopping.keeps(name, rows) == ("saves" in told)


def test_a_training_whose_start_is_being_made_keeps_nothing_until_its_first_step():
    row = StageRow("train", "Train the student", "running", keeps=False)
    assert "It keeps nothing of its work; r begins it anew." in stopping.question("train", [row.at_work(_FITTING)])[1]
    stepped = row.at_work(Progress(done=1, total=8, unit="steps", step=1))
    assert "It saves its work first; r continues from there." in stopping.question("train", [stepped])[1]
