"""The ways in which a known key may be written: one pattern for each, made when something like it is met.

Letters and digits stand for themselves in every encoding, so their longest run tells at once that a text holds no
spelling of a key; the patterns see only what is left.
"""

import base64
import re
from collections.abc import Iterator
from functools import cached_property, lru_cache
from html.entities import codepoint2name

SHORTEST = 6
_PIECE = 256
"""A longer text is looked for in pieces of this size: part of it is a secret too, and patterns stay small."""
_LEAST_BASE64 = 12
_RUN = re.compile(r"[A-Za-z0-9]+")
_LONGEST_TOKEN = 40
"""A letter of four bytes, percent-encoded three times, has 28 characters."""
_ESCAPE_BEGUN = re.compile(r"%[%\da-f]*|\\[\\\da-fuxn]*|&(?:amp;)*#?\w*", re.IGNORECASE)
_TELLING = 4
"""So many characters before a line end are a beginning; fewer are an ordinary end of a line."""
_LINE_END = r"(?:\r?\n)?"
_LETTER_ESCAPES = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}


class Spelling:
    """One text in all spellings that `tokens` allow, a token for each of its characters."""

    def __init__(self, text: str, *, exact: bool = False) -> None:
        self.text = text
        self.exact = exact
        run = max(_RUN.findall(text), key=len, default="")
        self.probe = run if exact else run.lower()
        """Stands in whatever holds this (in small letters unless `exact`); empty = look with the pattern."""
        self.probes = {run} if exact else {run, run.lower(), run.upper()}
        self._flags = 0 if exact else re.IGNORECASE

    @property
    def length(self) -> int:
        return len(self.text)

    @cached_property
    def _tokens(self) -> list[str]:
        tokens = []
        before = "\n"
        for char in self.text:
            token = _base64_token(char) if self.exact else _token(char)
            if char == before == "\\":
                token = ""  # the one before takes any number; two would share them out in every way
            elif not {before, char} & {"\r", "\n"}:
                token = _LINE_END + token
            tokens.append(token)
            before = char
        return tokens

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        whole = "".join(self._tokens)
        # At either end of base64 a letter holds part of the key and part of what stands beside it.
        return re.compile(rf"[\w+/-]?{whole}[\w+/-]?=*" if self.exact else whole, self._flags)

    @cached_property
    def _beginning(self) -> re.Pattern[str]:
        first_line = self.text.find("\n") + 1 or _TELLING
        return re.compile("".join(self._tokens[: min(first_line, _TELLING)]), self._flags)

    def begun(self, text: str) -> int:
        """How many characters at the end of `text` may be the beginning of this."""
        tail = text[-_LONGEST_TOKEN * self.length :]
        if tail.endswith(("\n", "\r")):
            starts: Iterator[int] = (found.start() for found in self._beginning.finditer(tail))
        else:
            starts = iter(range(len(tail)))
        return next((len(tail) - start for start in starts if self._goes_on(tail, start)), 0)

    def _goes_on(self, text: str, at: int) -> bool:
        """Whether `text` ends, from `at` on, before this does."""
        for char, token in zip(self.text, self._tokens, strict=True):
            rest = text[at:] if len(text) - at < _LONGEST_TOKEN else None
            if rest is not None:
                escaped = not _RUN.fullmatch(char) and _ESCAPE_BEGUN.fullmatch(rest)
                if escaped or rest in ("", "\n", "\r", "\r\n"):
                    return True
            found = _compiled(token, self._flags).match(text, at)
            if found is None:
                return False
            at = found.end()
        return False


def spellings(value: str) -> list[Spelling]:
    """Every spelling of a key, of the lines of one that has several, and of the pieces of a long one."""
    found = []
    for text in _texts(value):
        found.append(Spelling(text))
        found += [Spelling(core, exact=True) for core in _base64_cores(text)]
    return found


def _texts(value: str) -> list[str]:
    whole = value.strip() if len(value.strip()) >= SHORTEST else value
    lines = [line.strip() for line in value.splitlines()] if len(value.splitlines()) > 1 else []
    pieces = []
    for text in (whole, *lines):
        cuts = range(0, max(1, len(text) - SHORTEST), _PIECE)
        pieces += [text[cut : cut + _PIECE if cut != cuts[-1] else None] for cut in cuts]
    return sorted({piece for piece in pieces if len(piece) >= SHORTEST}, key=len, reverse=True)


def _base64_cores(text: str) -> Iterator[str]:
    """The letters that stand in base64 whatever stands before and after; `user:key` moves it by a byte or two."""
    data = text.encode("utf-8", "surrogatepass")
    for offset in range(3):
        letters = base64.b64encode(bytes(offset) + data).decode()
        core = letters[-(-offset * 8 // 6) : (offset + len(data)) * 8 // 6]
        if len(core) >= _LEAST_BASE64:
            yield core


@lru_cache(maxsize=4096)
def _compiled(token: str, flags: int) -> re.Pattern[str]:
    return re.compile(token, flags)


@lru_cache(maxsize=1024)
def _token(char: str) -> str:
    """A character as it is; percent-encoded, once or more; escaped as in JSON, Python or a shell; an HTML entity."""
    code = ord(char)
    if char.isascii() and char.isalnum():
        return char
    data = char.encode("utf-8", "surrogatepass")
    name = codepoint2name.get(code)
    entities = [f"#0*{code}", f"#x0*{code:x}", *([name] if name else []), *(["apos"] if char == "'" else [])]
    ways = [
        f"&(?:amp;)*(?:{'|'.join(entities)});",
        "".join(f"%(?:25)*{byte:02x}" for byte in data),
        "".join(rf"\\+x{byte:02x}" for byte in data),
        rf"\\+U{code:08x}",
    ]
    if code < 0x100:
        ways += [rf"\\+x{code:02x}", f"%(?:25)*{code:02x}"]
    units = char.encode("utf-16-be", "surrogatepass")
    ways.append("".join(rf"\\+u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)))
    if char in _LETTER_ESCAPES:
        ways.append(rf"\\+{_LETTER_ESCAPES[char]}")
    if char == "\n":
        ways += [r"\\+r\\+n", "%(?:25)*0d%(?:25)*0a", r"\r\n"]
    if char == " ":
        ways += [r"\+", "%(?:25)*2b"]
    ways.append(r"\\+" if char == "\\" else r"\\{0,8}" + re.escape(char))
    return f"(?:{'|'.join(dict.fromkeys(ways))})"


def _base64_token(char: str) -> str:
    return {"+": r"(?:[+-]|%(?:25)*2[bB])", "/": r"(?:\\*/|_|%(?:25)*2[fF])"}.get(char, char)
