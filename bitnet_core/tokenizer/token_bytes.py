"""The bytes that an entry of a vocabulary stands for, and bytes as stretches of text. Pure.

Byte-level BPE writes each byte as a visible character (GPT-2's alphabet). SentencePiece writes text with `▁` for a
space, and `<0xE2>` for a single byte.
"""

import re
from collections.abc import Callable, Iterable

from tokenizers import Tokenizer

_SPACE = "▁"
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
_NO_BYTE = 0xFFFF


def _byte_of_character() -> dict[int, int]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    table = {byte: byte for byte in printable} | {256 + shift: byte for shift, byte in enumerate(others)}
    return dict.fromkeys(others, _NO_BYTE) | table


_BYTE_OF_CHARACTER = _byte_of_character()


def byte_level_bytes(token: str) -> bytes | None:
    """Bytes of a byte-level BPE token (`Ġthe`); None for one that has characters outside its alphabet."""
    try:
        return token.translate(_BYTE_OF_CHARACTER).encode("latin-1")
    except UnicodeEncodeError:
        return None


def uses_pieces(tokenizer: Tokenizer) -> bool:
    """Whether tokens are written as SentencePiece does, rather than in the byte-level alphabet."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    return "<0x0A>" in vocabulary or (any(token.startswith(_SPACE) for token in vocabulary) and "Ġ" not in vocabulary)


def is_byte_piece(token: str) -> bool:
    return _BYTE_PIECE.fullmatch(token) is not None


def vocabulary_speller(*, pieces: bool) -> Callable[[str], bytes]:
    """How a vocabulary's ordinary tokens become bytes; `pieces`: they are written as SentencePiece does."""
    if pieces:
        return _piece_bytes
    return lambda token: token.encode() if (data := byte_level_bytes(token)) is None else data


def _piece_bytes(token: str) -> bytes:
    byte = _BYTE_PIECE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(_SPACE, " ").encode()


def utf8_stretches(data: bytes) -> Iterable[tuple[str, bytes]]:
    """Cut bytes into pairs (valid text, bytes that are not UTF-8), in order."""
    text, raw = b"", b""
    while data:
        try:
            data.decode("utf-8")
            valid, broken, data = data, b"", b""
        except UnicodeDecodeError as error:
            valid, broken, data = data[: error.start], data[error.start : error.end], data[error.end :]
        if valid and raw:
            yield text.decode("utf-8"), raw
            text, raw = b"", b""
        text, raw = text + valid, raw + broken
    if text or raw:
        yield text.decode("utf-8"), raw
