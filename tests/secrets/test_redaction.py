"""The redactor: no spelling of a key survives, shapes of keys neither, and ordinary text is left alone."""

import json
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.secrets.redaction import MASK, Redactor

_BODY = "aB3dE5fG7hI9jK1lM3nO5pQ7"


@given(st.lists(st.text(min_size=6, max_size=30), max_size=4), st.text())
def test_no_spelling_of_a_secret_survives(values: list[str], around: str) -> None:
    redact = Redactor(values)
    for value in values:
        spelt = [value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]]
        spelt += [quote(value, safe="", errors="replace"), quote_plus(value, errors="replace")]
        for text in spelt:
            assert text not in redact(f"{around}<{text}>{around}") or text in MASK


@given(st.text(min_size=6), st.text())
def test_masking_twice_changes_nothing_more(value: str, around: str) -> None:
    redact = Redactor([value])
    once = redact(f"{around}{value} Authorization: Bearer {_BODY} {around}")
    if value not in once:
        assert redact(once) == once


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"sk-proj-{_BODY}", MASK),
        (f"key=hf_{_BODY}.", f"key={MASK}."),
        (f"gsk_{_BODY}", MASK),
        (f"https://g/v1?key=AIza{_BODY}0123456789abc&x=1", f"https://g/v1?key={MASK}&x=1"),
        ("id AKIAIOSFODNN7EXAMPLE here", f"id {MASK} here"),
        (f"authorization: Bearer {_BODY}", f"authorization: Bearer {MASK}"),
        ("Authorization: Basic dTpw", f"Authorization: Basic {MASK}"),
        (f"{{'Authorization': 'Bearer {_BODY}'}}", f"{{'Authorization': 'Bearer {MASK}'}}"),
        ("mongodb+srv://joe:hunter2@db.example/x", f"mongodb+srv://{MASK}@db.example/x"),
        (
            "https://b.s3.amazonaws.com/k?X-Amz-Date=20260101&X-Amz-Signature=0a1b2c3d4e5f",
            f"https://b.s3.amazonaws.com/k?X-Amz-Date=20260101&X-Amz-Signature={MASK}",
        ),
        ("grant=x&refresh_token=1//0gabcdef12", f"grant=x&refresh_token={MASK}"),
        ('{"refresh_token": "1//0gabcdef", "a": 1}', f'{{"refresh_token": "{MASK}", "a": 1}}'),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nrest", f"{MASK}\nrest"),
    ],
)
def test_what_has_the_shape_of_a_key_is_masked(text: str, told: str) -> None:
    assert Redactor()(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "sk-learn-and-other-long-hyphenated-words",
        "the task-20261124T083514Z-ab12cd34ef56 of a risk-assessment-2026-with-numbers",
        "a bearer of responsibilities, the bearer announcement of internationalisation",
        "train-20261124T083514Z-9f3c ended; 15,037 tokens, token=5, tokens_per_s=41.1",
        "key = ctx.secret(name)  # api_key=settings.text(name)",
        "http://127.0.0.1:8080/v1 and user@example.com and https://user@host/path",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        'File "x.py", line 3, in refresh_token\n    raise ValueError("no refresh_token")',
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert Redactor(["sk-something-else"])(text) == text


@pytest.mark.parametrize("folder", ["docs", "assets/prompts", "bitnet_core", "bitnet_tui"])
def test_our_own_texts_are_left_alone(folder: str) -> None:
    redact = Redactor()
    for path in (Path(__file__).parents[2] / folder).rglob("*"):
        if path.suffix in (".md", ".txt", ".py", ".env"):
            text = path.read_text(encoding="utf-8")
            if path.name != "redaction.py":
                assert redact(text) == text, path


def test_a_short_value_masks_nothing_and_lines_of_a_long_one_are_masked_too() -> None:
    document = "first line of it, long\nsecond line, as long"
    redact = Redactor(["abc", document])
    assert redact("abc, and second line, as long") == f"abc, and {MASK}"


def test_a_tree_is_masked_in_keys_and_values() -> None:
    value = {"sk-secret": ["a sk-secret", 1, None, ("sk-secret",)]}
    assert Redactor(["sk-secret"]).tree(value) == {MASK: [f"a {MASK}", 1, None, (MASK,)]}
