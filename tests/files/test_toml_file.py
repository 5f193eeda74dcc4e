"""A TOML file of any bytes: its tables, or one reason, in bounded memory and time."""

import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.files.toml_file import read_toml
from bitnet_core.prompts import templates
from bitnet_core.teachers import prices
from tests.fuzzing import fuzz

_PARTS = st.sampled_from(
    [
        *("[topics.a]", "[lists]", "[openai]", "\n", "=", ".", '"', "[", "]", "{", "}", ","),
        *('"x"', "x", "1.5", "nan"),
    ]
)
_WHOLE = st.sampled_from(
    ["[lists]\nx = ['a']\n", "[topics.a]\ntemplates = ['${x}']\n", "[openai.'gpt']\ninput = 1\noutput = 2\n"]
)
TEXTS = st.lists(_PARTS | _WHOLE, max_size=12).map("".join).map(str.encode)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (".".join(["a"] * 30_000) + " = 1", "line 1: a name has more than 100 parts"),
        ("x = 1\n[" + "'a' . \"b\" ." * 100 + "c]", "line 2: a name has more than 100 parts"),
        ("a = " + "[" * 50_000, "it is nested too deeply"),
        ("a = " + "{a=" * 50_000, "it is nested too deeply"),
        ("a = ", "Invalid value"),
    ],
)
def test_what_would_take_too_long_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (path := tmp_path / "x.toml").write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_toml(path, 1 << 20)


@pytest.mark.parametrize(
    "text", ["x" * 500_000 + " = 1", f"x = '{'. ' * 5000}'", "a" + ".a" * 90 + " = 1", "\ufeffa = 1"]
)
def test_what_is_merely_long_is_read(tmp_path: Path, text: str) -> None:
    (path := tmp_path / "x.toml").write_text(text)
    assert read_toml(path, 1 << 20) == tomllib.loads(text.removeprefix("\ufeff"))


@fuzz(150)
@given(st.binary(max_size=100) | TEXTS)
def test_any_bytes_are_topics_and_prices_or_one_sentence(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "x.toml").write_bytes(data)
        for read in (prices._read, templates.load_topics):
            try:
                assert read(path) is not None
            except BitnetError as error:
                assert str(error).endswith(".") and "\n" not in str(error)
