"""What is found in `exports/`, and what to type for it."""

import ast
import json
import os
import shlex
import struct
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.export.gguf_file import write_gguf
from bitnet_core.runs import exports

_STUDENT = {"general.architecture": "bitnet"}
_VOCABULARY = {"tokenizer.ggml.tokens": ["a token"] * 10_000}


def _origin(step: int) -> dict[str, Any]:
    return {"bitnet_core.step": step, "bitnet_core.checkpoint_sha256": "ab" * 32}


def _gguf(folder: Path, name: str, keys: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    write_gguf(folder / name, keys, [])


def _folder(folder: Path, name: str, config: object) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "config.json").write_text(json.dumps(config))
    (folder / name / "model.safetensors").write_bytes(b"x" * 98)


def test_exports_are_found_by_what_they_say_the_newest_first(tmp_path: Path):
    folder = tmp_path / exports.FOLDER
    assert exports.of(tmp_path) == ()
    own = {"bitnet_core": {"step": 7, "checkpoint_sha256": "cd"}}
    _gguf(folder, "a b-step1-step20-Q2_0.gguf", {**_STUDENT, **_origin(20), **_VOCABULARY})
    _folder(folder, "renamed", own)
    _gguf(folder, "own.gguf", {**_STUDENT, **_VOCABULARY, **_origin(1 << 33)})  # as earlier versions wrote them
    for at, name in enumerate(("a b-step1-step20-Q2_0.gguf", "renamed", "own.gguf")):
        os.utime(folder / name, (at, at))
    found = exports.of(tmp_path)
    assert [(one.path.name, one.kind, one.step, one.sha256) for one in found] == [
        ("own.gguf", "gguf", 1 << 33, "ab" * 32),
        ("renamed", "hf", 7, "cd"),
        ("a b-step1-step20-Q2_0.gguf", "gguf", 20, "ab" * 32),
    ]
    assert found[1].bytes == 98 + len(json.dumps(own))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"x" * 100,
        b"GGUF" + b"general.architecture" + struct.pack("<IQ", 8, 6) + b"bitnet",
        b"GGUF" + b"general.architecture" + struct.pack("<IQ", 8, 6) + b"bitnet" + struct.pack("<Q", 16)
        + b"bitnet_core.step",
    ],
)  # fmt: skip
def test_a_file_that_is_no_export_is_none(tmp_path: Path, content: bytes):
    folder = tmp_path / exports.FOLDER
    folder.mkdir()
    (folder / "demo-step20-TQ2_0.gguf").write_bytes(content)
    assert exports.of(tmp_path) == ()


def test_what_other_programs_wrote_is_no_export(tmp_path: Path):
    folder = tmp_path / exports.FOLDER
    _gguf(folder, "demo-step20-TQ2_0.gguf", {"general.architecture": "llama", **_origin(20)})
    _gguf(folder, "demo-step30-TQ2_0.gguf", {**_STUDENT, **_VOCABULARY})
    for name, config in (("a-step7-hf", {}), ("b-hf", []), ("c-hf", {"bitnet_core": {"step": "7"}})):
        _folder(folder, name, config)
    for other in (".half-step3-hf", "empty-step4-hf", "notes.txt"):
        (folder / other).mkdir()
    (folder / "d-hf").mkdir()
    (folder / "d-hf" / "config.json").mkdir()
    assert exports.of(tmp_path) == ()
    _gguf(folder, "demo-step30-TQ2_0.gguf", {**_STUDENT, **_VOCABULARY, **_origin(30)})  # replaced by one that is
    assert [one.step for one in exports.of(tmp_path)] == [30]


def test_what_to_type_names_the_export():
    assert exports.file_name("demo", 200, "gguf", "TQ2_0") == "demo-step200-TQ2_0.gguf"
    assert exports.file_name("demo", 200, "hf", "") == "demo-step200-hf"
    assert exports.serve_line("gguf", "a b.gguf") == "bitnet serve 'a b.gguf'"
    assert exports.serve_line("hf", "x-hf") == "transformers serve x-hf"


def test_the_line_that_asks_an_export_is_whole_whatever_its_name():
    for name in ("x-hf", "a b'\"$(x)-hf", "é\\-hf"):
        python, flag, code = shlex.split(exports.ask_line("hf", name))
        assert (python, flag) == ("python", "-c")
        tree = ast.parse(code)
        assert name in [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        bound = {"print", *(a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names)}
        bound |= {
            node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        assert {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} <= bound
    assert json.loads(shlex.split(exports.ask_line("gguf", "x.gguf"))[-1])["messages"][0]["role"] == "user"
    assert exports.llamacpp_line("a b.gguf") == "llama-server -m 'a b.gguf'"
