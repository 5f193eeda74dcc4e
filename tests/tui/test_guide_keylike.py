"""A key that is pasted or typed among other words is in no field that shows it, and in no draft on disk."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from textual import events

from bitnet_core.files.user_folders import state_folder
from bitnet_core.settings.registry import REGISTRY
from bitnet_tui.view.guide import keylike, pasted
from bitnet_tui.view.guide.draft import TEACHER, Draft
from bitnet_tui.view.guide.draft_record import from_record, to_record
from tests.tui.guides import answered, app, at, choose, field_of, press, taken
from tests.tui.pilots import said, shown, until

_K = "17fa9c0d2b8e4471aa03bb55"
_A = "http://gpu:8000/v1"
_PASTES = (
    f"Address: {_A}, key {_K}",
    f"Model: m, token {_K}",
    f"model=m;key={_K}",
    f"host gpu.lan:8000 modell qwen passwort {_K}",
    f"der Schlüssel ist {_K}",
    f"{_A} {_K}",
    f"{_A} big-model {_K}",
    f"{_A},{_K}",
    f"{_K}\nis the key",
    "the key is in the safe",
)


async def test_a_key_pasted_among_other_words_is_neither_shown_nor_kept(home: Path) -> None:
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "custom")
        for place in ("ADDRESS", "MODEL"):
            field_of(guide, place).focus()
            for text in _PASTES:
                guide.say("", "label")
                pilot.app.post_message(events.Paste(text))
                await answered(pilot)
                assert [field_of(guide, name).value for name in ("ADDRESS", "MODEL")] == ["", ""], text
                assert _K not in shown(pilot), text
                assert "Not taken: " in said(pilot, "#problem") or "Nothing taken: paste" in said(pilot, "#problem")
        field_of(guide, "MODEL").value = "small"
        field_of(guide, "ADDRESS").value = f"{_A} {_K}"
        await answered(pilot)
        await press(pilot, "escape")
        folder = state_folder() / "drafts"
        await until(pilot, lambda: any("small" in one.read_text() for one in folder.glob("*.json")))
        assert all(_K not in one.read_text() for one in folder.glob("*"))


_WORDS = [
    "key",
    "is",
    "the token",
    "und",
    "passwort:",
    "Schlüssel",
    _A,
    f"Address: {_A}",
    "gpu.lan:8000",
    "qwen",
    "-",
]
_BETWEEN = [" ", ", ", "; ", ";", "\n", "\t", " | ", " = "]
_WORD = st.sampled_from([*_WORDS, "model", "bucket=", "s3:", "curl", "'", '"', "{", "export"])
_KEYS = st.from_regex(r"[0-9a-f]{20,40}|[0-9A-Za-z]{24,40}", fullmatch=True).filter(
    lambda key: any(one.isdigit() for one in key) and not key.isdigit()
)


@hypothesis_settings(max_examples=150, deadline=None)
@example([], _K, ["x"], ["\n"])
@given(
    st.lists(_WORD, max_size=5), _KEYS, st.lists(_WORD, max_size=5), st.lists(st.sampled_from(_BETWEEN), min_size=1)
)
def test_whatever_is_around_a_key_it_comes_into_no_visible_field_and_no_draft(
    before: list[str], key: str, after: list[str], between: list[str]
) -> None:
    assume(before + after)
    assume(not before or before[-1] in _WORDS)  # what says that the key is a model or a bucket is believed
    words = [*before, key, *after]
    text = "".join(f"{word}{between[place % len(between)]}" for place, word in enumerate(words[:-1])) + words[-1]
    chosen = Draft(step="teacher").having(TEACHER, "custom")
    for bare in (True, False):
        found = pasted.read(text, draft=chosen, bare=bare)
        if found is None:
            assert not keylike.is_one_value(text) or key not in text.strip().splitlines()[0]
        else:
            assert key not in f"{found.values} {found.words(200)}"
    assert key not in json.dumps(to_record(chosen.having("CUSTOM_BASE_URL", text)))


@pytest.mark.parametrize("name", ["CUSTOM_BASE_URL", "CUSTOM_MODEL", "S3_BUCKET", "AWS_DEFAULT_REGION"])
def test_a_short_password_among_words_that_are_typed_is_not_kept(name: str) -> None:
    for text in ("http://gpu passwort hunter2", "qwen;hunter2", "my model, pw hunter2"):
        assert "hunter2" not in json.dumps(to_record(Draft().having(name, text))), text
        earlier = from_record({"values": {name: text}})
        assert earlier is not None
        assert not earlier.values, "as an earlier version kept it"
    assert to_record(Draft().having(name, "hunter2"))["values"] == {name: "hunter2"}


def test_what_is_no_key_is_taken_and_kept() -> None:
    for text in (
        "llama3:8b",
        _A,
        "meta-llama/Llama-3.1-8B-Instruct",
        "/mnt/My Disk/runs-of-2024-11-30",
        "qwen\nand so",
    ):
        assert keylike.is_one_value(text), text
    for name, one in REGISTRY.items():
        assert not keylike.may_hold_a_key(one.default), name


@pytest.mark.parametrize("header", ["api-key", "X-Api-Key", "x-api-key"])
def test_a_call_with_its_key_in_another_header_is_taken(header: str) -> None:
    draft, keys = taken(f"curl {_A}/chat/completions -H '{header}: {_K}' -d '{{\"model\": \"m\"}}'")
    assert (draft.address, draft.model, keys) == (_A, "m", {"CUSTOM_API_KEY": _K})


def test_a_call_with_a_login_says_that_its_password_is_not_taken() -> None:
    found = pasted.read(f"curl -u me:{_K} {_A}/models")
    assert found is not None
    assert found.words(80) == "Taken: Address. Not taken: login password."


@pytest.mark.parametrize("piece", [" ", "a=", "f(a='", "a=b&", "a://", "key ", "a\t", 'curl "model":'])
def test_a_paste_takes_time_that_grows_with_its_length_alone(piece: str) -> None:
    def seconds(characters: int) -> float:
        text = f"a{piece * (characters // len(piece))}b"
        times = []
        for _ in range(3):
            begun = time.process_time()
            pasted.read(text, bare=True)
            keylike.is_one_value(text)
            times.append(time.process_time() - begun)
        return min(times)

    assert seconds(20_000) <= 6 * seconds(5_000) + 0.002
    assert seconds(3_900) <= 6 * seconds(975) + 0.002, "a line that may be one of a note"
