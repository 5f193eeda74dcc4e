"""What is found in `exports/`, and what to type for it."""

import os
from pathlib import Path

from bitnet_core.runs import exports


def test_exports_are_found_by_their_names_the_newest_first(tmp_path: Path):
    folder = tmp_path / exports.FOLDER
    assert exports.of(tmp_path) == ()
    for at, (kind, name) in enumerate(
        [("gguf", "a b-step1-step20-Q2_0.gguf"), ("hf", "a-step7-hf"), ("gguf", "own.gguf")]
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if kind == "hf":
            path.mkdir()
            (path / "config.json").write_text("{}")
            (path / "model.safetensors").write_bytes(b"x" * 98)
        else:
            path.write_bytes(b"x" * 100)
        os.utime(path, (at, at))
    for other in (".half-step3-hf", "empty-step4-hf", "notes.txt"):
        (folder / other).mkdir()
    found = exports.of(tmp_path)
    assert [(one.path.name, one.kind, one.step, one.bytes) for one in found] == [
        ("own.gguf", "gguf", None, 100),
        ("a-step7-hf", "hf", 7, 100),
        ("a b-step1-step20-Q2_0.gguf", "gguf", 20, 100),
    ]
    assert exports.file_name("demo", 200, "gguf", "TQ2_0") == "demo-step200-TQ2_0.gguf"
    assert exports.file_name("demo", 200, "hf", "") == "demo-step200-hf"
    assert exports.serve_line("gguf", "a b.gguf") == "bitnet serve 'a b.gguf'"
    assert exports.serve_line("hf", "x-hf") == "transformers serve x-hf"
