"""Checkpoints and packed students of unknown origin: refused in one sentence, without memory for what they claim."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bitnet_core.errors import BitnetError
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.packing import load_packed, pack_student, save_packed
from bitnet_core.model.student import Student
from bitnet_core.model.tensor_file import Oversized, load_tensors
from bitnet_core.training import checkpoints
from bitnet_core.training.checkpoints import Checkpoint

CONFIG = StudentConfig(64, 256, 256, 1, 4, 4, 32)
HUGE = 1 << 40


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return Path(
        checkpoints.save(tmp_path, Checkpoint(3, 300, 8, CONFIG, "abc", Student(CONFIG).state_dict()), {}).path
    )


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    save_packed(pack_student(Student(CONFIG)), tmp_path / "packed.pt")
    return tmp_path / "packed.pt"


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    payload = torch.load(path, weights_only=True)
    edit(payload)
    torch.save(payload, path)


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "step text": lambda p: p.update(step="3"),
    "step negative": lambda p: p.update(step=-1),
    "step bool": lambda p: p.update(step=True),
    "step float": lambda p: p.update(step=3.0),
    "tokens": lambda p: p.update(seen_tokens=None),
    "bits": lambda p: p.update(activation_bits=HUGE),
    "hash": lambda p: p.update(tokenizer_hash=3),
    "model list": lambda p: p.update(model=[]),
    "model of numbers": lambda p: p.update(model={"a": 3}),
    "counters": lambda p: p.update(counters=[1]),
    "evaluations": lambda p: p.update(evaluations=[3]),
    "config": lambda p: p.update(config=3),
    "layers": lambda p: p["config"].update(num_hidden_layers=HUGE),
    "vocabulary": lambda p: p["config"].update(vocab_size=HUGE),
    "hidden float": lambda p: p["config"].update(hidden_size=256.0),
    "hidden huge": lambda p: p["config"].update(hidden_size=HUGE),
    "heads bool": lambda p: p["config"].update(num_attention_heads=True),
    "a tensor of one value": lambda p: p["model"].update(x=torch.zeros(1).expand(HUGE)),
    "no tensors": lambda p: p.update(model={}),
    "embedding a number": lambda p: p["model"].update({"model.embed_tokens.weight": torch.tensor(1.0)}),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_checkpoint_with_odd_fields_is_one_sentence(saved: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    change(saved, edit)
    with pytest.raises(BitnetError, match=r"mini_bitnet_step_00000003\.pt .*move it away"):
        checkpoints.load(saved)


@pytest.mark.parametrize(
    "edit",
    [
        lambda p: p.update(config=None),
        lambda p: p.update(tensors=[torch.zeros(1)]),
        lambda p: p.update(layer_bits="8"),
        lambda p: p["layer_bits"].append(8),
        lambda p: p["layer_bits"].__setitem__(0, 9),
        lambda p: p["config"].update(num_hidden_layers=HUGE),
        lambda p: p["tensors"].update(x=torch.zeros(1).expand(HUGE)),
        lambda p: p.pop("tensors"),
    ],
)
def test_a_packed_student_with_odd_fields_is_refused(packed: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    change(packed, edit)
    with pytest.raises(BitnetError):
        load_packed(packed)


def rewrite_zip(path: Path, edit: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(made, "w", compression) as target:
        for part in source.infolist():
            target.writestr(part.filename, edit(part.filename, source.read(part)))
    path.write_bytes(made.getvalue())


def test_packed_parts_are_refused(saved: Path) -> None:
    """A few bytes may unpack to terabytes."""
    rewrite_zip(saved, lambda _, data: data, zipfile.ZIP_DEFLATED)
    with pytest.raises(Oversized, match="packed parts"):
        load_tensors(saved)


def test_a_tensor_larger_than_its_storage_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"x": torch.zeros(7)}, path)
    # The pickle's shape: BININT1 7 becomes a LONG1 of 2^40; and its storage's size, too.
    wide = b"\x8a\x06" + HUGE.to_bytes(6, "little")
    rewrite_zip(path, lambda name, data: data.replace(b"K\x07", wide) if name.endswith("data.pkl") else data)
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        load_tensors(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"not a zip" * 100])
def test_other_files_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mini_bitnet_step_00000001.pt"
    path.write_bytes(content)
    with pytest.raises(BitnetError, match="truncated or not a checkpoint"):
        checkpoints.load(path)
    with pytest.raises(BitnetError, match="can't be read as a packed student"):
        load_packed(path)


def test_shared_and_deep_structures_are_walked_once(tmp_path: Path) -> None:
    nested: Any = []
    for _ in range(60):
        nested = [nested, nested]
    torch.save({"nested": nested, "x": torch.ones(3)}, tmp_path / "x.pt")
    assert load_tensors(tmp_path / "x.pt")["x"].sum() == 3
