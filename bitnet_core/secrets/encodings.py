"""How a known key may be written in a text: one pattern per key that matches it in every encoding.

Covered are percent-encoding, escapes of JSON, Python and shells, HTML entities (each also applied several times),
base64, other case, and line breaks inside the key. Letters and digits look the same in all of these but base64, so
a text without the key's longest run of them can't hold the key, and the pattern is not even tried on it.
"""

import base64
import re
from collections.abc import Iterator
from functools import cached_property, lru_cache

SHORTEST_KEY = 6
"""A shorter value is not masked inside a text: it would be found by chance."""
_PIECE = 256
"""A longer key is looked for in pieces of this size: a part of it is secret too, and patterns stay small."""
_SHORTEST_BASE64 = 12
_ALPHANUMERIC = re.compile(r"[A-Za-z0-9]+")
_LONGEST_TOKEN = 40
"""At least as long as any encoding of one character: four bytes, percent-encoded three times, are 28 characters."""
_UNFINISHED_ESCAPE = re.compile(r"%[%\da-f]*|\\[\\\da-fuxn]*|&(?:amp;)*#?\w*", re.IGNORECASE)
_BEGINNING = 4
"""At least this many characters before a line end count as the beginning of a key; fewer may be chance."""
_LINE_BREAK = r"(?:\r?\n)?"
_LETTER_ESCAPES = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}


class KeyPattern:
    """Finds one text in any encoding. Its regular expression is a sequence of tokens, one for each character.

    With `exact` the text is base64 of a key: case counts, and only the encodings of `+` and `/` vary.
    """

    def __init__(self, text: str, *, exact: bool = False) -> None:
        self.text = text
        self.exact = exact
        run = max(_ALPHANUMERIC.findall(text), key=len, default="")
        self.probe = run if exact else run.lower()
        """Part of any text that holds the key (lower case unless `exact`); empty = only the pattern can tell."""
        self.probes = {run} if exact else {run, run.lower(), run.upper()}
        self._flags = 0 if exact else re.IGNORECASE

    @cached_property
    def _tokens(self) -> list[str]:
        tokens: list[str] = []
        before = "\n"
        for char in self.text:
            token = _base64_token(char) if self.exact else _token(char)
            if not tokens:
                # From the first backslash of a run only: from each of them, the time would grow with their square.
                token = token.replace(r"\\++", r"(?<!\\)\\++").replace(r"\\*", r"(?:(?<!\\)\\*+)?")
            elif before == "\\":
                token = token.replace(r"\\++", r"\\*+")  # the token before has taken all of them
            if char == before == "\\":
                token = ""  # two would try every way of sharing them out
            elif not {before, char} & {"\r", "\n"}:
                token = _LINE_BREAK + token
            tokens.append(token)
            before = char
        return tokens

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches the whole key."""
        whole = "".join(self._tokens)
        # The first and last letter of base64 may encode bits of both the key and its neighbour.
        return re.compile(rf"[\w+/-]?{whole}[\w+/-]?=*" if self.exact else whole, self._flags)

    @cached_property
    def _beginning(self) -> re.Pattern[str]:
        first_line = self.text.find("\n") + 1 or _BEGINNING
        return re.compile("".join(self._tokens[: min(first_line, _BEGINNING)]), self._flags)

    def cut_off_at_end(self, text: str) -> int:
        """How many characters at the end of `text` may be the beginning of the key; 0 = none."""
        tail = text[-_LONGEST_TOKEN * len(self.text) :]
        if tail.endswith(("\n", "\r")):
            starts: Iterator[int] = (found.start() for found in self._beginning.finditer(tail))
        else:
            starts = iter(range(len(tail)))
        return next((len(tail) - start for start in starts if self._goes_on(tail, start)), 0)

    def _goes_on(self, text: str, at: int) -> bool:
        """Whether the key may begin at `at` and end after the end of `text`."""
        for char, token in zip(self.text, self._tokens, strict=True):
            rest = text[at:] if len(text) - at < _LONGEST_TOKEN else None
            if rest is not None:
                escaped = not _ALPHANUMERIC.fullmatch(char) and _UNFINISHED_ESCAPE.fullmatch(rest)
                if escaped or rest in ("", "\n", "\r", "\r\n"):
                    return True
            found = _compiled(token, self._flags).match(text, at)
            if found is None:
                return False
            at = found.end()
        return False


def key_patterns(key: str) -> list[KeyPattern]:
    """Patterns for a key, for each line of one with several lines, and for the pieces of a long one."""
    found = []
    for text in _texts(key):
        found.append(KeyPattern(text))
        found += [KeyPattern(core, exact=True) for core in _base64_cores(text)]
    return found


def _texts(key: str) -> list[str]:
    whole = key.strip() if len(key.strip()) >= SHORTEST_KEY else key
    lines = [line.strip() for line in key.splitlines()] if len(key.splitlines()) > 1 else []
    pieces = []
    for text in (whole, *lines):
        cuts = range(0, max(1, len(text) - SHORTEST_KEY), _PIECE)
        pieces += [text[cut : cut + _PIECE if cut != cuts[-1] else None] for cut in cuts]
    return sorted({piece for piece in pieces if len(piece) >= SHORTEST_KEY}, key=len, reverse=True)


def _base64_cores(text: str) -> Iterator[str]:
    """The letters of base64 that depend on the key alone, for each of its three positions, as in `user:key`."""
    data = text.encode("utf-8", "surrogatepass")
    for offset in range(3):
        letters = base64.b64encode(bytes(offset) + data).decode()
        core = letters[-(-offset * 8 // 6) : (offset + len(data)) * 8 // 6]
        if len(core) >= _SHORTEST_BASE64:
            yield core


@lru_cache(maxsize=4096)
def _compiled(token: str, flags: int) -> re.Pattern[str]:
    return re.compile(token, flags)


@lru_cache(maxsize=1024)
def _token(char: str) -> str:
    """One character in every encoding. A repeated encoding repeats its own sign: `%25`, a backslash, `&amp;`."""
    if char.isascii() and char.isalnum():
        return char
    from html.entities import codepoint2name  # a large table, and most keys have letters and digits only

    code = ord(char)
    data = char.encode("utf-8", "surrogatepass")
    units = char.encode("utf-16-be", "surrogatepass")
    name = codepoint2name.get(code)
    entities = [f"#0*{code}", f"#x0*{code:x}", *([name] if name else [])]
    ways = [
        f"&(?:amp;)*(?:{'|'.join(entities)});",
        "".join(f"%(?:25)*{byte:02x}" for byte in data),
        "".join(rf"\\++x{byte:02x}" for byte in data),
        rf"\\++U{code:08x}",
        "".join(rf"\\++u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)),
    ]
    if code < 0x100:
        ways += [rf"\\++x{code:02x}", f"%(?:25)*{code:02x}"]
    if char in _LETTER_ESCAPES:
        ways.append(rf"\\++{_LETTER_ESCAPES[char]}")
    if char == " ":
        ways += [r"\+", "%(?:25)*2b"]
    ways.append(r"\\++" if char == "\\" else r"\\{0,8}" + re.escape(char))
    return f"(?:{'|'.join(dict.fromkeys(ways))})"


def _base64_token(char: str) -> str:
    return {"+": r"(?:[+-]|%(?:25)*2[bB])", "/": r"(?:\\*/|_|%(?:25)*2[fF])"}.get(char, char)
