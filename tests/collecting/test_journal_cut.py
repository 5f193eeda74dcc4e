"""A journal whose file, or its WAL, another program has cut in place: what can be read is saved, and it goes on."""

import subprocess
import sys
from pathlib import Path

import pytest

from bitnet_core.collecting.journal import Journal

CUT = """
import os, sys
from pathlib import Path
from bitnet_core.collecting.journal import Charge, Journal, StoredAnswer
from bitnet_core.runs.presence import Gone

data, suffix, kept, at_end = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4] == "at the end"
def cut(journal):
    path = Path(f"{journal.path}{suffix}")
    os.truncate(path, int(path.stat().st_size * kept))
try:
    with Journal.of(data) as journal:
        for number in range(300):
            if number == 290 and not at_end:
                cut(journal)
            journal.put(f"key{number}", StoredAnswer("ok", os.urandom(1500)), journal.record_sent("x", Charge(1, 2)))
        cut(journal)
except Gone as gone:
    sys.exit(str(gone))
"""


@pytest.mark.parametrize("when", ["between", "at the end"])
@pytest.mark.parametrize(("suffix", "kept"), [("-wal", 0), ("-wal", 0.5), ("-wal", 0.999), ("", 0), ("", 0.999)])
def test_a_journal_that_is_cut_in_place_is_saved_and_goes_on(
    tmp_path: Path, suffix: str, kept: float, when: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    command = [sys.executable, "-c", CUT, str(data), suffix, str(kept), when]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    said = rf"journal.sqlite{suffix} was cut short while collect was using it; what is still readable of its answers"
    assert said in run.stderr
    with Journal.of(data) as journal:
        found = [number for number in range(300) if journal.get(f"key{number}")]
    assert len(found) > 250
    assert journal.damaged == 0
