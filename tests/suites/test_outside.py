"""Scores from a file of the user's own are typed and bounded."""

import json
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.suites.outside import load_outside

GOOD = {"score": 0.5, "n": 200, "interval": [0.43, 0.57]}


def test_scores_of_both_models(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"student": {"mmlu": GOOD}, "teacher": {"mmlu": GOOD | {"n": 3}}}))
    found = load_outside(path)
    assert found.student["mmlu"].score == 0.5
    assert found.teacher["mmlu"].n == 3
    assert found.teacher["mmlu"].interval == (0.43, 0.57)


@pytest.mark.parametrize(
    "content",
    [
        "not JSON",
        [],
        {"pupil": {}},
        {"student": {"mmlu": {"score": 0.5}}},
        {"student": {"mmlu": GOOD | {"score": 1.5}}},
        {"student": {"mmlu": GOOD | {"score": "0.5"}}},
        {"student": {"mmlu": GOOD | {"n": 0}}},
        {"student": {"mmlu": GOOD | {"interval": [0.6, 0.7]}}},
        {"student": {"mmlu": GOOD | {"interval": [0.4]}}},
        {"student": {"mmlu": GOOD | {"more": 1}}},
        {"student": {"\u001b[31m": GOOD}},
        {"student": {"mmlu\n": GOOD}},
        json.dumps({"student": {"mmlu": GOOD, "mmlv": GOOD | {"score": 0.55}}}).replace("mmlv", "mmlu"),
        json.dumps({"student": {}, "studenx": {"mmlu": GOOD}}).replace("studenx", "student"),
        {"student": {"x" * 81: GOOD}},
        {"student": {f"b{n}": GOOD for n in range(1001)}},
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "scores.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(BitnetError, match=r"scores\.json \(EVAL_SCORES\)"):
        load_outside(path)


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"student": {"mmlé": GOOD}}, ensure_ascii=False), encoding="latin-1")
    with pytest.raises(BitnetError, match=r"\(EVAL_SCORES\) is not a file of scores: it is not UTF-8 text"):
        load_outside(path)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"student": {"mmlu": GOOD}}), encoding="utf-8-sig")
    assert load_outside(path).student["mmlu"].score == 0.5


def test_a_file_that_is_missing_or_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(BitnetError, match="can't be read"):
        load_outside(tmp_path / "none.json")
    (tmp_path / "long.json").write_text(" " * (1 << 21))
    with pytest.raises(BitnetError, match="can't be read"):
        load_outside(tmp_path / "long.json")
