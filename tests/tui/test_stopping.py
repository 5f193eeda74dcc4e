"""What is asked before a run is stopped: it promises only what the stage keeps."""

import pytest

from bitnet_tui.view import stopping


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
    question, why, *_ = stopping.question(name, active)
    assert (question, why.removesuffix("Leaving the app (q) does not stop it.")) == (asked, told)
    assert stopping.keeps(name, active) == ("saves" in told)
