"""That what the app imports at rest is all that its screens need, some modules at a time."""

import subprocess
import sys

from bitnet_tui.loading import load_next

_MOST = 15
"""Modules of a step: some 10 ms of processor time."""
_PROGRAM = """
import sys
from bitnet_tui import app
from bitnet_tui.loading import load_next, modules
from bitnet_tui.screens import experiments
names, counts = modules(), [len(sys.modules)]
while load_next(names):
    counts.append(len(sys.modules))
there = set(sys.modules)
from tests.tui.every_screen import names_of_all
names_of_all()
new = sorted(name for name in set(sys.modules) - there if name.startswith("bitnet_tui"))
print(max(after - before for before, after in zip(counts, counts[1:])), len(counts) > 50, new, "torch" in there)
"""


def test_every_screen_is_imported_at_rest_and_little_at_a_time():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    most, rest = done.stdout.split(maxsplit=1)
    assert rest == "True [] False\n"
    assert 0 < int(most) <= _MOST


def test_a_module_that_cannot_be_imported_is_passed_over():
    names = iter(["bitnet_tui.no_such_module", "bitnet_tui.loading"])
    assert load_next(names)
    assert not load_next(names)
