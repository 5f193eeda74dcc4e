"""EVAL_SUITE names packaged checks and benchmarks side by side, each goes where it is answered or scored."""

import json
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.values import SuiteOptions
from bitnet_core.suites.asked import benchmarks_to_score, items_to_answer
from bitnet_core.suites.benchmarks import BENCHMARKS
from tests.suites import small_wheel
from tests.suites.test_fetch import stored


def asked(names: str, limit: int = 2, **more: str) -> SuiteOptions:
    return SuiteOptions.of(from_values({"EVAL_SUITE": names, "EVAL_LIMIT": str(limit), **more}))


def test_each_name_goes_where_it_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_wheel.packed(small_wheel.members())
    package = small_wheel.package(data)
    for kind in ("choice", "calls"):
        monkeypatch.setitem(BENCHMARKS, f"small_{kind}", small_wheel.benchmark(package, f"small_{kind}", kind))
    monkeypatch.setenv("BITNET_CACHE", str(tmp_path))
    options = asked("json,small_choice,small_calls")
    with pytest.raises(BitnetError, match="bitnet bench get small_choice"):
        benchmarks_to_score(options)
    with pytest.raises(BitnetError, match="bitnet bench get small_calls"):
        items_to_answer(options)
    stored(data, tmp_path)
    assert benchmarks_to_score(options) == ["small_choice"]
    assert {name: len(items) for name, items in items_to_answer(options).items()} == {"json": 2, "small_calls": 2}
    assert len(items_to_answer(asked("small_calls", 0))["small_calls"]) == 3


def test_an_unknown_name_lists_the_benchmarks_too() -> None:
    with pytest.raises(UsageError, match=r"'mmlu', which is not a suite; choose from checks, .*arc_easy"):
        items_to_answer(asked("mmlu"))
    assert benchmarks_to_score(asked("none")) == [] == list(items_to_answer(asked("none")))


@pytest.mark.parametrize(
    ("check", "reference"),
    [
        ({"kind": "number", "value": "42"}, "It is 41."),
        ({"kind": "extract", "accepted": ["Ann"], "rejected": ["ann"]}, "Ann"),
        ({"kind": "text", "contains": ["a"], "words": [5, 1]}, "a b c"),
        ({"kind": "json", "schema": {"required": ["a"]}}, '{"b": 1}'),
    ],
)
def test_an_item_that_its_own_reference_fails_is_refused(
    tmp_path: Path, check: dict[str, object], reference: str
) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text(json.dumps({"id": "a1", "prompt": "Say it.", "check": check, "reference": reference}))
    with pytest.raises(BitnetError, match=r"mine\.jsonl: the reference of the item 'a1' does not pass"):
        items_to_answer(asked("none", EVAL_ITEMS_FILE=str(mine)))
