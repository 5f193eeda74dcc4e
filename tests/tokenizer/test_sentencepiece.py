"""SentencePiece vocabularies: every text comes back byte for byte, cut as the library itself cuts it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bitnet_core.tokenizer.student import StudentTokenizer
from tests.tokenizer.vocabularies import PLAIN, UNIGRAM, texts
from tests.traces.samples import small_tokenizer


@given(texts)
def test_every_text_comes_back_byte_for_byte(mistral: StudentTokenizer, text: str) -> None:
    for tokenizer in (mistral, UNIGRAM, small_tokenizer()):
        ids = tokenizer.encode_plain(text)
        assert b"".join(map(tokenizer.text_bytes, ids)) == text.encode(), tokenizer.name


@given(st.binary(max_size=30))
def test_bytes_that_are_not_text_come_back_too(mistral: StudentTokenizer, data: bytes) -> None:
    for tokenizer in (mistral, UNIGRAM):
        assert b"".join(map(tokenizer.text_bytes, tokenizer.encode_bytes(data))) == data


def test_text_is_cut_as_sentencepiece_cuts_it(mistral: StudentTokenizer, sentencepiece_model: Path) -> None:
    """A completion is cut as the library cuts it behind a newline."""
    from sentencepiece import SentencePieceProcessor

    own = SentencePieceProcessor(model_file=str(sentencepiece_model))
    for text in ("The rain in Spain.", " the café 東京 🌧\n\n  x", '{"a": [1, 2]}', "a  b   c\td"):
        whole = own.encode("\n" + text)
        assert mistral.encode_plain(text) == whole[len(own.encode("\n")) :]
        assert mistral.encode(text) == own.encode(text)


def test_a_character_changed_by_a_normaliser_leaves_the_rest_of_the_cut_alone() -> None:
    whole = json.loads(small_tokenizer()._tokenizer.to_str()) | {"normalizer": {"type": "NFC"}}
    composing = StudentTokenizer(
        Tokenizer.from_str(json.dumps(whole)), special_tokens={"eos_token": "<|im_end|>"}, template=PLAIN, name="nfc"
    )
    before, after = "the rains explain  there\n\n 1 22 then", " these plains there"
    ids = composing.encode_plain(f"{before} e\u0301{after}")
    assert b"".join(map(composing.text_bytes, ids)) == f"{before} e\u0301{after}".encode()
    cut, tail = composing.encode_plain(before), composing.encode_plain(after)
    assert ids[: len(cut)] == cut
    assert ids[-len(tail) :] == tail
    assert cut == small_tokenizer().encode_plain(before)


@pytest.mark.parametrize("spelling", ["</s>", "<unk>"])
@pytest.mark.parametrize("special", [True, False])
def test_an_end_token_spelled_in_a_text_is_text(spelling: str, special: bool) -> None:
    whole = json.loads(UNIGRAM._tokenizer.to_str())
    for token in whole["added_tokens"]:
        token["special"] = special
    tokenizer = StudentTokenizer(
        Tokenizer.from_str(json.dumps(whole)), special_tokens={"eos_token": "</s>"}, template=PLAIN, name="ends"
    )
    text = f"the{spelling} rain{spelling}"
    ids = tokenizer.encode_plain(text)
    assert tokenizer.eos_id not in ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([*ids, tokenizer.eos_id]) == text
