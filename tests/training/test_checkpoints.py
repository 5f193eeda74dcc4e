"""A checkpoint is whole or skipped; a bad one raises an error that names the file and the fix."""

import dataclasses
import json
import math
import os
from pathlib import Path

import pytest
import torch

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.training import checkpoints
from bitnet_core.training.checkpoints import Checkpoint

CONFIG = StudentConfig(64, 256, 256, 1, 4, 4, 32)


def checkpoint(step: int, bits: int = 8) -> Checkpoint:
    torch.manual_seed(step)
    return Checkpoint(step, step * 100, bits, CONFIG, "abc", Student(CONFIG).state_dict())


def test_a_student_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    given = checkpoint(200, bits=4)
    saved = checkpoints.save(tmp_path, given, {"step": 200})
    path = Path(saved.path)
    assert path.name == "mini_bitnet_step_00000200.pt"
    assert (saved.step, saved.bytes) == (200, path.stat().st_size)
    health = json.loads((tmp_path / "mini_bitnet_step_00000200_health.json").read_text())
    assert health["sha256"] == saved.sha256
    student = checkpoints.student_from(checkpoints.load(path))
    assert student.activation_bits == 4
    assert not student.training
    assert "lm_head.weight" not in student.state_dict()
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, given.model[name])
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_changed_byte_is_found_without_a_health_file(tmp_path: Path, place: float) -> None:
    """torch reads such a weight as any other."""
    path = Path(checkpoints.save(tmp_path, checkpoint(1), {}).path)
    checkpoints.health_of(path).unlink()
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)["step"] == 1
    with pytest.raises(BitnetError, match=rf"^{path} is damaged: a byte in it was changed; move it away"):
        checkpoints.load(path)


@pytest.mark.parametrize("bits", [[], [8, 8], [4], [None], ["8"], [True], [16], 8, None, {}], ids=str)
def test_damaged_bits_of_the_layers_are_one_sentence(bits: object) -> None:
    damaged = dataclasses.replace(checkpoint(1), counters={"layer_bits": bits})
    with pytest.raises(BitnetError, match="step 1 has a damaged layer_bits; move it away to use the one before it"):
        checkpoints.student_from(damaged)


def test_latest_skips_incomplete_checkpoints(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path) is None
    paths = [Path(checkpoints.save(tmp_path, checkpoint(step), {"step": step}).path) for step in (5, 10, 15)]
    assert checkpoints.latest(tmp_path) == paths[2]
    paths[2].write_bytes(paths[2].read_bytes()[:-100])
    assert checkpoints.latest(tmp_path) == paths[1]
    checkpoints.health_of(paths[1]).unlink()
    assert checkpoints.latest(tmp_path) == paths[0]
    checkpoints.health_of(paths[0]).write_text("{")
    assert checkpoints.latest(tmp_path) is None


