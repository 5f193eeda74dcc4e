"""The process of a run: `python -m bitnet_core.stages RUN_FOLDER`. Started by `runs.launch`, not by people."""

import gc
import importlib
import os
import sys
from typing import Any

from bitnet_core.process import importing
from bitnet_core.runs import worker
from bitnet_core.runs.context import StageContext

_MODULES = {"eval": "evaluate"}
"""Stages whose module has another name: `eval` is a built-in of Python."""


def run_stage(ctx: StageContext) -> dict[str, Any]:
    """Import the stage's module, which imports the heavy half, and run it."""
    with importing():
        module = importlib.import_module(f"bitnet_core.stages.{_MODULES.get(ctx.stage, ctx.stage)}")
        gc.freeze()
    summary: dict[str, Any] = module.run(ctx)
    return summary


if __name__ == "__main__":
    # The end is recorded. Exit without waiting for threads of libraries, which may never end.
    code = worker.main(sys.argv[1:], run_stage)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
