"""The process of one run: `python -m bitnet_core.stages RUN_FOLDER`. Started by `runs.launch`, never by people."""

import importlib
import os
import sys
from typing import Any

from bitnet_core.runs import worker
from bitnet_core.runs.context import StageContext

_MODULES = {"eval": "evaluate"}
"""Stages whose module has another name: `eval` is a builtin of Python's."""


def run_stage(ctx: StageContext) -> dict[str, Any]:
    """Import the stage's module, which is where the heavy half begins, and run it."""
    module = importlib.import_module(f"bitnet_core.stages.{_MODULES.get(ctx.stage, ctx.stage)}")
    summary: dict[str, Any] = module.run(ctx)
    return summary


if __name__ == "__main__":
    # Threads of libraries may outlive the stage; the end is on disk, so leave without waiting for them.
    code = worker.main(sys.argv[1:], run_stage)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
