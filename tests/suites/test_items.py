"""Packaged items are right, and an item file that is not is refused with its line."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.suites import items
from bitnet_core.suites.graders import grade
from bitnet_core.suites.items import ALL_PACKAGED, PACKAGED, Item, load_items, load_suites, spread, suite_names
from bitnet_core.tokenizer.student import StudentTokenizer

SUITES = load_suites([ALL_PACKAGED], None, 0)
ALL = [item for found in SUITES.values() for item in found]
GOOD: dict[str, Any] = {
    "id": "a",
    "prompt": "What is 1 + 1?",
    "check": {"kind": "number", "value": "2"},
    "reference": "2",
}


def test_there_are_enough_of_each_kind() -> None:
    assert tuple(SUITES) == PACKAGED
    assert len(ALL) >= 200
    assert all(40 <= len(found) <= 60 for found in SUITES.values())
    assert len({item.id for item in ALL}) == len({item.prompt for item in ALL}) == len(ALL)


@pytest.mark.parametrize("name", PACKAGED)
def test_each_reference_passes_its_own_item_and_no_other_of_its_suite(name: str) -> None:
    for item in SUITES[name]:
        assert grade(item, item.reference).reason == "", item.id
        for other in SUITES[name]:
            assert other is item or not grade(item, other.reference).passed, (item.id, other.id)


@pytest.mark.parametrize(
    "answer", ["", "I can't help with that.", "{}{}", "[]]", "yes", "0", "\x00", "{" * 999, "the"]
)
def test_an_empty_phrase_passes_nothing(answer: str) -> None:
    assert [item.id for item in ALL if grade(item, answer).passed] == []


def test_an_item_that_repeats_its_prompt_fails() -> None:
    assert [item.id for item in ALL if grade(item, item.prompt).passed] == []


@settings(max_examples=40)
@given(st.sampled_from(ALL), st.text(max_size=200))
def test_a_grader_never_raises(item: Item, answer: str) -> None:
    assert grade(item, answer).passed in (True, False)
    assert grade(item, answer + item.reference + answer).passed in (True, False)


@pytest.mark.teacher
def test_a_small_student_can_read_every_item(teacher_tokenizer: StudentTokenizer) -> None:
    for item in ALL:
        prompt = teacher_tokenizer.encode_prompt([{"role": "user", "content": item.prompt}]).ids
        reference = teacher_tokenizer.encode(item.reference)
        assert len(prompt) <= 160, item.id
        assert len(reference) <= 48, item.id  # what make demo lets a student write


# -- files -----------------------------------------------------------------------------------------------
def saved(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "items.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8", errors="surrogatepass")
    return path


def test_unknown_fields_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = saved(tmp_path, "", GOOD | {"source": "me"}, "  ", GOOD | {"id": "b"})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [item.id for item in load_items(path)] == ["a", "b"]


def check(**fields: Any) -> dict[str, Any]:
    return GOOD | {"id": "b", "check": fields}


FAULTS = [
    ("{", "not JSON"),
    ("nonsense", "not JSON"),
    ("[]", "Expected `object`"),
    ({key: value for key, value in GOOD.items() if key != "prompt"}, "`prompt`"),
    ({key: value for key, value in GOOD.items() if key != "check"}, "`check`"),
    ({key: value for key, value in GOOD.items() if key != "reference"}, "`reference`"),
    (GOOD | {"id": ""}, "length"),
    (GOOD | {"prompt": 7}, "prompt"),
    (GOOD, "stands on an earlier line"),
    (check(kind="magic"), "magic"),
    (check(value="2"), "kind"),
    (check(kind="number"), "`value`"),
    (check(kind="number", value="two"), "'two' is not a number"),
    (check(kind="number", value="nan"), "not a number"),
    (check(kind="number", value="2", unit="kg"), "unit"),
    (check(kind="json", schema={"pattern": "x"}), "'pattern', which is not supported"),
    (check(kind="json", schema=[]), "schema"),
    (check(kind="extract", accepted=["a"], rejected=[]), "length"),
    (check(kind="extract", accepted=[""], rejected=["b"]), "length"),
    (check(kind="tool", name="f", arguments={"a": []}), "length"),
    (check(kind="extract", accepted=["b", " "], rejected=["c"]), "nothing to look for"),
    (check(kind="text", contains=[]), "length"),
    (check(kind="text", contains=["\u00a0"]), "nothing to look for"),
    (check(kind="text", contains=["a", "**"]), "nothing to look for"),
    (check(kind="text", contains=["a"], case="title"), "title"),
    (check(kind="text", contains=["a"], words=[1]), "length"),
    (json.dumps(GOOD | {"id": "b"})[:-1] + ', "prompt": "What is 2 + 2?"}', '"prompt" stands in one object 2 times'),
    (json.dumps(check(kind="number", value="2"))[:-1].replace('"2"', '"2", "value": "3"') + "}", '"value" stands'),
    (json.dumps(GOOD | {"id": "b"})[:-1] + ', "x": {"y": 1, "y": 1}}', '"y" stands in one object 2 times'),
    ('{"id": "b", "x": ' + "[" * 5000 + "]" * 5000 + "}", "nested too deeply"),
    ('{"id": "b", "prompt": "\\ud800", "check": {"kind": "number", "value": "2"}, "reference": "2"}', ""),
]


@pytest.mark.parametrize(("line", "why"), FAULTS, ids=range(len(FAULTS)))
def test_a_damaged_line_is_refused_with_its_number(tmp_path: Path, line: object, why: str) -> None:
    with pytest.raises(BitnetError) as caught:
        load_items(saved(tmp_path, GOOD, "", line))
    message = str(caught.value)
    assert "items.jsonl, line 3: " in message
    assert why in message
    assert message.endswith(".")
    assert len(message) < len(str(tmp_path)) + 300


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"id": "\xff"}\n')
    with pytest.raises(BitnetError, match="line 2"):
        load_items(path)


def test_no_file_an_empty_one_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BitnetError, match="does not exist; correct EVAL_ITEMS_FILE"):
        load_items(tmp_path / "none.jsonl")
    with pytest.raises(BitnetError, match="holds no items"):
        load_items(saved(tmp_path, ""))
    with pytest.raises(BitnetError, match="can't be read"):
        load_items(tmp_path)


# -- choosing --------------------------------------------------------------------------------------------
def test_names() -> None:
    assert suite_names("") == suite_names("none") == []
    assert suite_names(" tools , json,tools ") == ["tools", "json"]
    assert suite_names("arc_easy", ["arc_easy"]) == ["arc_easy"]
    with pytest.raises(UsageError, match="'jsn', which is not a suite; choose from checks, json"):
        suite_names("jsn")
    assert items.packaged(["tools", "json"]) == ["json", "tools"]
    assert tuple(items.packaged([ALL_PACKAGED, "json"])) == PACKAGED


def test_a_limit_takes_items_from_the_whole_file(tmp_path: Path) -> None:
    assert spread(range(3), 7) == spread(range(3), 0) == [0, 1, 2]
    for length in (40, 56, 100, 570):
        chosen = [spread(range(length), limit) for limit in range(1, length + 1)]
        assert all(set(few) < set(more) for few, more in itertools.pairwise(chosen))
        for found in chosen[3:]:
            gaps = [after - before for before, after in itertools.pairwise([*found, found[0] + length])]
            assert max(gaps) <= 4 * length / len(found)
    found = load_suites(["json"], saved(tmp_path, GOOD), 5)
    assert {name: len(some) for name, some in found.items()} == {"json": 5, "own": 1}


def test_a_hash_is_of_prompt_and_check_alone(tmp_path: Path) -> None:
    others = (GOOD | {"id": "b", "reference": "2.0"}, GOOD | {"id": "c", "prompt": "1 + 1?"})
    one, same, other = load_items(saved(tmp_path, GOOD, *others))
    assert one.hash == same.hash != other.hash
