"""make passes settings on its command line on as --set options, whatever the values contain."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("value", ["200", "a b", "it's", 'say "hi"', "a=b;c", "*"])
def test_a_setting_given_to_make_reaches_bitnet_unchanged(value: str) -> None:
    command = [
        "make",
        "-n",
        "-o",
        ".venv/.installed",
        "train",
        f"KD_PROMPTS_FILE={value}",
        "SEED=1",
        "PYTHON=python3",
    ]
    # `make test` runs this under make, whose own flags must not reach the make under test.
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    words = shlex.split(shown.splitlines()[-1])
    assert words[:2] == [".venv/bin/bitnet", "train"]
    assert sorted(words[3::2]) == sorted([f"KD_PROMPTS_FILE={value}", "SEED=1"])
