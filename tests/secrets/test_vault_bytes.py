"""Any bytes as a vault: its content, or the sentence that it is damaged. `check` also serves as a fuzz target."""

import json
import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.secrets import vault
from tests.fuzzing import fuzz

NAME, VALUE, WORDS = "OPENAI_API_KEY", "sk-canary-0123456789", "correct horse"


@cache
def written() -> dict[str, Any]:
    """The content of a vault that holds one key."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "v.json"
        vault.create(path, WORDS).set(NAME, VALUE)
        return dict(json.loads(path.read_text()))


def check(data: bytes) -> None:
    """AssertionError, or any error but BitnetError, shows a fault."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "v.json"
        path.write_bytes(data)
        try:
            names = vault.names(path)
            assert vault.names_over_keyring(path) <= set(names)
            assert vault.unlock(path, WORDS).read() in ({}, {NAME: VALUE})
        except BitnetError as error:
            assert str(error).startswith(
                (f"{path} is damaged; restore", f"{path} was written by a newer", "That is not the passphrase of")
            )
            assert "\n" not in str(error)


def with_checksum(content: dict[str, Any]) -> bytes:
    """As an attacker writes it: the checksum fits."""
    return json.dumps(content | {"sha256": vault._checksum(content)}).encode()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 1 << 21) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_FIELD = st.sampled_from(["format", "salt", "cost", "proof", "entries", "seal", "over", "other"])


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A vault with some fields exchanged for anything, and a checksum that fits."""
    content = written() | draw(st.dictionaries(_FIELD, _JSON, min_size=1, max_size=2))
    if isinstance(content["cost"], int) and content["cost"] > 1 << 10:
        content["cost"] = 4  # a large one is allowed, and takes its time
    return with_checksum(content)


BYTES = st.binary(max_size=100) | _JSON.map(json.dumps).map(str.encode) | changed()


@fuzz(200)
@given(BYTES)
def test_any_bytes_are_a_vault_or_damaged(data: bytes) -> None:
    check(data)


@fuzz(100)
@given(BYTES, st.integers(0, 10_000), st.binary(max_size=2))
def test_a_cut_or_changed_vault_is_damaged(data: bytes, at: int, damage: bytes) -> None:
    at %= len(data) + 1
    check(data[:at] + damage)
    check(data[:at] + damage + data[at + len(damage) :])


def test_nesting_without_end_is_damage() -> None:
    for opening in (b"[", b'{"a":'):
        check(opening * 200_000)


def test_what_cannot_be_a_vault_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b" " * (vault._MOST_BYTES + 1))
    for name, sentence in (("pipe", "give a regular file"), ("large", "is damaged")):
        try:
            vault.names(tmp_path / name)
        except BitnetError as error:
            assert sentence in str(error)
        else:
            raise AssertionError(name)
