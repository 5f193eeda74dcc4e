"""How servers write tokens: which texts are not text but names, and how other alphabets are read as bytes. Pure.

Tokens that end a text or a turn, or pad one, have names in every vocabulary, and many servers send the name in place
of the token: ChatML and Qwen `<|im_end|>`, Llama 3 `<|eot_id|>`, GPT-2 `<|endoftext|>`, Llama 2 and Mistral
`</s>` and `[/INST]`, Gemma `<end_of_turn>` and `<unused7>`, DeepSeek `<｜end▁of▁sentence｜>`, T5 `<extra_id_0>`, BERT
`[SEP]` (each from the model's tokenizer_config.json). The list is closed: `<div>` is ordinary HTML.
"""

import itertools
import re
import weakref

import numpy as np
import numpy.typing as npt

from bitnet_core.tokenizer.steps import TokenTable
from bitnet_core.tokenizer.token_bytes import byte_level_bytes

_SPECIAL = re.compile(
    r"<\|[^\s<>|]{1,48}\|>|<｜[^\s<>｜]{1,48}｜>"
    r"|</?s>|<(?:pad|unk|bos|eos|eod|eop|eot|sep|cls|mask|end_of_text|end_of_utterance|(?:start|end)_of_turn)>"
    r"|<(?:unused|extra_id_|SPECIAL_)\d{1,5}>"
    r"|\[(?:PAD|UNK|BOS|EOS|SEP|CLS|MASK|/?INST|/?SYSTEM_PROMPT)\]"
)
_LOST = "\ufffd".encode()
_LOST_CHARACTERS = re.compile("[\ufffd\ud800-\udfff]")
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_ID_FOR_TEXT = re.compile(r"token_id:\d+")

TEXT, SPECIAL, HALF, EMPTY = range(4)
"""Text; the name of a special token; half a character whose bytes are lost; no bytes and no id."""

_kinds: weakref.WeakKeyDictionary[TokenTable, npt.NDArray[np.int8]] = weakref.WeakKeyDictionary()


def kinds(table: TokenTable) -> npt.NDArray[np.int8]:
    """The kind of each token in the table, int8 [V + 1]; one more at the end, so that -1 (no token) is text.

    It depends on the token alone, never on what else was read: a shard must depend on nothing but its answers.
    """
    known = _kinds.get(table)
    if known is None:
        known = np.zeros(1, np.int8)
    wanted = len(table)
    if len(known) <= wanted:
        fresh = [_kind(table.ids[number], table.spellings[number]) for number in range(len(known) - 1, wanted)]
        known = np.concatenate([known[:-1], np.array([*fresh, TEXT], np.int8)])
        _kinds[table] = known
    return known


def _kind(index: int, data: bytes) -> int:
    if not data:
        return EMPTY if index < 0 else TEXT
    if _LOST in data:
        return HALF
    return SPECIAL if is_special(data.decode("utf-8", errors="replace")) else TEXT


def is_special(token: str) -> bool:
    """Whether this is a listed name of an end, a turn or a pad."""
    return _SPECIAL.fullmatch(token) is not None


def looks_special(token: str) -> bool:
    """Whether it might be a name in an unknown vocabulary; for a token that the text proves not to be text."""
    return len(token) > 2 and (token[0], token[-1]) in (("<", ">"), ("[", "]"))


def text_bytes(token: str) -> bytes:
    """The bytes of a token that comes without them; half a surrogate pair becomes U+FFFD, like half a character."""
    return token.encode("utf-16-le", errors="surrogatepass").decode("utf-16-le", errors="replace").encode()


def raw_spelling(token: str) -> bytes | None:
    """The bytes of a token in the alphabet of byte-level BPE (`Ġthe`); None if it has other characters."""
    if is_special(token):
        return token.encode()
    return byte_level_bytes(token)


def piece_spelling(token: str) -> bytes | None:
    """The bytes of a SentencePiece piece (`▁the`, `<0xE2>`)."""
    if is_special(token):
        return token.encode()
    byte = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else text_bytes(token.replace("▁", " "))


def contradicts(token: str, data: bytes) -> bool:
    """Whether a token's text and its bytes are those of two tokens.

    They are not if one is a name, an escape or another alphabet's spelling, or if the text has lost half a character.
    """
    shown = data.decode("utf-8", errors="replace")
    if token == shown or not data:
        return False
    if looks_special(token) or looks_special(shown) or _ID_FOR_TEXT.fullmatch(token) or "\\" in token:
        return False
    kept = _LOST_CHARACTERS.sub("", token)
    if not kept or kept == _LOST_CHARACTERS.sub("", data.decode("utf-8", errors="ignore")):
        return False
    return data not in (text_bytes(token), raw_spelling(token), piece_spelling(token))


def one_token(first: bytes, second: bytes) -> bool:
    """Whether two spellings can be those of one token.

    Blanks may depend on the place, a special token has several names, half a character may be lost, and llama.cpp
    puts bytes that it held back before a token's own.
    """
    if first.strip() == second.strip() or not (_is_plain(first) and _is_plain(second)):
        return True
    alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(reversed(first), reversed(second), strict=False))
    return any(0x80 <= byte < 0xC0 for byte, _ in alike)  # a character goes on with such a byte


def _is_plain(data: bytes) -> bool:
    """Whether these bytes are text beyond doubt."""
    shown = data.decode("utf-8", errors="replace")
    return bool(shown) and "\ufffd" not in shown and not looks_special(shown)
