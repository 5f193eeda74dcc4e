"""The redactor: keys are masked in every encoding, shapes of keys are masked, and ordinary text is left alone."""

import base64
import html
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.secrets.redaction import MASK, Redactor

_BODY = "aB3dE5fG7hI9jK1lM3nO5pQ7"


@given(st.lists(st.text(min_size=6, max_size=30), max_size=4), st.text())
def test_no_simple_encoding_of_a_secret_survives(values: list[str], around: str) -> None:
    redact = Redactor(values)
    for value in values:
        encoded = [value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]]
        encoded += [quote(value, safe="", errors="replace"), quote_plus(value, errors="replace")]
        for text in encoded:
            assert text not in redact(f"{around}<{text}>{around}") or text in MASK


KEY = "sk-canary/ü\"7f3a91c2+no&body='else\\has <this> 🔑"
_LETTERS = "sk-Canary_0123456789-ABCDEFGHIJKLMNOPQRSTUVWXYZ-abcdefghijklmnopqrstuvwxyz-0123"


_ENCODINGS: dict[str, Callable[[str], str]] = {
    "url, slash kept": quote,
    "url": lambda key: quote(key, safe=""),
    "url, small letters": lambda key: "%".join(
        part[:2].lower() + part[2:] if number else part for number, part in enumerate(quote(key, safe="").split("%"))
    ),
    "url twice": lambda key: quote(quote(key, safe=""), safe=""),
    "url three times": lambda key: quote(quote(quote_plus(key))),
    "json": json.dumps,
    "json, raw letters": lambda key: json.dumps(key, ensure_ascii=False),
    "json, slash escaped": lambda key: json.dumps(key).replace("/", "\\/"),
    "json, large hexadecimal": lambda key: json.dumps(key).replace("\\u00fc", "\\u00FC").replace("\\ud", "\\uD"),
    "json, safe in html": lambda key: json.dumps(key).replace("&", "\\u0026").replace("<", "\\u003c"),
    "json in json": lambda key: json.dumps(json.dumps({"key": key})),
    "json in json in json": lambda key: json.dumps(json.dumps(json.dumps(key))),
    "html": html.escape,
    "html, numbers": lambda key: "".join(c if c.isalnum() and c.isascii() else f"&#{ord(c)};" for c in key),
    "html, hexadecimal": lambda key: "".join(c if c.isalnum() and c.isascii() else f"&#x{ord(c):X};" for c in key),
    "html twice": lambda key: html.escape(html.escape(key)),
    "repr": repr,
    "repr of bytes": lambda key: repr(key.encode()),
    "ascii": ascii,
    "in a shell": lambda key: "".join(c if c.isalnum() else f"\\{c}" for c in key),
    "large letters": str.upper,
    "small letters": str.lower,
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 of user:key": lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
    "base64 of u:key": lambda key: base64.b64encode(f"u:{key}".encode()).decode(),
    "base64 in a document": lambda key: base64.b64encode(f"a document with {key} in it".encode()).decode(),
    "base64 for addresses": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
    "base64 in an address": lambda key: quote(base64.b64encode(key.encode()).decode(), safe=""),
    "base64 in lines": lambda key: base64.encodebytes(f"user:{key}".encode()).decode(),
    "wrapped": lambda key: f"{key[:9]}\n{key[9:14]}\r\n{key[14:]}",
}


def _parts(key: str) -> list[str]:
    """Every six letters of the key, and their base64, in lower case."""
    cuts = [key[at : at + 6] for at in range(len(key) - 5)]
    whole = [base64.b64encode(cut.encode())[:7].decode() for cut in cuts]
    return [part.lower() for part in (*cuts, *whole)]


