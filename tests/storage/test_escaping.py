"""Escaping is reversible, also where a character may not stand first or last."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.storage import names
from bitnet_core.storage.names import FIRST, LAST, Escaping

_LIKELY = st.sampled_from(
    [*"abcA0 .~$=_-%#\\é日🙂/", "Thumbs.db", ".tmp", "=2E", ".dropbox", "desktop.ini", "..", " "]
)


def keys() -> st.SearchStrategy[str]:
    """Keys that are allowed, many with what services refuse."""
    return (
        st.lists(_LIKELY | st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=12)
        .map(lambda parts: unicodedata.normalize("NFC", "".join(parts)))
        .filter(lambda key: not names.fault(key))
    )


@given(keys())
def test_a_character_that_may_not_be_first_or_last_is_escaped_there(key: str) -> None:
    escaping = Escaping(r"\x20-\x7e", rf"{FIRST}[ a]|[ .]{LAST}")
    name = escaping.escape(key)
    assert escaping.unescape(name) == key
    assert not any(segment[0] in " a" or segment[-1] in " ." for segment in name.split("/"))


def test_only_what_must_be_is_escaped() -> None:
    escaping = Escaping(r"\x20-\x7e", rf"{FIRST}[ ]|[ .]{LAST}")
    assert escaping.escape(" a b./c.d /e") == "=20a b=2E/c.d=20/e"
    assert escaping.unescape("=20a b=2E/c.d") == " a b./c.d"
    assert escaping.unescape("a=20b") is None
