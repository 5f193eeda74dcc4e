"""Near-identical prompts have one `folded_hash`; those with other letters have another."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.prompts.prompt import Prompt

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
