"""What a text that names a model can be."""

from pathlib import Path

import pytest

from bitnet_core.files.models import kind_of


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((name, "hub") for name in ("gpt2", "HuggingFaceTB/SmolLM2-360M", "TinyLlama/TinyLlama-1.1B-Chat-v1.0")),
        *((name, "hub") for name in ("Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.2-1B")),
        ("here", "folder"), ("sub/model.GGUF", "gguf"), ("sub", "folder"), ("notes.txt", ""), ("missing.gguf", ""),
        ("sub/model.safetensors", ""), ("/no/such/folder", ""), ("a/b/c", ""), ("two words", ""), ("", "folder"),
    ],
)  # fmt: skip
def test_what_a_text_names(text: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "sub").mkdir()
    for name in ("sub/model.GGUF", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert kind_of(text) == kind