@pytest.mark.parametrize("encoding", _ENCODINGS)
@pytest.mark.parametrize("key", [KEY, _LETTERS], ids=["signs", "letters"])
def test_an_ordinary_encoding_hides_no_key(encoding: str, key: str) -> None:
    encoded = _ENCODINGS[encoding](key)
    masked = Redactor([key])(f"it says {encoded} here")
    assert masked.startswith("it says ")
    assert masked.endswith(" here")
    assert MASK in masked
    for part in _parts(key):
        assert part not in masked.lower()


@given(st.text(min_size=6, max_size=24), st.sampled_from(sorted(set(_ENCODINGS) - {"large letters"})))
def test_no_encoding_of_any_key_survives(key: str, encoding: str) -> None:
    encoded = _ENCODINGS[encoding](key)
    if len(key.strip()) >= 6 and not encoding.startswith("base64") and encoding not in ("wrapped", "small letters"):
        masked = Redactor([key]).mask_known(f"<<{encoded}>>")
        assert encoded not in masked or encoded in MASK


@pytest.mark.parametrize("signs", ["\\", "\n", '\\"', "&", "%", "%25", " ", "+"])
def test_a_key_of_repeated_signs_is_searched_in_linear_time(signs: str) -> None:
    """A sign that may be escaped by others of its kind must not lead to exponential backtracking."""
    key, text = f"a1b2c{signs * 20}end", f"a1b2c{signs * 2000}no"
    redact = Redactor([key])
    assert redact(text) == text
    assert redact.cut_off_at_end(text) == 0
    assert redact(f"<{key}>") == f"<{MASK}>"
    assert redact(json.dumps([key])) == json.dumps([MASK], ensure_ascii=False)


@pytest.mark.parametrize("key", ["!pass word&x9", "\\!pass word", "/pass/word/9"])
@pytest.mark.parametrize("slashes", [1, 3, 8, 20])
def test_backslashes_before_a_key_hide_none_of_it(key: str, slashes: int) -> None:
    masked = Redactor([key])(f"a{chr(92) * slashes}{key} and {chr(92) * slashes}x{ord(key[0]):02x}{key[1:]}")
    assert "word" not in masked and "pass" not in masked


def test_a_long_key_is_masked_as_a_whole_and_in_part() -> None:
    key = "".join(f"{number:04d}-" for number in range(400))
    assert set(Redactor([key])(key)) == {MASK[0]}
    assert key[600:700] not in Redactor([key])(f"a part of it: {key[256:1024]}")


def test_a_body_is_masked_and_stays_json() -> None:
    redact = Redactor([KEY, "12345678", '"quoted-key-1'])
    echoed = {"headers": {"authorization": f"Bearer {KEY}"}, "id": 12345678, "deep": [json.dumps([KEY])], "x": 1.50}
    for body in (json.dumps(echoed), json.dumps(echoed, ensure_ascii=False, indent=1)):
        masked, found = redact.mask_body(body.encode())
        assert found
        assert json.loads(masked) == {
            "headers": {"authorization": f"Bearer {MASK}"}, "id": MASK, "deep": [f'["{MASK}"]'], "x": 1.5,
        }  # fmt: skip
    assert json.loads(redact.mask_body(b'{"a": ["quoted-key-1", 2]}')[0]) == {"a": ["quoted-key-1", 2]}
    assert redact.mask_body(f'data: {{"a": "{KEY[:10]}"}}\n'.encode())[1] is False
    streamed, found = redact.mask_body(b'data: {"a": "x 12345678 y"}\n\ndata: [DONE]\n\xff')
    assert (streamed, found) == (f'data: {{"a": "x {MASK} y"}}\n\ndata: [DONE]\n'.encode() + b"\xff", True)


