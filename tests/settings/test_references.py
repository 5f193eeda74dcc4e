"""References: the same text as from a naive twin, and an end to long chains, doubling and large values."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.settings import references
from bitnet_core.settings.references import MAX_DEPTH, MAX_LENGTH, expand, names_in
from bitnet_core.settings.resolve import resolve

DEPTH = rf"is not allowed: its references lead through more than {MAX_DEPTH} names."
LENGTH = f"is not allowed: it is longer than {MAX_LENGTH:,} characters when its references are expanded."


def problems(text: str, folder: Path) -> list[str]:
    (folder / ".env").write_text(text)
    return [one.message for one in resolve(environ={}, cwd=folder).problems if one.severity == "error"]


def chain(length: int, first: str = "x", use: str = "TEACHER_MODEL") -> str:
    lines = [f"A{i}=${{A{i - 1}}}" for i in range(1, length)]
    return "\n".join([f"A0={first}", *lines, f"{use}=${{A{length - 1}}}"])


def doubling(times: int, first: str, use: str = "TEACHER_MODEL") -> str:
    lines = [f"A{i}=${{A{i - 1}}}${{A{i - 1}}}" for i in range(1, times + 1)]
    return "\n".join([f"A0={first}", *lines, f"{use}=${{A{times}}}"])


HOSTILE = {
    "a chain of 101": (chain(101), DEPTH),
    "a chain of 5,000": (chain(5000), DEPTH),
    "a chain from its middle too": (chain(3000) + "\nGROQ_MODEL=${A60}\nOPENAI_MODEL=${A120}", DEPTH),
    "a chain upside down": ("\n".join(reversed(chain(3000).split("\n"))), DEPTH),
    "a chain with text between": (chain(400).replace("${", "p/${"), DEPTH),
    "a chain of fallbacks": (chain(400).replace("}", ":-other}"), DEPTH),
    "a chain to a secret": (chain(400, use="OPENAI_API_KEY"), DEPTH),
    "doubling 2^24": (doubling(24, "x" * 16), LENGTH),
    "doubling 2^90": (doubling(90, "x"), LENGTH),
    "doubling to a path": (doubling(24, "x" * 16, "DATA_DIR"), LENGTH),
    "doubling nothing": (doubling(90, "").replace("}", ":-}") + "\nLR=x", "LR=x"),
    "one value with many": (f"A={'x' * 2000}\nTEACHER_MODEL={'${A}' * 5000}", LENGTH),
    "many unclosed": (f"OPENAI_MODEL={'${A:-' * 5000}\nTEACHER_MODEL={'${A:-' * 5000}\nLR=x", "LR=x"),
    "many names": (f"TEACHER_MODEL={'${' + 'A' * 29_000}\nLR=x", "LR=x"),
    "a long path": (f"A={'x/' * 3000}\nDATA_DIR=${{A}}", "it is longer than a path may be (4,095 bytes)"),
    "a circle": ("A=${B}\nB=${C}\nC=${B}\nTEACHER_MODEL=${A}", "refer to each other in a circle"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_references_end_in_one_sentence_and_in_little_memory(kind: str, tmp_path: Path) -> None:
    text, sentence = HOSTILE[kind]
    tracemalloc.start()
    try:
        found = problems(text, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found
    assert sentence in found[0]
    assert max(map(len, found)) < 1000
    assert peak < 50 << 20


@pytest.mark.parametrize("length", [1, 2, 50, MAX_DEPTH])
def test_chains_within_the_limit_are_followed(length: int, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(chain(length))
    assert resolve(environ={}, cwd=tmp_path).checked().values["TEACHER_MODEL"] == "x"


def test_a_long_text_is_allowed_up_to_the_limit(tmp_path: Path) -> None:
    for length in (MAX_LENGTH, MAX_LENGTH + 1):
        found = resolve({"TEACHER_MODEL": "x" * length}, environ={}, cwd=tmp_path).problems
        assert bool(found) == (length > MAX_LENGTH)
        assert all(len(one.message) < 1000 for one in found)


@pytest.mark.parametrize("name", ["TEACHER_MODEL", "DATA_DIR", "KD_PROMPTS_FILE", "HF_HOME", "SEED", "LR", "USE_AMP"])
def test_a_nul_character_is_called_that(name: str, tmp_path: Path) -> None:
    (problem,) = resolve({name: "a\0b"}, environ={}, cwd=tmp_path).problems
    assert problem.message.startswith(f"{name}=a")
    assert "(command line) is not allowed: it has a NUL character" in problem.message


# -- the twin ----------------------------------------------------------------------------------------------

_PIECE = st.sampled_from(
    ["x", "${A}", "${B}", "${C}", "${C:-f}", "${D:-}", "${D:-g h}", "${D}", "$A", "${", "}", "${A:-"]
)
_TEXT = st.lists(_PIECE, max_size=5).map("".join)


def naive(values: dict[str, str], name: str, seen: tuple[str, ...] = ()) -> str | None:
    """What a name stands for: every reference is followed afresh. None for an error."""
    if name in seen:
        return None

    def value_of(other: str) -> str | None:
        if other not in values:
            return None
        found = naive(values, other, (*seen, name))
        if found is None:
            raise ValueError(other)
        return found

    try:
        return expand(values[name], value_of)
    except ValueError:
        return None


@given(st.dictionaries(st.sampled_from(["A", "B", "C", "OPENAI_MODEL", "GROQ_MODEL"]), _TEXT.filter(bool)))
def test_expansion_equals_its_naive_twin(values: dict[str, str]) -> None:
    resolved = resolve(values, environ={}, cwd=Path("/"), read_files=False)
    for name in {"OPENAI_MODEL", "GROQ_MODEL"} & set(values):
        assert resolved.settings.values[name] == (naive(values, name) or None)


@given(_TEXT)
def test_names_are_those_that_the_whole_text_is_searched_for(text: str) -> None:
    assert names_in(text) == {found[1] for found in references._REFERENCE.finditer(text)}
