"""A teacher that does everything wrong: no traceback, no control byte, bounded memory, and an end in time."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.teachers.hostile import HostileServer, ways_of

ROOT = Path(__file__).parents[2]
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
MOST_BYTES = 400e6


@pytest.mark.teacher
@pytest.mark.usefixtures("teacher_cache")
@pytest.mark.parametrize("command", ["probe", "chat", "answer", "teacher", "collect"])
def test_a_hostile_teacher_harms_nothing(tmp_path: Path, command: str) -> None:
    with HostileServer() as address:
        asking = subprocess.run(
            [sys.executable, "-m", "tests.teachers.hostile", command, address, str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            timeout=300,
            check=False,
        )
    said = (asking.stdout + asking.stderr).decode()
    assert asking.returncode == 0, said[-2000:]
    assert "Traceback" not in said
    assert "bug in bitnet-tui" not in said
    assert not _CONTROL.findall(said)
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["outcomes"]) == ways_of(command)
    assert found["peak_bytes"] < MOST_BYTES
    if command == "collect":
        assert found["outcomes"]["control"] == "done"
        assert sum(outcome == "done" for outcome in found["outcomes"].values()) <= 2