def test_a_body_without_a_known_key_is_returned_as_it_is() -> None:
    body = json.dumps({"text": f"use sk-proj-{_BODY} or Bearer {_BODY}"}).encode()
    masked, found = Redactor([KEY]).mask_body(body)
    assert masked is body
    assert not found


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("it is sk-can", "sk-can"),
        ("it is sk-canary%2", "sk-canary%2"),
        ("it is sk-canary/\\u00f", "sk-canary/\\u00f"),
        ("it is sk-canary/&uum", "sk-canary/&uum"),
        ("sk-can and more", ""),
        ("that is all of it\n", ""),
        ("tasks\n", ""),
        ("it is sk-canary\n", "sk-canary\n"),
        (f"it is {KEY}", ""),
        (base64.b64encode(f"a:{KEY}".encode()).decode()[:12], base64.b64encode(f"a:{KEY}".encode()).decode()[3:12]),
    ],
)
def test_the_beginning_of_a_key_at_the_end_is_recognised(text: str, held: str) -> None:
    cut_off = Redactor([KEY]).cut_off_at_end(text)
    assert text[len(text) - cut_off :] == held


@pytest.mark.parametrize("encoding", _ENCODINGS)
def test_a_text_cut_anywhere_in_a_key_is_masked(encoding: str) -> None:
    redact = Redactor([KEY])
    encoded = _ENCODINGS[encoding](KEY)
    for cut in range(1, len(encoded), 2):
        first = f"it says {encoded[:cut]}"
        kept = len(first) - redact.cut_off_at_end(first)
        masked = redact.mask_known(first[:kept]) + redact.mask_known(f"{first[kept:]}{encoded[cut:]} here")
        assert MASK in masked
        assert not [part for part in _parts(KEY) if part in masked.lower()]


@given(st.text(min_size=6), st.text())
def test_masking_twice_changes_nothing_more(value: str, around: str) -> None:
    redact = Redactor([value])
    once = redact(f"{around}{value} Authorization: Bearer {_BODY} {around}")
    if value not in once:
        assert redact(once) == once


@pytest.mark.parametrize(
    ("text", "masked"),
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
        ("x-api-key: 0123456789ab", f"x-api-key: {MASK}"),
        ("{'x-api-key': '0123456789ab', 'a': 1}", f"{{'x-api-key': '{MASK}', 'a': 1}}"),
        ("[(b'x-goog-api-key', b'0123456789ab')]", f"[(b'x-goog-api-key', b'{MASK}')]"),
        ('{"api-key": "0123456789ab"}', f'{{"api-key": "{MASK}"}}'),
        (f"('authorization', 'Basic {_BODY}')", f"('authorization', 'Basic {MASK}')"),
        ("proxy says Basic dXNlcjpodW50ZXIy=", f"proxy says Basic {MASK}"),
        ("GET /v1beta/models?key=0a1b2c3d&x=1", f"GET /v1beta/models?key={MASK}&x=1"),
        ("https://h/p?a=1&token=0a1b2c3d4e", f"https://h/p?a=1&token={MASK}"),
        ("login with password=hunter2, please", f"login with password={MASK}, please"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nrest", f"{MASK}\nrest"),
    ],
)
def test_what_has_the_shape_of_a_key_is_masked(text: str, masked: str) -> None:
    assert Redactor()(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "sk-learn-and-other-long-hyphenated-words",
        "the task-20261124T083514Z-ab12cd34ef56 of a risk-assessment-2026-with-numbers",
        "a bearer of responsibilities, the bearer announcement of internationalisation",
        "train-20261124T083514Z-9f3c ended; 15,037 tokens, token=5, tokens_per_s=41.1",
        "basic responsibilities, a basic understanding of internationalisation",
        "authorization: see the next chapter; password=settings.text(name), password=None",
        "which key? token: 5; ?page=12345678",
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
    document = "first line of it, long\nsecond\nthird"
    redact = Redactor(["abc", document])
    assert redact("abc, and second, and third") == f"abc, and {MASK}, and third"


def test_a_tree_is_masked_in_keys_and_values() -> None:
    value = {"sk-secret": ["a sk-secret", 1, None, ("sk-secret",)]}
    assert Redactor(["sk-secret"]).tree(value) == {MASK: [f"a {MASK}", 1, None, (MASK,)]}
