"""The public face: it costs nothing to import, its stub names what it gives, and the examples of the docs run."""

import ast
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import bitnet_core

REPO = Path(__file__).parents[1]
PAGE = REPO / "docs" / "LIBRARY.md"
TINY_DRY_RUN = "DRYRUN_DIM=256\nDRYRUN_LAYERS=1\nDRYRUN_HEADS=4\nDRYRUN_HEAD_DIM=64\nDRYRUN_SEQ_LEN=8\nFORCE_CPU=1\n"


def test_importing_it_loads_no_room() -> None:
    code = "import sys, bitnet_core; print([name for name in sys.modules if name.startswith('bitnet_core.')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("command", ["bitnet_core", "bitnet_tui"])
def test_a_command_imports_nothing_before_an_interrupt_is_heard(command: str) -> None:
    """Until its `main` begins, Ctrl-C is a traceback of Python's own."""
    code = f"import sys; there = {{*sys.modules}}; import {command}.__main__; print(*{{*sys.modules}} - there)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {*shown.split()} == {command, f"{command}.__main__"}


def test_every_public_name_is_there_and_documented() -> None:
    for name in bitnet_core.__all__:
        assert getattr(bitnet_core, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'Trainr'"):
        _ = bitnet_core.Trainr


def test_the_stub_says_what_the_table_says() -> None:
    stub = ast.parse((REPO / "bitnet_core" / "__init__.pyi").read_text())
    named = {
        (node.module, alias.name) for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert named == {(getattr(bitnet_core, name).__module__, name) for name in bitnet_core.__all__}


def test_the_page_names_everything() -> None:
    page = PAGE.read_text()
    assert all(f"`{name}" in page for name in bitnet_core.__all__)


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def run_example(block: str, namespace: dict[str, object]) -> None:
    exec(compile(block, str(PAGE), "exec"), namespace)  # noqa: S102 - the documentation's own examples


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = REPO / "tests" / "e2e" / "fixtures" / "experiment-0.1.0.tar.xz"
    with tarfile.open(archive) as source:
        source.extractall(tmp_path, filter="data")
    demo = tmp_path / "experiments" / "demo"
    shutil.copytree(tmp_path / "before", demo)
    (demo / ".env").write_text(TINY_DRY_RUN)
    (demo / "data" / "tokenizer").rename(demo / "data" / "_tokenizer")  # where it is collected now
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    blocks = [block for block in examples() if "open_teacher" not in block]
    assert len(blocks) == 3
    for block in blocks:
        run_example(block, namespace)
    assert isinstance(namespace["summary"], dict)
    assert namespace["summary"]["activation_bits"] == 4


@pytest.mark.teacher
def test_the_example_that_asks_a_teacher_runs(teacher_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = [block for block in examples() if "open_teacher" in block]
    run_example(block, {"bn": bitnet_core})
    assert capsys.readouterr().out.strip()
