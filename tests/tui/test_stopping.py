"""What is asked before a run is stopped: it promises only what the stage keeps."""

import pytest

from bitnet_tui.view import stopping


@pytest.mark.parametrize(
    ("name", "with_pipeline", "asked", "told"),
    [
        ("train", False, "Stop train?", "It saves its work first; r continues from there. "),
        ("teacher", False, "Stop teacher?", "It saves its work first; r continues from there. "),
        ("eval", False, "Stop eval?", "It keeps nothing of its work; r begins it anew. "),
        (
            "dryrun",
            True,
            "Stop dryrun and the pipeline?",
            "It keeps nothing of its work, and the pipeline that it belongs to ends with it; p begins it anew. ",
        ),
        ("pipeline", False, "Stop pipeline?", "The running stage saves its work first; p continues from there. "),
    ],
)
def test_a_stop_promises_what_the_stage_keeps(name: str, with_pipeline: bool, asked: str, told: str) -> None:
    question, why, *_ = stopping.question(name, with_pipeline=with_pipeline)
    assert (question, why.removesuffix("Leaving the app (q) does not stop it.")) == (asked, told)