def test_a_checkpoint_of_another_length_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with holes may have any length, and reading it takes hours."""
    first, second = (Path(checkpoints.save(tmp_path, checkpoint(step), {}).path) for step in (5, 10))
    with second.open("r+b") as out:
        out.truncate(1 << 40)
    read: list[Path] = []

    def hashed(path: Path) -> str:
        read.append(path)
        return "" if path == second else hash_of(path)

    hash_of = files.sha256_file
    monkeypatch.setattr(files, "sha256_file", hashed)
    assert checkpoints.latest(tmp_path) == first
    assert read == [first]


def test_a_step_that_is_damaged_is_called_that(tmp_path: Path) -> None:
    paths = [Path(checkpoints.save(tmp_path, checkpoint(step), {"step": step}).path) for step in (5, 10, 15)]
    assert checkpoints.of_step(tmp_path, 10) == paths[1]
    with pytest.raises(BitnetError, match="is empty; give latest, best, a step or a file"):
        checkpoints.chosen(tmp_path, "")
    with pytest.raises(BitnetError, match=r"no complete checkpoint of step 7 in .*: 5, 10, 15\.$"):
        checkpoints.of_step(tmp_path, 7)
    whole = paths[1].read_bytes()
    for damage in (
        lambda: paths[1].write_bytes(whole[:-100]),
        lambda: checkpoints.health_of(paths[1]).write_text("[]"),
        lambda: (paths[1].unlink(), os.mkfifo(paths[1])),
    ):
        damage()
        with pytest.raises(
            BitnetError, match=r"_00000010.pt is damaged: .*_health.json tells of; .* there: 5, 15\.$"
        ):
            checkpoints.of_step(tmp_path, 10)
        assert checkpoints.latest(tmp_path) == paths[2]
    paths[2].unlink()
    with pytest.raises(BitnetError, match="no complete checkpoint of step 15"):
        checkpoints.of_step(tmp_path, 15)


def test_one_is_chosen_by_best_by_latest_by_its_step_or_by_its_file(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, checkpoint(step), {"best": {"step": 2}})
    name = "mini_bitnet_step_00000001.pt"
    wanted = {"latest": 3, "best": 2, "1": 1, name: 1, str(tmp_path / name): 1}
    found = {which: checkpoints.chosen(tmp_path, which) for which in wanted}
    assert found == {which: checkpoints.path_of(tmp_path, step) for which, step in wanted.items()}
    assert checkpoints.chosen(tmp_path, "other.pt") == Path("other.pt")
    with pytest.raises(BitnetError, match="is empty; give latest, best, a step or a file"):
        checkpoints.chosen(tmp_path, "")
    with pytest.raises(BitnetError, match=r"no complete checkpoint of step 7 .* steps that are there: 1, 2, 3\."):
        checkpoints.chosen(tmp_path, "7")
    checkpoints.save(tmp_path, checkpoint(4), {"best": "torn"})
    with pytest.raises(BitnetError, match="names a best checkpoint; choose one by its step"):
        checkpoints.chosen(tmp_path, "best")


@pytest.mark.parametrize("kind", ["cut", "pipe", "without health", "folder"])
def test_a_newer_checkpoint_that_is_passed_over_is_named_with_the_reason(tmp_path: Path, kind: str) -> None:
    older, newer = (Path(checkpoints.save(tmp_path, checkpoint(step), {}).path) for step in (5, 10))
    told: list[str] = []
    assert checkpoints.require_latest(tmp_path, told.append) == newer
    assert not told
    if kind == "cut":
        newer.write_bytes(newer.read_bytes()[:-100])
    elif kind == "without health":
        checkpoints.health_of(newer).unlink()
    else:
        newer.unlink()
        newer.mkdir() if kind == "folder" else os.mkfifo(newer)
    why = {"cut": "is damaged", "without health": "is incomplete"}.get(kind, "is not a regular file")
    assert checkpoints.require_latest(tmp_path, told.append) == older
    (said,) = told
    assert said.startswith(f"{newer} {why}")
    assert f"so {older.name} is used;" in said
    older.unlink()
    with pytest.raises(BitnetError, match=f"no complete checkpoint in .* \\({newer.name} {why}"):
        checkpoints.require_latest(tmp_path)


def test_the_newest_three_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5, 6):
        checkpoints.save(tmp_path, checkpoint(step), {})
    (tmp_path / "mine.pt").write_bytes(b"a user's own file")
    checkpoints.prune(tmp_path, best_step=2)
    assert [path.name[-4:] for path in checkpoints.found(tmp_path)] == ["6.pt", "5.pt", "4.pt", "2.pt"]
    assert len(list(tmp_path.glob("*_health.json"))) == 4
    assert (tmp_path / "mine.pt").exists()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code of a checkpoint was run')",))


def test_bad_files_raise_an_error_that_names_them(tmp_path: Path) -> None:
    good = Path(checkpoints.save(tmp_path, checkpoint(1), {}).path)
    cut = tmp_path / "cut.pt"
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    text = tmp_path / "text.pt"
    text.write_text("not a checkpoint")
    empty = tmp_path / "empty.pt"
    empty.touch()
    foreign = tmp_path / "foreign.pt"
    torch.save({"state_dict": {}}, foreign)
    evil = tmp_path / "evil.pt"
    torch.save(Evil(), evil)
    for path in (cut, text, empty, foreign, evil):
        with pytest.raises(BitnetError, match=path.name) as raised:
            checkpoints.load(path)
        assert "move it away" in str(raised.value)
    with pytest.raises(BitnetError, match="does not exist"):
        checkpoints.load(tmp_path / "absent.pt")
    newer = torch.load(good, weights_only=True) | {"version": 99}
    torch.save(newer, foreign)
    with pytest.raises(BitnetError, match="was written by a newer version of bitnet-tui; update this one"):
        checkpoints.load(foreign)


@pytest.mark.parametrize("kind", [torch.complex64, torch.int8, torch.bool])
def test_tensors_of_other_numbers_are_damaged(tmp_path: Path, kind: torch.dtype) -> None:
    path = Path(checkpoints.save(tmp_path, checkpoint(1), {}).path)
    payload = torch.load(path, weights_only=True)
    payload["model"] = {name: tensor.to(kind) for name, tensor in payload["model"].items()}
    torch.save(payload, path)
    with pytest.raises(BitnetError, match=r"_00000001\.pt has a damaged model; move it away"):
        checkpoints.load(path)


def test_the_error_for_another_student_names_both() -> None:
    given, path = checkpoint(1), Path("c.pt")
    checkpoints.require_same_student(path, given, CONFIG, "abc")
    longer = dataclasses.replace(CONFIG, max_position_embeddings=999)
    checkpoints.require_same_student(path, given, longer, "abc")
    wider = dataclasses.replace(CONFIG, hidden_size=512)
    with pytest.raises(BitnetError, match=r"c\.pt.*hidden_size=256.*hidden_size=512.*another experiment"):
        checkpoints.require_same_student(path, given, wider, "abc")
    with pytest.raises(BitnetError, match=r"tokenizer abc.*def.*left as they are"):
        checkpoints.require_same_student(path, given, CONFIG, "def")


def test_a_config_that_does_not_fit_the_tensors_is_refused() -> None:
    given = checkpoint(3)
    with pytest.raises(BitnetError, match="step 3"):
        checkpoints.student_from(dataclasses.replace(given, config=dataclasses.replace(CONFIG, vocab_size=65)))


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(odd: float) -> None:
    given = checkpoint(3)
    for name, tensor in list(given.model.items())[::3]:
        spoilt = tensor.clone()
        spoilt.view(-1)[-1] = odd
        with pytest.raises(BitnetError, match="step 3 has weights that are not finite; move it away"):
            checkpoints.student_from(dataclasses.replace(given, model=given.model | {name: spoilt}))


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Path(checkpoints.save(tmp_path, checkpoint(1), {}).path)

    def full(_payload: object, out: object) -> None:
        out.write(b"some bytes")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(BitnetError, match=r"No space left.*free space there; what was saved before stays"):
        checkpoints.save(tmp_path, checkpoint(2), {})
    assert checkpoints.latest(tmp_path) == first
    assert len(list(tmp_path.iterdir())) == 2
