"""Imports a few modules at a time what would hold up a key: what Home needs after its first paint, the rest at rest.

What is needed before that rest comes is imported one after the other, too.

On the event loop, where nothing else imports meanwhile, and so no module is ever seen half made.
"""

import asyncio
import contextlib
import importlib
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

HOME = (
    "bitnet_tui.services.sizes",
    "bitnet_core.settings.values",
    "bitnet_core.runs.catalog",
    "bitnet_core.runs.events",
    "bitnet_core.runs.record",
    "bitnet_core.runs.history",
    "bitnet_core.runs.outlook",
    "bitnet_core.runs.spent",
    "bitnet_tui.view.stage_rows",
    "bitnet_core.storage.layout",
    "bitnet_core.storage.status",
    "bitnet_core.settings.storage",
    "bitnet_tui.view.copy",
    "bitnet_core.runs.trend",
    "bitnet_tui.view.figures",
    "bitnet_tui.view.workspace",
    "bitnet_tui.view.home_table",
    "bitnet_tui.widgets.table",
    "bitnet_tui.widgets.inputs",
    "bitnet_tui.widgets.links",
)
"""Of what Home needs after its first paint, some at a time."""
_FIRST = (
    "bitnet_core.settings.resolve",
    "bitnet_core.secrets.redaction",
    "bitnet_core.secrets.inventory",
    "bitnet_core.runs.resuming",
    "bitnet_core.results.curves",
    "bitnet_core.runs.vitals",
    "bitnet_core.runs.health",
    "bitnet_core.runs.notices",
    "bitnet_core.results.subject",
    "bitnet_core.results.verdict",
    "bitnet_core.results.compare",
    "bitnet_core.teachers.profiles",
    "bitnet_tui.view.run_fold",
    "bitnet_tui.view.collecting",
    "bitnet_tui.view.guide.draft",
)
"""Of what many modules import, some at a time: else the first of those would take long."""
_PACKAGES = ("view", "services", "widgets", "screens")
"""The app imports modules of these when they are first needed; all else comes with them."""


def modules() -> Iterator[str]:
    """Their names; the packages are read from disk."""
    yield from (*HOME, *_FIRST)
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


_IMPORTS = r"^(?:from (bitnet_[\w.]+) import ([\w, ]+|\()|import (bitnet_[\w.]+))"
"""At the beginning of a line: what is imported in a function, or for types alone, is not needed yet."""
_ROOT = Path(__file__).parents[1]


def leaves_first(names: Iterable[str], seen: set[str] | None = None) -> Iterator[str]:
    """Those of our modules among these that are not there, and what they import, each after what it imports itself.

    They are found in the texts of the modules. One without a text imports all that it needs at once.
    """
    seen = set() if seen is None else seen
    for name in names:
        if name in seen or name in sys.modules:
            continue
        seen.add(name)
        if text := _text_of(name):
            for package, parts, module in re.findall(_IMPORTS, text, re.MULTILINE):
                inside = [f"{package}.{part.strip()}" for part in parts.split(",")] if package else [module]
                yield from leaves_first(filter(None, (package, *inside)), seen)
            yield name


def _text_of(name: str) -> str:
    """The source of one of our modules; empty for any other name, such as a class that is imported from one."""
    path = _ROOT.joinpath(*name.split("."))
    for one in (path.with_suffix(".py"), path / "__init__.py"):
        with contextlib.suppress(OSError, ValueError):
            return one.read_text(encoding="utf-8")
    return ""


async def load(names: Iterable[str]) -> None:
    """Import these, with keys taken in between."""
    for name in names:
        if load_next(iter([name])):
            await asyncio.sleep(0)
