"""Each entry point in a fresh process: which modules it has imported when it answers."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "pyarrow", "numpy", "tokenizers", "gguf", "xllamacpp"}
SLOW = {"httpx", "keyring", "cryptography", "plotext", "dropbox", "boxsdk", "box_sdk_gen", "jinja2", "stamina"}


def _modules_after(code: str) -> set[str]:
    report = (
        "import sys, json; sys.stderr.write(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["config"]])
def test_the_command_line_answers_from_the_light_half(arguments: list[str]) -> None:
    code = "import contextlib\nfrom bitnet_core.cli import main\n"
    code += f"with contextlib.suppress(SystemExit): main({arguments})"
    assert not _modules_after(code) & (HEAVY | SLOW | {"textual", "rich"})


@pytest.mark.parametrize(
    "module",
    [
        "runs",
        "history",
        "worker",
        "secrets",
        "keys_command",
        "stages.pipeline",
        "stages.context",
        "providers.table",
        "console",
    ],
)
def test_the_light_half_imports_nothing_heavy(module: str) -> None:
    assert not _modules_after(f"import bitnet_core.{module}") & (HEAVY | SLOW | {"textual", "rich"})
