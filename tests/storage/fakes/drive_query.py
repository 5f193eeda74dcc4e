"""What is in a Drive, and the search terms of its files.list."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_TOKEN = re.compile(r"\s*(?:('(?:[^'\\]|\\.)*')|(!=|<=|>=|[=<>(){}])|([A-Za-z]+))")


class Refusal(Exception):
    def __init__(self, status: int, reason: str, message: str = "") -> None:
        super().__init__(reason)
        self.status, self.reason, self.message = status, reason, message or reason


@dataclass
class File:
    id: str
    name: str
    kind: str
    parents: list[str]
    description: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    trashed: bool = False
    data: bytes = b""
    created: float = field(default_factory=time.time)
    modified: float = field(default_factory=time.time)


class Query:
    """A search term of files.list: terms with and, or, not, and parentheses."""

    def __init__(self, text: str, root: str, is_trashed: Callable[[File], bool]) -> None:
        self._root = root
        self._is_trashed = is_trashed
        self._tokens: list[str] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise Refusal(400, "invalid", f"Invalid Value {text[at:]}")
            self._tokens.append(found[0].strip())
            at = found.end()

    def parse(self) -> Callable[[File], bool]:
        fits = self._any() if self._tokens else lambda _: True
        if self._tokens:
            raise Refusal(400, "invalid", f"Invalid Value {self._tokens}")
        return fits

    def _any(self) -> Callable[[File], bool]:
        terms = [self._all()]
        while self._take("or"):
            terms.append(self._all())
        return lambda file: any(term(file) for term in terms)

    def _all(self) -> Callable[[File], bool]:
        terms = [self._term()]
        while self._take("and"):
            terms.append(self._term())
        return lambda file: all(term(file) for term in terms)

    def _term(self) -> Callable[[File], bool]:
        if self._take("not"):
            inner = self._term()
            return lambda file: not inner(file)
        if self._take("("):
            inner = self._any()
            self._need(")")
            return inner
        first = self._next()
        if first.startswith("'"):
            parent = _unquoted(first)
            self._need("in")
            self._need("parents")
            parent = self._root if parent == "root" else parent
            return lambda file: parent in file.parents
        if first == "appProperties":
            return self._property()
        operator, value = self._next(), self._next()
        if operator not in ("=", "!="):
            raise Refusal(400, "invalid", operator)
        return lambda file: (self._value(file, first) == value) is (operator == "=")

    def _property(self) -> Callable[[File], bool]:
        for word in ("has", "{", "key", "="):
            self._need(word)
        name = _unquoted(self._next())
        for word in ("and", "value", "="):
            self._need(word)
        value = _unquoted(self._next())
        self._need("}")
        return lambda file: file.properties.get(name) == value

    def _value(self, file: File, name: str) -> str:
        match name:
            case "trashed":
                return str(self._is_trashed(file)).lower()
            case "mimeType":
                return _quoted(file.kind)
            case "name":
                return _quoted(file.name)
        raise Refusal(400, "invalid", name)

    def _take(self, word: str) -> bool:
        if self._tokens[:1] == [word]:
            self._tokens.pop(0)
            return True
        return False

    def _next(self) -> str:
        if not self._tokens:
            raise Refusal(400, "invalid", "Invalid Value")
        return self._tokens.pop(0)

    def _need(self, word: str) -> None:
        if not self._take(word):
            raise Refusal(400, "invalid", f"{word} expected at {self._tokens}")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])
