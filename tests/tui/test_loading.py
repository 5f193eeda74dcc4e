"""That the app imports some modules at a time: what Home and a screen need, and at rest all that other screens do."""

import subprocess
import sys
from pathlib import Path

import pytest

from bitnet_tui import loading
from bitnet_tui.loading import load_next, modules

_MOST = 15
"""Modules of a step: some 10 ms of processor time."""
_PROGRAM = """
import inspect, re, sys
from bitnet_tui import app
from bitnet_tui.loading import HOME, leaves_first, load_next, modules
from bitnet_tui.screens import experiments
home, names, counts = iter(HOME), modules(), [len(sys.modules)]
while load_next(home):
    counts.append(len(sys.modules))
needed = re.findall("from (bitnet_[a-z._]+) import", inspect.getsource(experiments.ExperimentsScreen.furnish))
assert needed and {*needed} <= {*sys.modules}
opened = leaves_first(["bitnet_tui.widgets.run_pane", "bitnet_tui.screens.experiment"])
while load_next(opened):
    counts.append(len(sys.modules))
assert "bitnet_tui.screens.experiment" in sys.modules
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


@pytest.mark.parametrize("text", ["import no_such", "sys.no_such", "int('x')", "raise OSError", "("])
def test_a_module_that_cannot_be_imported_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str):
    (tmp_path / "half_upgraded.py").write_text(f"import sys\n{text}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    names = iter(["half_upgraded", "bitnet_tui.loading"])
    assert load_next(names)
    assert not load_next(names)


def test_a_package_that_is_gone_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "_PACKAGES", ("no_such_package", "widgets"))
    assert {"bitnet_tui.widgets.foot", "bitnet_tui.palette"} <= {*modules()}
