"""The light half imports nothing heavy. Each import is tried in a fresh process."""

import ast
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import bitnet_core
import bitnet_tui

HEAVY = {"torch", "transformers", "pyarrow", "numpy", "tokenizers", "gguf", "xllamacpp"}
SLOW = {"httpx", "keyring", "cryptography", "dropbox", "boxsdk", "box_sdk_gen", "jinja2", "stamina"}
LIGHT_ROOMS = ("network", "settings", "secrets", "runs", "results", "cli")
LIGHT_FILES = (
    "prompts.drawing",
    "prompts.templates",
    "teachers.profiles",
    "teachers.stage_keys",
    "storage.state",
    "storage.status",
    "storage.unlike",
)
SUBPROCESSES = ("bitnet_core.secrets.keyring_child",)
"""Programs that are run but never imported."""
_HEAVY_NAMES = (
    *("answering_student", "answering_teacher", "ask", "bench_score", "browsing", "exporting", "scoring"),
    *("serving", "students"),
)
HEAVY_FILES = tuple(f"bitnet_core.cli.{name}" for name in _HEAVY_NAMES)
"""Imported only when their command runs."""


def _modules_after(code: str) -> set[str]:
    report = (
        "import sys, json; sys.stderr.write(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def _light_modules() -> list[str]:
    """Every module in the light rooms and at the root, found by walking the packages."""
    folder = Path(bitnet_core.__file__).parent
    found = [f"bitnet_core.{one.name}" for one in pkgutil.iter_modules([str(folder)]) if not one.ispkg]
    for room in LIGHT_ROOMS:
        found += [one.name for one in pkgutil.walk_packages([str(folder / room)], f"bitnet_core.{room}.")]
    found += [f"bitnet_core.{name}" for name in LIGHT_FILES]
    return sorted(set(found) - {"bitnet_core.__main__", *SUBPROCESSES, *HEAVY_FILES})


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["config"]])
def test_the_command_line_answers_from_the_light_half(arguments: list[str]) -> None:
    code = "import contextlib\nfrom bitnet_core.cli.main import main\n"
    code += f"with contextlib.suppress(SystemExit): main({arguments})"
    assert not _modules_after(code) & (HEAVY | SLOW | {"textual", "rich"})


def test_the_light_half_imports_nothing_heavy() -> None:
    """All modules in one process. Only after a failure each gets its own, to name the one to blame."""
    modules = _light_modules()
    assert len(modules) > 30
    forbidden = HEAVY | SLOW | {"textual", "rich"}
    if _modules_after("\n".join(f"import {module}" for module in modules)) & forbidden:
        found = {module: _modules_after(f"import {module}") & forbidden for module in modules}
        pytest.fail(f"heavy imports: { {module: heavy for module, heavy in found.items() if heavy} }")


def test_the_pipeline_imports_none_of_its_stages() -> None:
    assert not _modules_after("import bitnet_core.stages.pipeline") & HEAVY


def test_who_only_asks_a_teacher_imports_no_torch() -> None:
    stages = [f"bitnet_core.stages.{name}" for name in ("collect", "teacher")]
    assert "torch" not in _modules_after(f"import {', '.join([*stages, 'bitnet_core.cli.ask'])}")


def test_a_plan_leaves_torch_to_the_process_that_looks_at_the_machine() -> None:
    assert "torch" not in _modules_after("import bitnet_core.planning.early, bitnet_core.planning.teacher")


def test_no_module_goes_around_the_layers() -> None:
    """The public face and module names in strings would hide an import from the contracts in pyproject.toml."""
    found = []
    for package in (bitnet_core, bitnet_tui):
        for path in Path(package.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = {alias.name for alias in getattr(node, "names", ()) if isinstance(alias, ast.alias)}
                if isinstance(node, ast.ImportFrom) and node.module == "bitnet_core":
                    found += [f"{path}: {name}" for name in names & set(bitnet_core.__all__)]
                if isinstance(node, ast.Import) and "bitnet_core" in names:
                    found.append(f"{path}: import bitnet_core")
                if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
                    found += [
                        f"{path}: {ast.unparse(node)}" for one in node.args[:1] if isinstance(one, ast.Constant)
                    ]
    assert not found
