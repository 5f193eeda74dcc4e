"""What EVAL_SUITE asks for: items to answer, packaged, fetched or of the user's own, and benchmarks to score."""

from bitnet_core.errors import BitnetError
from bitnet_core.settings.values import SuiteOptions
from bitnet_core.suites.benchmarks import BENCHMARKS, find
from bitnet_core.suites.fetch import require_fetched
from bitnet_core.suites.graders import grade
from bitnet_core.suites.items import OWN, load_suites, suite_names
from bitnet_core.suites.run import Suites
from bitnet_core.suites.tool_items import load_tool_items
from bitnet_core.text import flat


def items_to_answer(asked: SuiteOptions) -> Suites:
    """The items of each suite that is answered in words, by its name.

    UsageError for an unknown name; BitnetError for a benchmark that was not fetched, and for an item of the user's
    own that its reference fails.
    """
    names = suite_names(asked.names, tuple(BENCHMARKS))
    tools = {name: load_tool_items(find(name), asked.limit or None) for name in names if _has_calls(name)}
    suites = load_suites(names, asked.items_file, asked.limit)
    for item in suites.get(OWN, []):
        if fault := grade(item, item.reference).reason:
            raise BitnetError(
                f"{asked.items_file}: the reference of the item {flat(item.id)!r} does not pass its check, {fault}; "
                "correct the item."
            )
    return {**suites, **tools}


def benchmarks_to_score(asked: SuiteOptions) -> list[str]:
    """The names of benchmarks that are scored by likelihood. BitnetError for one that was not fetched."""
    names = suite_names(asked.names, tuple(BENCHMARKS))
    found = [name for name in names if name in BENCHMARKS and not _has_calls(name)]
    for name in found:
        require_fetched(find(name))
    return found


def _has_calls(name: str) -> bool:
    return name in BENCHMARKS and find(name).kind == "calls"
