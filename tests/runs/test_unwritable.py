"""What can't succeed ends before its work: a stage whose result can't be written, and a pipeline."""

from pathlib import Path

import pytest

from bitnet_core.runs.catalog import EVALUATION_REPORT, STAGES
from tests.builders import events_of
from tests.runs.real import Starter, wait


def _block(path: Path) -> None:
    path.mkdir(parents=True)


@pytest.mark.parametrize(
    "stage", [name for name, stage in STAGES.items() if all(at == "reports" for at, _ in stage.outputs)]
)
def test_a_folder_in_the_place_of_a_report_ends_the_stage_at_once(start: Starter, tmp_path: Path, stage: str) -> None:
    ((place, name),) = STAGES[stage].outputs
    _block(tmp_path / "exp" / place / name)
    run = start(stage, what="wait")
    assert wait(run, "failed", "succeeded") == "failed"
    error = run.record().error
    assert error == (
        f"{tmp_path}/exp/reports/{name} can't be written (Is a directory); "
        "move the folder away that is in the place of a file."
    )
    kinds = [event["kind"] for event in events_of(run.events_path)]
    assert kinds[-1] == "run_finished"
    assert "artifact" not in kinds


def test_a_pipeline_says_it_before_its_first_stage(start: Starter, tmp_path: Path) -> None:
    _block(tmp_path / "exp" / "reports" / EVALUATION_REPORT)
    run = start("pipeline")
    assert wait(run, "failed", "succeeded") == "failed"
    assert f"{EVALUATION_REPORT} can't be written (Is a directory)" in str(run.record().error)
    assert [path.name for path in (tmp_path / "exp" / "logs").iterdir() if path.is_dir()] == [run.id]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"STUDENT_INIT": "teacher", "TEACHER_PROVIDER": "openai", "TEACHER_MODEL": "gpt-x"},
            "STUDENT_INIT=teacher needs the teacher's weights, and those of gpt-x are at openai",
        ),
        ({"STUDENT_INIT": "teacher", "MINI_DIM": "128"}, "MINI_DIM is set and the shape comes from STUDENT_INIT"),
    ],
)
def test_a_pipeline_says_what_training_would_refuse_before_its_first_stage(
    start: Starter, tmp_path: Path, values: dict[str, str], sentence: str
) -> None:
    """The traces would have been paid for by then."""
    run = start("pipeline", **values)
    assert wait(run, "failed", "succeeded") == "failed"
    assert str(run.record().error).startswith(sentence)
    assert [path.name for path in (tmp_path / "exp" / "logs").iterdir() if path.is_dir()] == [run.id]
