"""The plan's decoding speed: timed in llama.cpp with few layers, linear in the layers, and told how."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.presets import preset
from bitnet_core.planning import decoding
from bitnet_core.planning.decoding import token_seconds
from bitnet_core.planning.plan import Asked, plan
from bitnet_core.planning.tables import tables
from tests.planning.test_plan import OPTIONS, _facts, _own_cache

__all__ = ["_own_cache"]

ROOM = 1 << 34
SMALL = preset("nano", 300, layers=2, max_positions=64)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The layers that were timed, call by call; a token takes 2 ms and 0.5 ms a layer."""
    calls: list[list[int]] = []

    def stand_in(shapes: list[StudentConfig]) -> tuple[list[float], str]:
        calls.append([shape.num_hidden_layers for shape in shapes])
        return [0.002 + 0.0005 * shape.num_hidden_layers for shape in shapes], "1 thread, processor time"

    monkeypatch.setattr(decoding, "_timed", stand_in)
    return calls


@pytest.mark.parametrize(("layers", "depths"), [(1, [1]), (4, [4]), (5, [1, 4]), (12, [1, 4])])
def test_seconds_are_linear_in_the_layers(timed: list[list[int]], layers: int, depths: list[int]) -> None:
    found = token_seconds(replace(SMALL, num_hidden_layers=layers), ROOM, again=False)
    assert timed == [depths]
    assert found["timed_layers"] == depths
    assert found["tokens_per_s"] == pytest.approx(1 / (0.002 + 0.0005 * layers))


def test_a_shape_is_timed_once_unless_asked_again(timed: list[list[int]]) -> None:
    first = token_seconds(SMALL, ROOM, again=False)
    assert token_seconds(SMALL, ROOM, again=False) == first | {"cached": True}
    assert not token_seconds(SMALL, ROOM, again=True)["cached"]
    assert not token_seconds(replace(SMALL, vocab_size=301), ROOM, again=False)["cached"]
    assert len(timed) == 3


def test_without_room_nothing_is_timed(timed: list[list[int]]) -> None:
    assert "more than half of what is free" in token_seconds(SMALL, 1000, again=False)["missing"]
    assert timed == []


def test_llamacpp_runs_the_shape_with_any_vocabulary() -> None:
    found = token_seconds(SMALL, ROOM, again=False)
    assert found["tokens_per_s"] > 0
    assert found["how"].startswith("llama.cpp, TQ2_0, ")


def test_what_llamacpp_can_not_run_says_why() -> None:
    squared = replace(SMALL, hidden_act="relu2")
    assert "llama.cpp computes SiLU" in token_seconds(squared, ROOM, again=False)["missing"]


@pytest.mark.parametrize(
    ("timing", "shown"),
    [
        (
            {
                "tokens_per_s": 242.25,
                "how": "llama.cpp, TQ2_0, here",
                "timed_layers": [1, 4],
                "load": 9.4,
                "cached": True,
            },
            [242.2, "llama.cpp, TQ2_0, here; timed here with 1 and 4 layers, at a load of 9.4; kept from before"],
        ),
        ({"missing": "no room"}, [None, "no room"]),
        (None, [None, "not timed; `bitnet eval` measures the finished student"]),
    ],
    ids=["timed", "missing", "not timed"],
)
def test_the_plan_says_it_or_why_not(tmp_path: Path, timing: dict[str, Any] | None, shown: list[Any]) -> None:
    facts = _facts(tmp_path) | {"decoding": timing}
    record = plan(facts, OPTIONS, 20, None, Asked())
    rows = {row[0]: row[1:] for _, _, rows in tables(record) for row in rows}
    assert rows["decoding afterwards, tokens/s"] == shown
    elsewhere = plan(facts, OPTIONS, 20, None, Asked(device="cuda", memory_bytes=80 * 10**9))
    assert elsewhere["decoding"]["tokens_per_s"] is None
