"""Near-identical prompts have one `folded_hash`, and those with other letters another; a group has one side."""

import unicodedata
from dataclasses import replace

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.prompts.prompt import Prompt
from bitnet_core.traces.split import is_heldout, with_both_sides

WORDS = st.lists(
    st.sampled_from(["List", "straße", "rivers", "日本", "Ärzte", "7", "1999", "x"]), min_size=1, max_size=6
)
BETWEEN = st.lists(st.sampled_from([" ", "  ", "\n", ", ", " - ", "!", "…"]), min_size=6, max_size=6)


def _prompt(text: str, role: str = "user") -> Prompt:
    return Prompt(({"role": role, "content": text},))


def _twin(words: list[str]) -> list[str]:
    """The letters of the words one by one, with one # for numbers that follow each other."""
    found: list[str] = []
    for char in "".join(words).casefold():
        sign = "#" if char.isdigit() else unicodedata.normalize("NFKC", char)
        if sign != "#" or found[-1:] != ["#"]:
            found.append(sign)
    return found


@given(WORDS, WORDS, BETWEEN, BETWEEN)
def test_only_letters_and_where_numbers_stand_count(one, other, gaps, other_gaps) -> None:
    texts = [
        "".join(map("".join, zip(words, between, strict=False)))
        for words, between in ((one, gaps), (other, other_gaps))
    ]
    same = _prompt(texts[0]).folded_hash == _prompt(texts[1]).folded_hash
    assert same == (_twin(one) == _twin(other))
    assert _prompt(texts[0].upper()).folded_hash == _prompt(texts[0].replace("7", "42")).folded_hash
    assert _prompt(texts[0]).folded_hash != _prompt(texts[0], "system").folded_hash


def test_a_group_is_held_out_as_a_whole_and_a_prompt_without_one_by_its_own_words() -> None:
    alone = [_prompt(f"{word} {other}") for word in "abcdefghij" for other in "klmnopqrst"]
    assert [one.side_hash for one in alone] == [one.folded_hash for one in alone]
    held = 0
    for number in range(300):
        hashes = [replace(one, group=f"group {number}").side_hash for one in alone[:20]]
        assert len(set(hashes)) == 20
        sides = {is_heldout(one) for one in hashes}
        assert len(sides) == 1
        held += sides.pop()
    assert 15 < held < 45


def test_a_whole_group_moves_over_where_one_side_would_be_empty() -> None:
    pairs = zip("abcdef", "xyzxyz", strict=True)
    grouped = [replace(_prompt(f"one {word}"), group=group).side_hash for word, group in pairs]
    column = pa.chunked_array([grouped], pa.large_string())
    for held in (False, True):
        sides = with_both_sides(np.full(6, held), column)
        assert sides.sum() in (2, 4)
        assert (sides[:3] == sides[3:]).all()
    one = pa.chunked_array([grouped[:1], grouped[3:4]], pa.large_string())
    assert not with_both_sides(np.ones(2, bool), one).any()
