"""An experiment that version 0.1.0 made, before its modules were moved: every part of it is read as it was.

`fixtures/experiment-0.1.0.tar.xz` is a whole pipeline of a tiny student on the embedded teacher, with a tokenizer of
256 bytes. To keep it small, the checkpoint's weights were rounded to 1/64 and its moments set to zero.
"""

import shutil
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bitnet_core.cli.main import main
from bitnet_core.collecting.journal import Journal
from bitnet_core.runs.catalog import STAGES
from bitnet_core.runs.event_files import read_events
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.settings.resolve import resolve
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.schema import TOKENIZER_FIX
from bitnet_core.training import checkpoints
from bitnet_tui.view.watch import ExperimentWatcher

ARCHIVE = Path(__file__).parent / "fixtures" / "experiment-0.1.0.tar.xz"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def old(unpacked: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unpacked / "before", tmp_path / "before"))


def test_every_run_and_every_event_is_read(old: Path) -> None:
    history = History.read(Experiment.from_settings(resolve(root=old).settings))
    assert sorted(record.stage for _, record in history.entries) == sorted([*STAGES, "pipeline"])
    for run, _ in history.entries:
        assert run.state() == "succeeded"
        assert len(read_events(run.events_path)) == len(run.events_path.read_bytes().splitlines())


def test_what_was_done_is_still_done(old: Path) -> None:
    """The fingerprints of the settings are what they were: the pipeline would skip every stage."""
    history = History.read(Experiment.from_settings(resolve(root=old).settings))
    assert {stage: history.status(stage).state for stage in STAGES} == dict.fromkeys(STAGES, "done")


def test_its_traces_and_its_checkpoint_still_fit_each_other(old: Path) -> None:
    tokenizer = load_tokenizer(old / "data" / "tokenizer", fix=TOKENIZER_FIX)
    traces = load_traces(old / "data", 20)
    assert len(traces.sequences) == 6
    path = checkpoints.latest(old / "checkpoints")
    assert path is not None
    kept = checkpoints.load(path)
    assert kept.tokenizer_hash == tokenizer.hash == traces.tokenizer_hash
    assert (kept.step, kept.activation_bits) == (4, 4)
    assert checkpoints.student_from(kept).config == kept.config


def test_its_journal_still_has_every_answer(old: Path) -> None:
    with Journal.of(old / "data") as journal:
        assert journal.path == old / "data.journal" / "journal.sqlite"
        assert journal.spent().requests >= 6
        assert journal.close_lost() == 0


def test_the_command_line_and_the_app_show_it(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(old), "runs"]) == 0
    assert capsys.readouterr().out.count("train-") == 1
    assert main(["--root", str(old), "traces", "stats"]) == 0
    assert "6" in capsys.readouterr().out
    view = ExperimentWatcher(old, old.parent).look("train")
    assert view.run is not None
    assert view.run.view.metric.step == 4
    assert all(row.state == "done" for row in view.rows)


@pytest.mark.teacher
def test_collecting_again_asks_nothing(old: Path, unpacked: Path, teacher_cache: Path) -> None:
    """Every kept answer is found by its key; the shards of an older projection get the same rows again."""
    before = {path.name: pq.read_table(path) for path in (old / "data").glob("*.parquet")}
    tokenizer = f"TOKENIZER_NAME={unpacked / 'bytes-tokenizer'}"
    assert main(["--root", str(old), "collect", "--set", tokenizer]) == 0
    last = History.read(Experiment.from_settings(resolve(root=old).settings)).latest("collect")
    assert last is not None
    summary = last.record.summary
    assert (summary["sequences"], summary["answers_this_run"]) == (6, 0)
    assert {path.name: pq.read_table(path) for path in (old / "data").glob("*.parquet")} == before


def test_training_goes_on_from_its_checkpoint(old: Path) -> None:
    assert main(["--root", str(old), "train", "--set", "BUDGET_TOKENS=600", "--set", "TOTAL_STEPS=6"]) == 0
    last = History.read(Experiment.from_settings(resolve(root=old).settings)).latest("train")
    assert last is not None
    summary = last.record.summary
    assert str(summary["resumed_from"]).endswith("mini_bitnet_step_00000004.pt")
    assert summary["steps"] > 4
