"""Commands that compute for minutes say first that their file can't be written."""

from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.errors import BitnetError
from bitnet_core.export import places
from tests.hostile import experiment


def test_scores_of_traces(isolated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = experiment(isolated, "exp")
    (root / "reports" / "trace_scores.parquet").mkdir(parents=True)
    capsys.readouterr()
    assert main(["--root", str(root), "traces", "score"]) == 1
    said = capsys.readouterr().err
    assert "trace_scores.parquet can't be written (Is a directory); move the folder away" in said


@pytest.mark.parametrize("folder", [True, False])
def test_an_export(tmp_path: Path, folder: bool) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BitnetError, match=r"file can't be written \(File exists\); move away what is there\."):
        places.require_free(tmp_path / "file" / "export", folder=folder, force=True)


def test_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.jsonl").mkdir()
    capsys.readouterr()
    assert main(["prompts", "--count", "3", "--out", str(tmp_path / "p.jsonl")]) == 1
    assert "p.jsonl can't be written (Is a directory); move the folder away" in capsys.readouterr().err
