"""What an evaluation reads before it measures: a baseline may be anybody's, and damaged."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.checks import load_baseline

BASELINE: dict[str, Any] = {
    "provider": "embedded",
    "model": "teacher",
    "memory": {"bytes": 300_000_000, "origin": "measured"},
    "tokens_per_s": {"end_to_end": None, "decode": 100.0, "origin": "measured"},
}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"tokens_per_s": 3.5}, "$.tokens_per_s"),
        ({"tokens_per_s": {"decode": {"a": 1}}}, "$.tokens_per_s.decode"),
        ({"tokens_per_s": {"end_to_end": "80"}}, "$.tokens_per_s.end_to_end"),
        ({"memory": "\x1b[31m"}, "$.memory"),
        ({"memory": {"bytes": [1] * 1000}}, "$.memory.bytes"),
        ({"memory": {"bytes": -1}}, "$.memory.bytes"),
        ({"memory": {"bytes": float("nan")}}, "$.memory.bytes"),
        ({"memory": {"bytes": 10**40}}, "$.memory.bytes"),
        ({"memory": {"bytes": 1, "origin": 5}}, "$.memory.origin"),
        ({"provider": {}}, "$.provider"),
        ({"model": ["x"]}, "$.model"),
        ({"origin": 0}, "$.origin"),
    ],
)
def test_a_baseline_with_odd_values_is_refused_with_the_place(
    tmp_path: Path, change: dict[str, Any], where: str
) -> None:
    path = tmp_path / "teacher_baseline.json"
    files.write_json(path, BASELINE)
    assert load_baseline(path) == BASELINE
    path.write_text(json.dumps(BASELINE | change))  # NaN too
    with pytest.raises(BitnetError, match=rf"baseline \(.*{re.escape(where)}`\); run `bitnet teacher` again\.$"):
        load_baseline(path)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"a"'])
def test_what_is_no_object_is_no_baseline(tmp_path: Path, text: str) -> None:
    path = tmp_path / "teacher_baseline.json"
    path.write_text(text)
    with pytest.raises(BitnetError, match="is not a teacher's baseline"):
        load_baseline(path)
