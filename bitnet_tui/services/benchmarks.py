"""Which public benchmarks there are and are here, and fetching them: `bitnet bench …` in a process of its own.

Slow, so call it in a thread.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bitnet_core.errors import BitnetError
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolved import Settings
from bitnet_tui.services.commands import Followed
from bitnet_tui.services.settings import resolved

SUITE = "EVAL_SUITE"
_SECONDS = 60.0
_SCORING = frozenset({"teacher", "eval", "pipeline"})


class Benchmark(NamedTuple):
    """`package` is what holds it, with others; `wanted` tells whether EVAL_SUITE names it."""

    name: str
    here: bool
    items: int
    about: str
    licence: str
    package: str
    package_bytes: int
    wanted: bool


def listed(home: Path, root: Path | None) -> tuple[Benchmark, ...]:
    """All of them. BitnetError if the list or the settings can't be read."""
    return _list(home, _named(resolved(home, root).checked()))


def missing(home: Path, root: Path, stage: str) -> tuple[Benchmark, ...]:
    """Those that the stage would score and that are not here; nothing is started where only packaged checks are."""
    settings = resolved(home, root).checked()
    if stage not in _SCORING or settings.values[SUITE] in (REGISTRY[SUITE].default, "none", None):
        return ()
    return tuple(one for one in _list(home, _named(settings)) if one.wanted and not one.here)


def _named(settings: Settings) -> frozenset[str]:
    return frozenset(one.strip() for one in str(settings.values[SUITE] or "").split(","))


def _list(home: Path, wanted: frozenset[str]) -> tuple[Benchmark, ...]:
    found, complaint, code = Followed(home, ["bench", "list"], {}, _SECONDS, "The list").followed(lambda _: None)
    if code or not found:
        raise BitnetError(complaint or f"The list of benchmarks ended with exit code {code}.")
    return tuple(
        Benchmark(
            str(one["benchmark"]),
            bool(one["fetched"]),
            int(one["items"]),
            str(one["about"]),
            str(one["licence"]),
            str(one["package"]),
            int(one["package_bytes"]),
            one["benchmark"] in wanted,
        )
        for one in found
    )


class GetBenchmarks(Followed):
    """Fetches the packages of these benchmarks; one that is here already costs nothing."""

    def __init__(self, home: Path, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self.said = "starting…"
        """How far it has come."""
        super().__init__(home, ["bench", "get", *self.names], {}, 0.0, "The benchmarks")

    def fetched(self) -> None:
        """Run it. BitnetError if it failed or was cancelled."""

        def say(words: str) -> None:
            self.said = words

        _, complaint, code = self.followed(say)
        if code:
            raise BitnetError(complaint or f"Fetching the benchmarks ended early (exit code {code}); try again.")
