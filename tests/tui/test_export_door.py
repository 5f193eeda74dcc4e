"""Export in the Checkpoints tab, with the command itself: what is wrong is said, with a fix that the app has."""

import contextlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from bitnet_core.cli.main import main
from bitnet_core.runs.experiment import Experiment
from bitnet_core.traces.schema import TOKENIZER_FOLDER
from bitnet_core.training import checkpoints
from bitnet_core.training.checkpoints import Checkpoint
from bitnet_tui.app import BitnetApp
from bitnet_tui.services.exporting import Begun
from tests.builders import files_of_at_most, stage_context
from tests.export.conftest import random_student
from tests.traces.samples import small_tokenizer
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import settled, words

_PLACE = {"gguf": "one-step2-TQ2_0.gguf", "hf": "one-step2-hf"}


@pytest.fixture
def student(home: Path) -> Experiment:
    """An experiment with a student's checkpoint, at 4 bits, and its tokenizer."""
    made = stage_context(home / "one").experiment
    tokenizer = small_tokenizer()
    model = random_student(tokenizer.vocab_size)
    checkpoint = Checkpoint(2, 300, 4, model.config, tokenizer.hash, dict(model.state_dict()))
    checkpoints.save(made.checkpoints, checkpoint, {})
    tokenizer.save(made.data / TOKENIZER_FOLDER)
    return made


async def exported(home: Path, root: Path, form: str) -> str:
    """What the app says at the end of an export."""
    async with BitnetApp(home, root, launch=RecordingLaunch(warning="")).run_test(size=(200, 30)) as pilot:
        await settled(pilot)
        await pilot.press("4")
        await settled(pilot)
        await pilot.press("E", *(["down"] if form == "hf" else []), "enter")
        await settled(pilot)
        return words(pilot)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `bitnet export` here, where torch is imported already; a process of its own imports it for seconds."""

    def waited(begun: Begun, said: IO[bytes], leaves: object) -> int:
        begun.pid = os.getpid()
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            return main(["--json", *begun.arguments, "--set", f"BITNET_HOME={begun.home}"])

    monkeypatch.setattr(Begun, "_waited", waited)


def _other_tokenizer(root: Path) -> None:
    path = root / "data" / TOKENIZER_FOLDER / "tokenizer.json"
    told = json.loads(path.read_text())
    one, other = list(told["model"]["vocab"])[50:52]
    told["model"]["vocab"] |= {one: told["model"]["vocab"][other], other: told["model"]["vocab"][one]}
    path.write_text(json.dumps(told))


def _other_shape(root: Path) -> None:
    checkpoint = checkpoints.load(checkpoints.require_latest(root / "checkpoints"))
    name = next(name for name in checkpoint.model if "down_proj" in name)
    checkpoint.model[name] = checkpoint.model[name][:3].clone()
    checkpoints.save(root / "checkpoints", checkpoint, {})


def _changed_byte(root: Path) -> None:
    path = checkpoints.require_latest(root / "checkpoints")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _half_a_folder(root: Path) -> None:
    (root / "exports" / _PLACE["hf"]).mkdir(parents=True)
    (root / "exports" / _PLACE["hf"] / "model.safetensors").write_bytes(b"torn")


def _a_folder_for_a_file(root: Path) -> None:
    (root / "exports" / _PLACE["gguf"]).mkdir(parents=True)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("wrong", "form", "says"),
    [
        (_other_tokenizer, "gguf", "was trained with another tokenizer than that in"),
        (_other_shape, "gguf", "does not hold the student that it describes; move it away"),
        (_changed_byte, "gguf", "a byte in it was changed; move it away to use the checkpoint before it"),
        (_half_a_folder, "hf", "is a folder that no export wrote; move it away"),
        (_a_folder_for_a_file, "gguf", "is a folder, and the export is one file; move it away"),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_is_changed(
    home: Path, student: Experiment, wrong: Callable[[Path], None], form: str, says: str
) -> None:
    wrong(student.root)
    before = sorted(student.root.rglob("*"))
    said = await exported(home, student.root, form)
    assert "✗" in said
    assert says in said.replace(" ▎", "")
    now = [one for one in sorted(student.root.rglob("*")) if one not in before and one.name != "exports"]
    assert [one for one in now if ".export" not in str(one.relative_to(student.root))] == []


async def test_a_full_disk_leaves_what_was_there(home: Path, student: Experiment) -> None:
    """With the command in a process of its own, as the app starts it."""
    with files_of_at_most(100_000):
        said = await exported(home, student.root, "gguf")
    assert "can't be written (File too large)" in said
    with contextlib.suppress(FileNotFoundError):
        assert [one.name for one in (student.root / "exports").iterdir()] == [".export"]
