"""Imports at rest, a few modules at a time, what Home does without: at its first use it would hold up a key.

On the event loop, where nothing else imports meanwhile, and so no module is ever seen half made.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

_FIRST = (
    "bitnet_core.settings.resolve",
    "bitnet_core.settings.values",
    "bitnet_core.secrets.redaction",
    "bitnet_core.secrets.inventory",
    "bitnet_core.runs.catalog",
    "bitnet_core.runs.events",
    "bitnet_core.runs.resuming",
    "bitnet_core.results.curves",
    "bitnet_core.runs.vitals",
    "bitnet_core.runs.health",
    "bitnet_core.runs.record",
    "bitnet_core.runs.history",
    "bitnet_core.runs.spent",
    "bitnet_core.runs.notices",
    "bitnet_core.settings.storage",
    "bitnet_core.storage.layout",
    "bitnet_core.results.subject",
    "bitnet_core.results.verdict",
    "bitnet_core.results.compare",
    "bitnet_core.teachers.profiles",
    "bitnet_tui.view.run_fold",
    "bitnet_tui.view.figures",
    "bitnet_tui.view.workspace",
    "bitnet_tui.view.copy",
    "bitnet_tui.view.collecting",
    "bitnet_tui.view.guide.draft",
)
"""Of what many modules import, some at a time: else the first of those would take long."""
_PACKAGES = ("view", "services", "widgets", "screens")
"""The app imports modules of these when they are first needed; all else comes with them."""


def modules() -> Iterator[str]:
    """Their names; the packages are read from disk."""
    yield from _FIRST
    import pkgutil  # not before the first paint

    for package in _PACKAGES:
        path = [str(Path(__file__).parent / package)]
        found = pkgutil.walk_packages(path, f"bitnet_tui.{package}.", onerror=lambda _: None)
        yield from (one.name for one in found)
    yield "bitnet_tui.palette"


def load_next(names: Iterator[str]) -> bool:
    """Import the first of these that is not there yet; whether there was one.

    One that can't be is passed over. While a newer version is installed, a module may raise anything.
    """
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(Exception):  # opening its screen says what is wrong
                importlib.import_module(name)
            return True
    return False
