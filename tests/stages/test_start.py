"""How a stage's process begins."""

import gc
import sys
from types import SimpleNamespace

import pytest

from bitnet_core.stages.__main__ import run_stage


def test_a_stage_runs_with_garbage_collected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not while the stage's module is imported; in a training it has to be."""
    stage = SimpleNamespace(run=lambda _: {"collects": gc.isenabled()})
    monkeypatch.setitem(sys.modules, "bitnet_core.stages.imagined", stage)
    looked = gc.isenabled()
    gc.enable()
    try:
        assert run_stage(SimpleNamespace(stage="imagined")) == {"collects": True}
        with pytest.raises(ModuleNotFoundError):
            run_stage(SimpleNamespace(stage="not there"))
        assert gc.isenabled()
    finally:
        if not looked:
            gc.disable()
