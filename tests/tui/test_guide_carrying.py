"""What was typed for one own server goes along to another card, and no key to a server that it was not typed for."""

import itertools
from pathlib import Path

from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_tui.view.guide import teachers
from bitnet_tui.view.guide.carrying import Carried, carried
from bitnet_tui.view.guide.draft import TEACHER, Draft
from tests.tui.guides import app, at, choose, field_of
from tests.tui.pilots import said

_A, _B = "http://gpu-a:8000/v1", "http://gpu-b:8000/v1"


def _at(name: str, address: str, model: str, draft: Draft | None = None) -> Draft:
    one = PROVIDERS[name]
    draft = (draft or Draft()).having(TEACHER, name)
    return draft.having(one.base_url_setting, address).having(one.model_setting, model)


def test_what_was_typed_for_one_own_server_goes_to_an_empty_card_and_to_no_other_party() -> None:
    own = dict(teachers.groups())["Your own server"]
    for before, after in itertools.permutations(PROVIDERS, 2):
        ours, theirs = PROVIDERS[before], PROVIDERS[after]
        keys = {ours.key_setting: "k", "OPENAI_API_KEY": "o"}
        values, moved, got = carried(_at(before, _A, "m"), keys, after, {})
        filled = {theirs.model_setting: "m", theirs.base_url_setting: _A}
        expected = (filled, {theirs.key_setting: "k"}, Carried(filled, "k", _A))
        assert (values, moved, got) == (expected if before in own and after in own else ({}, {}, Carried())), (
            before,
            after,
        )
    assert carried(_at("vllm", "", ""), {}, "ollama", {})[:2] == ({}, {}), "usual addresses"
    assert carried(_at("vllm", "", "m"), {"VLLM_API_KEY": "k"}, "ollama", {})[:2] == ({"OLLAMA_MODEL": "m"}, {}), (
        "the usual address of another server"
    )


def test_a_card_that_has_something_keeps_it_and_gets_a_key_for_its_own_address_alone() -> None:
    for address, key in ((_B, {}), (_A, {"CUSTOM_API_KEY": "k"}), ("", {})):
        draft = _at("vllm", _A, "m", _at("custom", address, "own"))
        assert carried(draft, {"VLLM_API_KEY": "k"}, "custom", {})[:2] == ({}, key), address
    draft = _at("vllm", _A, "m", _at("custom", _A, "own"))
    assert carried(draft, {"VLLM_API_KEY": "k", "CUSTOM_API_KEY": "own"}, "custom", {})[:2] == ({}, {})
    draft = _at("vllm", _A, "m")
    assert carried(draft, {"VLLM_API_KEY": "k", "CUSTOM_API_KEY": "own"}, "custom", {})[:2] == ({}, {})


async def test_going_back_among_the_cards_changes_neither_and_pairs_no_key_with_another_address(home: Path) -> None:
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")

        async def type_in(**texts: str) -> None:
            for name, text in texts.items():
                field_of(guide, name).focus()
                field_of(guide, name).value = text
            guide.query_one("#cards").focus()
            await choose(pilot, guide.draft.teacher.name)

        def fields() -> list[str]:
            return [field_of(guide, name).value for name in ("ADDRESS", "MODEL", "KEY")]

        await choose(pilot, "custom")
        await type_in(ADDRESS=_A, MODEL="big-a", KEY="K-a")
        for passed in ("ollama", "llamacpp", "vllm", "llamacpp"):
            await choose(pilot, passed)
            assert fields() == [_A, "big-a", "K-a"]
        await choose(pilot, "ollama")
        assert set(guide.draft.values) == {
            TEACHER, "CUSTOM_BASE_URL", "CUSTOM_MODEL", "OLLAMA_BASE_URL", "OLLAMA_MODEL"
        }, "a card that was passed is empty again"  # fmt: skip
        await type_in(MODEL="small-b")
        await choose(pilot, "custom")
        await choose(pilot, "ollama")
        assert fields() == [_A, "small-b", "K-a"]
        await type_in(ADDRESS=_B)
        assert fields() == [_B, "small-b", ""]
        assert said(pilot, "#problem") == "Key is empty now: it was typed for the server at another address."
        await choose(pilot, "custom")
        assert fields() == [_A, "big-a", "K-a"]
        await choose(pilot, "ollama")
        assert fields() == [_B, "small-b", ""]
        await type_in(KEY="K-b")
        await choose(pilot, "custom")
        assert fields() == [_A, "big-a", "K-a"]
        await choose(pilot, "ollama")
        assert fields() == [_B, "small-b", "K-b"]
        await type_in(ADDRESS="http://gpu-b:9000/v1")
        assert fields()[2] == "K-b", "it was typed here"
