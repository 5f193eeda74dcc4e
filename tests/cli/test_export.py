"""`bitnet export` and `bitnet verify-export` on an experiment with a checkpoint: what they write, show and refuse."""

import dataclasses
import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest

from bitnet_core.cli import exporting
from bitnet_core.cli.main import main
from bitnet_core.evaluation.deployed import Deployed
from bitnet_core.export import gguf_read, hf
from bitnet_core.export import verify as verifying
from bitnet_core.export.verify import Verification
from bitnet_core.model.decoding import generate_ids
from bitnet_core.model.student import Student
from bitnet_core.traces.schema import TOKENIZER_FOLDER
from bitnet_core.training import checkpoints
from bitnet_core.training.checkpoints import Checkpoint
from tests.builders import do_before, stage_context
from tests.export.conftest import random_student
from tests.traces.samples import small_tokenizer
from tests.training.conftest import _one_thread

__all__ = ["_one_thread"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An experiment with a student's checkpoint, at 4 bits, and its tokenizer."""
    experiment = stage_context(tmp_path / "experiment").experiment
    tokenizer = small_tokenizer()
    student = random_student(tokenizer.vocab_size)
    made = Checkpoint(2, 300, 4, student.config, tokenizer.hash, dict(student.state_dict()), recipe={"KD_TAU": 1.3})
    checkpoints.save(experiment.checkpoints, made, {})
    tokenizer.save(experiment.data / TOKENIZER_FOLDER)
    return experiment.root


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the student in this process: another one takes seconds to start, and has its own tests."""

    def deployed(packed: Student, prompts: Any, sampling: Any, *, eos_id: int, **_: Any) -> Deployed:
        made = [generate_ids(packed, prompt, sampling, eos_id=eos_id) for prompt in prompts]
        return Deployed(made, {"total": 9}, 7, "", 1, 1, 1, "", 1)

    monkeypatch.setattr(exporting, "run_deployed", deployed)


def answered(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    assert main([*words, "--json"]) == code
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def refused(capsys: pytest.CaptureFixture[str], *words: str, code: int = 1) -> str:
    assert main(list(words)) == code
    said = capsys.readouterr().err
    assert said.endswith(".\n")
    assert "Traceback" not in said
    return said


def export(root: Path, *words: str) -> list[str]:
    return ["export", *words, "--root", str(root)]


@pytest.mark.usefixtures("_here")
def test_a_gguf_is_written_verified_and_shown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = answered(capsys, *export(root, "gguf"))
    assert told["verified"]
    assert told["problems"] == []
    own, other, llama = told["rows"]
    assert [row["runtime"] for row in told["rows"]] == ["in-process", "transformers", "llama.cpp"]
    assert (own["loads"], other["loads"], llama["loads"]) == ("yes", "not exported", "yes")
    assert other["line"] == "bitnet export hf"
    assert llama["found"]["mean_kl"] <= 2e-3
    assert llama["tokens_per_s"] > 0 < own["tokens_per_s"]
    assert llama["memory_bytes"] > 0 < own["memory_bytes"]
    (path,) = told["exported"]
    assert llama["line"] == f"bitnet serve {path}"
    assert any("trained at 4 bits" in note for note in told["notes"])
    fields = gguf.GGUFReader(path).fields
    assert fields["bitnet_core.step"].contents() == 2
    assert fields["bitnet_core.checkpoint_sha256"].contents() == checkpoint_hash(root)


def checkpoint_hash(root: Path) -> str:
    path = checkpoints.latest(root / "checkpoints")
    assert path is not None
    found: str = json.loads(checkpoints.health_of(path).read_text())["sha256"]
    return found


def test_nothing_is_overwritten_unless_asked(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = export(root, "hf", "gguf", "--no-verify")
    assert main(words) == 0
    folder, file = (root / "exports" / name for name in ("experiment-step2-hf", "experiment-step2-TQ2_0.gguf"))
    before = file.read_bytes(), sorted(one.name for one in folder.iterdir())
    file.write_bytes(b"mine")
    assert "give --force to replace it" in refused(capsys, *words, code=2)
    assert file.read_bytes() == b"mine"
    assert main([*words, "--force"]) == 0
    assert (file.read_bytes(), sorted(one.name for one in folder.iterdir())) == before


def test_exports_are_listed_and_one_that_can_not_be_used_is_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = export(root, "--list")
    assert main(listed) == 0
    assert "exports holds no export; `bitnet export hf gguf` writes two" in capsys.readouterr().out
    assert main(export(root, "hf", "gguf", "--no-verify")) == 0
    folder, file = (root / "exports" / name for name in ("experiment-step2-hf", "experiment-step2-TQ2_0.gguf"))
    (folder / hf.CONFIG_FILE).write_text("{")
    capsys.readouterr()
    assert main(listed) == 0
    told = capsys.readouterr()
    assert told.err == (
        f"bitnet: warning: The export {folder.name} can't be used (config.json is damaged); move it away, and export "
        "it again.\n"
    )
    assert file.name in told.out
    assert folder.name not in told.out
    assert main([*listed, "--json"]) == 0
    told = capsys.readouterr()
    records = {Path(one["path"]): one["problem"] for one in map(json.loads, told.out.splitlines())}
    assert (records, told.err) == ({file: None, folder: "config.json is damaged"}, "")
    assert "give hf, gguf or both" in refused(capsys, *export(root), code=2)


def test_each_checkpoint_can_be_exported_and_the_answer_names_it(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoints.require_latest(root / "checkpoints")
    made = checkpoints.load(path)
    for step in (4, 6):
        checkpoints.save(path.parent, dataclasses.replace(made, step=step), {"best": {"step": 4}})
    for which, step in (("best", 4), ("2", 2), (path.name, 2), ("latest", 6)):
        words = export(root, "gguf", "--checkpoint", which, "--no-verify", "--force")
        told = answered(capsys, *words)
        assert told["exported"] == [str(root / "exports" / f"experiment-step{step}-TQ2_0.gguf")]
        assert told["step"] == step
        assert main(words) == 0
        assert f"Made from step {step} (mini_bitnet_step_0000000{step}.pt):" in capsys.readouterr().out
    assert "steps that are there: 2, 4, 6." in refused(capsys, *export(root, "gguf", "--checkpoint", "5"))


def test_the_model_card_says_how_it_was_made(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = {
        "checkpoint": {"step": 2},
        "teacher": {"provider": "embedded", "model": "evil](x)\n# title\x1b[2J"},
        "quality": {"student": {"value": 0.125}, "teacher": "torn"},
        "imitation": {"by_activation_bits": {"4": {"agreement": {"value": 0.25}}}},
    }
    (root / "reports" / "mini_evaluation_report.json").write_text(json.dumps(report))
    assert main(export(root, "hf", "--no-verify")) == 0
    card = (root / "exports" / "experiment-step2-hf" / hf.CARD_FILE).read_text()
    assert "| KD\\_TAU |" in card
    assert "| step | 2 |" in card
    assert "agreement with the teacher: 25.0%" in card
    assert "quality of the student on items and fixed text, from 0 to 1: 0.125" in card
    assert "\x1b" not in card
    assert "\n# title" not in card
    assert "evil\\](x)" in card
    assert "has not been trained" not in card
    assert "pip install 'transformers[serving]'" in card
    assert 'pipeline("text-generation", "."' in card


def test_a_student_that_was_never_trained_is_exported_as_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoints.require_latest(root / "checkpoints")
    made = dataclasses.replace(checkpoints.load(path), step=0, seen_tokens=0)
    checkpoints.save(path.parent, made, {})
    assert main(export(root, "hf", "--no-verify", "--checkpoint", "0")) == 0
    said = capsys.readouterr()
    assert "mini_bitnet_step_00000000.pt has not been trained: it has the weights that training starts" in said.err
    assert "Made from step 0 (mini_bitnet_step_00000000.pt), which has not been trained:" in said.out
    assert "It has not been trained" in (root / "exports" / "experiment-step0-hf" / hf.CARD_FILE).read_text()


@pytest.mark.usefixtures("_here")
def test_a_student_in_the_middle_of_a_flip_is_exported_with_the_bits_of_its_layers(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoints.require_latest(root / "checkpoints")
    made = dataclasses.replace(checkpoints.load(path), activation_bits=8, counters={"layer_bits": [8, 4]})
    checkpoints.save(path.parent, made, {})
    (note,) = [one for one in answered(capsys, *export(root, "gguf"))["notes"] if "trained at" in one]
    assert note.startswith("It was trained at 8 bits in 1 of 2 layers, 4 bits in the other, and both runtimes")
    assert main(export(root, "hf", "--no-verify")) == 0
    folder, file = (root / "exports" / name for name in ("experiment-step2-hf", "experiment-step2-TQ2_0.gguf"))
    told = json.loads((folder / hf.CONFIG_FILE).read_text())["bitnet_core"]["activation_bits"]
    assert told == gguf_read.look(file).origin["activation_bits"] == "8 in 1 of 2 layers, 4 in the other"
    card = (folder / hf.CARD_FILE).read_text()
    assert "rounded to 8 bits in 1 of 2 layers, 4 bits in the other in training" in card


@pytest.mark.usefixtures("_here")
def test_verifying_an_export_changes_nothing_in_it(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(export(root, "hf", "gguf", "--no-verify")) == 0
    folder, file = (root / "exports" / name for name in ("experiment-step2-hf", "experiment-step2-TQ2_0.gguf"))
    in_llamacpp = verifying.verify_gguf

    def in_transformers(path: Path, *student: Any) -> Verification:
        """Its loader alone takes seconds to import."""
        return dataclasses.replace(in_llamacpp(file, *student), runtime="transformers", path=path)

    monkeypatch.setattr(verifying, "verify_folder", in_transformers)
    (folder / hf.CARD_FILE).write_text("# My own words\n")
    capsys.readouterr()
    assert answered(capsys, "verify-export", str(folder), "--root", str(root))["verified"]
    assert (folder / hf.CARD_FILE).read_text() == "# My own words\n"
    assert answered(capsys, *export(root, "hf", "--force"))["verified"]
    assert "own words" not in (folder / hf.CARD_FILE).read_text()


def test_a_student_too_short_for_any_prompt_is_told_what_to_do(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "_SHORT_PROMPTS", 1 / 1000)
    assert refused(capsys, *export(root, "gguf")).endswith("can't be compared with it; give --no-verify.\n")
    file = root / "exports" / "experiment-step2-TQ2_0.gguf"
    said = refused(capsys, "verify-export", str(file), "--root", str(root))
    assert said.endswith("can't be compared with it; train with a larger MAX_SEQ_LEN.\n")


def test_an_export_of_a_checkpoint_that_a_training_removes_is_of_a_newer_one(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = checkpoints.path_of(root / "checkpoints", 2)

    def replace() -> None:
        checkpoints.save(root / "checkpoints", dataclasses.replace(checkpoints.load(old), step=3), {})
        old.unlink()

    do_before(monkeypatch, checkpoints, "load_hashed", replace)
    told = answered(capsys, *export(root, "gguf", "--no-verify"))
    newer = checkpoints.path_of(root / "checkpoints", 3)
    assert (told["step"], [Path(one).name for one in told["exported"]]) == (3, ["experiment-step3-TQ2_0.gguf"])
    origin = gguf_read.look(Path(told["exported"][0])).origin
    assert origin["checkpoint_sha256"] == hashlib.sha256(newer.read_bytes()).hexdigest()


def test_other_and_damaged_exports_are_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(export(root, "gguf", "--no-verify")) == 0
    file = root / "exports" / "experiment-step2-TQ2_0.gguf"
    verify = ["verify-export", str(file), "--root", str(root)]
    path = checkpoints.latest(root / "checkpoints")
    assert path is not None
    payload = checkpoints.load(path)
    payload.seen_tokens += 1
    checkpoints.save(path.parent, payload, {})
    assert "whose content differs" in refused(capsys, *verify)
    file.write_bytes(file.read_bytes()[:-100])
    assert "its end is missing" in refused(capsys, *verify)
    assert "does not exist" in refused(capsys, "verify-export", str(root / "no.gguf"), "--root", str(root), code=2)
    assert "config.json" in refused(capsys, "verify-export", str(root), "--root", str(root))
    (root / "config.json").write_text("{")
    said = refused(capsys, "verify-export", str(root), "--root", str(root))
    assert "config.json is not valid JSON; export it again" in said


def test_a_checkpoint_of_another_tokenizer_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoints.latest(root / "checkpoints")
    assert path is not None
    payload = checkpoints.load(path)
    payload.tokenizer_hash = "other"
    checkpoints.save(path.parent, payload, {})
    assert "another tokenizer" in refused(capsys, *export(root, "gguf"))
    assert not list((root / "exports").glob("[!.]*"))


@pytest.mark.usefixtures("_here")
def test_another_function_in_a_whole_file_is_found(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(export(root, "gguf", "--no-verify")) == 0
    capsys.readouterr()
    file = root / "exports" / "experiment-step2-TQ2_0.gguf"
    (tensor,) = (one for one in gguf.GGUFReader(file).tensors if one.name == "blk.1.ffn_down.weight")
    with file.open("r+b") as changed:
        changed.seek(tensor.data_offset)
        changed.write(bytes([0b01101001]) * 64 * 60)
    assert "was changed after" in refused(capsys, "verify-export", str(file), "--root", str(root))
    monkeypatch.setattr(gguf_read, "require_as_written", lambda _: None)
    told = answered(capsys, "verify-export", str(file), "--root", str(root), code=1)
    assert not told["verified"]
    assert "has a mean KL of" in told["problems"][0]


@pytest.mark.usefixtures("_here")
def test_without_accelerate_the_folder_is_written_and_the_card_says_what_is_missing(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    told = answered(capsys, *export(root, "hf"))
    assert not told["verified"]
    assert told["problems"] == []
    assert (told["rows"][1]["loads"], told["rows"][2]["loads"]) == ("not tried", "not exported")
    assert "pip install 'bitnet-tui[gguf]'" in told["rows"][1]["line"]
    assert "accelerate" in refused(capsys, "verify-export", told["exported"][0], "--root", str(root))


def test_a_place_that_is_taken_is_said_before_the_checkpoint_is_read(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoints.latest(root / "checkpoints")
    assert path is not None
    path.write_bytes(b"damaged")
    taken = tmp_path / "taken.gguf"
    taken.touch()
    assert "is there already" in refused(
        capsys, *export(root, "gguf", "--out", str(taken), "--checkpoint", path.name), code=2
    )
    assert "is truncated" in refused(capsys, *export(root, "gguf", "--checkpoint", path.name))


def test_what_can_be_refused_at_once_does_not_wait_for_torch(root: Path, tmp_path: Path) -> None:
    """Which takes seconds to import."""
    home, newest = root / "exports", checkpoints.latest(root / "checkpoints")
    assert newest is not None
    (home / f"{root.name}-step2-hf").mkdir(parents=True)
    (home / f"{root.name}-step2-hf" / "config.json").write_text('{"bitnet_core": {}}')
    (tmp_path / "taken.gguf").touch()
    damaged = newest.with_name("mini_bitnet_step_00000003.pt")
    damaged.write_bytes(b"x")
    checkpoints.health_of(damaged).write_text('{"sha256": "0", "bytes": 1}')
    cases = {
        "taken.gguf is there already": ["gguf", "--out", str(tmp_path / "taken.gguf")],
        "step2-hf is there already": ["hf"],
        "mini_bitnet_step_00000003.pt is damaged": ["gguf", "--checkpoint", "3"],
        "no complete checkpoint of step 9": ["gguf", "--checkpoint", "9"],
    }
    code = "import sys; from bitnet_core.cli.main import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    for said, words in cases.items():
        command = [sys.executable, "-c", code, *export(root, *words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        assert said in done.stderr
        assert done.stdout == "False\n", said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("hf", "--type", "Q2_0"), "--type"),
        (("hf", "gguf", "--out", "x"), "--out"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    root: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], named: str
) -> None:
    assert named in refused(capsys, *export(root, *words), code=2)
