"""What a training would take, and what this machine can do: `bitnet plan`, and a look at cores, memory and disk."""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bitnet_core.process import memory
from bitnet_tui.services.commands import Command

_SECONDS, _TIMING_SECONDS = 120.0, 600.0


class Plan(Command):
    """The plan of an experiment that is to be at `root`; `timed` also times a few training steps.

    `early` hears, in the thread that runs it, what is known before the machine was looked at.
    """

    def __init__(
        self,
        home: Path,
        root: Path,
        values: Mapping[str, str],
        *,
        timed: bool,
        early: Callable[[dict[str, Any]], object] | None = None,
    ) -> None:
        ways = [] if timed else ["--no-probe"]
        arguments = ["--root", str(root), "plan", *ways, *(["--early"] if early else [])]
        super().__init__(home, arguments, values, _TIMING_SECONDS if timed else _SECONDS, "The estimate")
        self._early = early

    def run(self) -> dict[str, Any]:
        return self.run_hearing(self._early) if self._early else super().run()


def machine(home: Path) -> dict[str, Any]:
    """Cores, bytes of memory and disk, and the experiments' folder."""
    there = next((one for one in (home.absolute(), *home.absolute().parents) if one.is_dir()), Path("/"))
    free, whole = memory()
    found: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "free_memory": free,
        "memory": whole,
        "place": home,
    }
    with suppress(OSError):  # the experiment itself will say what is wrong with its place
        found["free_disk"] = shutil.disk_usage(there).free
    return found
