"""Structure of texts, against a twin built on the standard library's JSON, and by hand for broken JSON."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.traces.struct import structural_bytes, structural_tokens

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
containers = values.filter(lambda value: isinstance(value, dict | list))
# Prose that can't itself begin or end JSON.
prose = st.text(alphabet=string.ascii_letters + " .!?éü東🌧\n", max_size=30)


def shown(text: str) -> str:
    """The structural bytes of a text, as a string."""
    data = text.encode()
    return bytes(byte for byte, flag in zip(data, structural_bytes(data), strict=True) if flag).decode()


def twin_marks(value: object) -> str:
    """Structure of a value as the standard library would write it, in order."""
    if isinstance(value, dict):
        return "{" + ",".join(f'"":{twin_marks(inner)}' for inner in value.values()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(twin_marks(inner) for inner in value) + "]"
    return '""' if isinstance(value, str) else ""


@given(containers, prose, prose, st.booleans(), st.booleans())
def test_json_in_prose_is_marked_and_prose_is_not(
    value: object, before: str, after: str, ascii_only: bool, indented: bool
) -> None:
    text = before + json.dumps(value, ensure_ascii=ascii_only, indent=2 if indented else None) + after
    wanted = twin_marks(value)
    assert shown(text) == (wanted if len(wanted) > 2 else "")


@given(containers, st.data())
def test_json_cut_off_by_the_end_keeps_its_marks(value: object, data: st.DataObject) -> None:
    text = json.dumps(value).encode()
    cut = data.draw(st.integers(0, len(text)))
    whole = structural_bytes(text)
    begun = bytes(byte for byte, flag in zip(text[:cut], whole[:cut], strict=True) if flag)
    if b":" in begun or b"," in begun:
        assert structural_bytes(text[:cut]) == whole[:cut]


@given(st.text())
def test_any_text_is_accepted_and_only_structure_is_marked(text: str) -> None:
    assert set(shown(text)) <= set('{}[]:,"`~')


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('```json\n{"a": 1}\n```', '```{"":}```'),
        ("Use `x` and ``y``.", ""),
        ("  ~~~\ncode\n  ~~~", "~~~~~~"),
        ("A footnote [1] and a box [ ] stay prose.", ""),
        ("{'a': 1} is Python, {a: 1} is not JSON", ""),
        ('{"a": 1,} has a comma too many', ""),
        ('{"a": 01}', ""),
        ('say {"a": "b', '{"":"'),
        ('say {"a": tru', '{"":'),
        ('say {"word', ""),
        ('[[1, 2], ["x"]]', '[[,],[""]]'),
        ('{"a": "with \\" and { inside"}', '{"":""}'),
        ("[" * 100 + "]" * 100, "[" * 64 + "]" * 64),
        ('{"a": [1, 2}', ""),
    ],
)
def test_examples(text: str, wanted: str) -> None:
    assert shown(text) == wanted


def test_a_token_with_any_structural_byte_is_structural() -> None:
    mask = structural_bytes(b'{"ab": 1}')
    assert structural_tokens(mask, [2, 2, 2, 1, 1, 1]) == [True, False, True, False, False, True]
