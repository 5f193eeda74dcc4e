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


_BITNET = b"general.architecture" + struct.pack("<IQ", 8, 6) + b"bitnet"
_NO_ORIGIN = "demo-step20-TQ2_0.gguf does not say which checkpoint it was made from"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "demo-step20-TQ2_0.gguf is damaged"),
        (b"GGUF", "demo-step20-TQ2_0.gguf is damaged"),
        (b"GGUF" + b"\xde\xad\xbe\xef" * 99, "demo-step20-TQ2_0.gguf is damaged"),
        (b"x" + _BITNET * 9, "demo-step20-TQ2_0.gguf is damaged"),
        (b"GGUF" + _BITNET + struct.pack("<Q", 16) + b"bitnet_core.step", "demo-step20-TQ2_0.gguf is damaged"),
        (b"GGUF" + _BITNET + struct.pack("<Q", 16) + b"bitnet_core.step" + bytes(99), _NO_ORIGIN),
        (b"GGUF" + _BITNET, None),
    ],
)  # fmt: skip
def test_a_file_that_can_not_be_used_is_named_with_the_reason(tmp_path: Path, content: bytes, why: str | None):
    folder = tmp_path / exports.FOLDER
    folder.mkdir()
    (folder / "demo-step20-TQ2_0.gguf").write_bytes(content)
    damaged: dict[Path, str] = {}
    for _ in range(2):
        assert exports.of(tmp_path, damaged) == ()
        assert damaged == ({folder / "demo-step20-TQ2_0.gguf": why} if why else {})


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (None, "config.json is missing"),
        ("{", "config.json is damaged"),
        ("", "config.json is damaged"),
        ("[" * 100_000, "config.json is damaged"),
        (" " * (1 << 21), "config.json can't be read (it is longer than 1 MiB)"),
        ('{"bitnet_core": {"step": "7", "checkpoint_sha256": "cd"}}', "config.json does not say which checkpoint"),
        ('{"bitnet_core": {"step": 7}}', "config.json does not say which checkpoint"),
        ('{"bitnet_core": 7}', "config.json does not say which checkpoint"),
    ],
)
def test_a_folder_that_can_not_be_used_is_named_with_the_reason(tmp_path: Path, config: str | None, why: str):
    path = tmp_path / exports.FOLDER / "a-step7-hf"
    _folder(path.parent, path.name, {})
    (path / "config.json").unlink()
    if config is not None:
        (path / "config.json").write_text(config)
    damaged: dict[Path, str] = {}
    assert exports.of(tmp_path, damaged) == ()
    assert list(damaged) == [path]
    assert damaged[path].startswith(why)


def test_what_other_programs_wrote_is_no_export(tmp_path: Path):
    folder = tmp_path / exports.FOLDER
    _gguf(folder, "demo-step20-TQ2_0.gguf", {"general.architecture": "llama", **_origin(20)})
    _gguf(folder, "demo-step30-TQ2_0.gguf", {**_STUDENT, **_VOCABULARY})
    for name, config in (("a-step7-hf", {}), ("b-hf", []), ("c-hf", {"model_type": "bitnet"})):
        _folder(folder, name, config)
    for other in (".half-step3-hf", "empty-step4-hf", "notes.txt"):
        (folder / other).mkdir()
    (folder / "d-hf").mkdir()
    (folder / "d-hf" / "config.json").mkdir()
    damaged: dict[Path, str] = {}
    assert exports.of(tmp_path, damaged) == ()
    assert not damaged
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
