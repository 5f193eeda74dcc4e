"""One prompt with the answers of teacher and student, folded from the events of `bitnet answer`."""

import codecs
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bitnet_core.text import finite, natural
from bitnet_tui.services.playing import Who

SIDES: tuple[Who, ...] = ("teacher", "student")
MOST_CHARS = 30_000
_MOST_TOKENS = 8_192
_MOST_CANDIDATES = 50


@dataclass(frozen=True)
class Token:
    """Its exact bytes, empty for one that ends an answer; what it was worth, and the likeliest at its place."""

    data: bytes
    p: float | None
    top: tuple[tuple[bytes, float], ...]


@dataclass(frozen=True)
class Answer:
    """One side's answer as far as it is there. `usd` and `tokens_per_s` are None where they are not known."""

    state: Literal["waiting", "writing", "ended", "failed"] = "waiting"
    text: str = ""
    tokens: tuple[Token, ...] = ()
    finish: str = ""
    count: int | None = None
    tokens_per_s: float | None = None
    usd: float | None = None
    problem: str = ""

    @property
    def active(self) -> bool:
        return self.state in ("waiting", "writing")

    def failed(self, problem: str) -> "Answer":
        return replace(self, state="failed", problem=problem) if self.active else self


@dataclass(frozen=True)
class Asked:
    """A prompt and how it is to be answered. `bits` None: as the student was trained."""

    prompt: str
    system: str = ""
    temperature: float = 0.0
    length: int = 128
    seed: int = 0
    bits: int | None = None

    @property
    def messages(self) -> list[dict[str, str]]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.prompt}]


@dataclass
class Exchange:
    """A prompt, the answers so far, and the student's tokens along the teacher's answer."""

    asked: Asked
    answers: dict[Who, Answer] = field(default_factory=dict)
    followed: tuple[Token, ...] = ()
    reading: bool = False
    """Whether the student is being asked along it."""

    @property
    def active(self) -> bool:
        return any(answer.active for answer in self.answers.values())


def folded(answer: Answer, events: Iterable[Mapping[str, Any]]) -> Answer:
    """The answer after these events. What is not of the expected shape is left out."""
    texts, tokens = [answer.text], list(answer.tokens)
    changes: dict[str, Any] = {}
    for event in events:
        if not answer.active or changes.get("state") in ("ended", "failed"):
            break
        kind = event.get("event")
        if kind == "text" and isinstance(event.get("text"), str):
            texts.append(event["text"])
            changes["state"] = "writing"
        elif kind == "tokens":
            tokens += tokens_of(event)
            changes |= {"state": "writing", "count": len(tokens), "tokens_per_s": _number(event, "tokens_per_s")}
        elif kind == "end":
            changes |= {
                "state": "ended",
                "finish": str(event.get("finish_reason") or ""),
                "count": natural(event.get("tokens")),
                "tokens_per_s": _number(event, "tokens_per_s"),
                "usd": _number(event, "usd"),
            }
        elif kind == "error":
            changes |= {
                "state": "failed",
                "problem": str(event.get("problem") or "It failed without an error message."),
            }
    text = "".join(texts)[:MOST_CHARS]
    return replace(answer, text=text, tokens=tuple(tokens[:_MOST_TOKENS]), **changes)


def tokens_of(event: Mapping[str, Any]) -> list[Token]:
    """The tokens of an event, without those that are none."""
    found = event.get("tokens")
    return [_token(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def places(tokens: Iterable[Token], text: str) -> tuple[tuple[int, int], ...]:
    """Where each token is in the text, as offsets of characters: its first one, and the one behind its last.

    A token that ends within a character has all of it, one without text nothing. The tokens end where their bytes
    differ from the text: what is behind that place has none.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    found: list[tuple[int, int]] = []
    at = 0
    for token in tokens:
        piece = decoder.decode(token.data)
        if not text.startswith(piece, at):
            break
        begin, at = at, at + len(piece)
        pending = bool(decoder.getstate()[0])
        if at + pending > len(text):
            break
        found.append((begin, at + pending))
    return tuple(found)


def token_at(found: tuple[tuple[int, int], ...], offset: int) -> int | None:
    """The token that the character at this offset belongs to; the last one of several."""
    holding = [place for place, (begin, end) in enumerate(found) if begin <= offset < max(end, begin + 1)]
    return holding[-1] if holding else None


def _token(fields: Mapping[str, Any]) -> Token:
    top = fields.get("top")
    pairs = top[:_MOST_CANDIDATES] if isinstance(top, list) else []
    return Token(
        _bytes(fields.get("text")),
        _number(fields, "p"),
        tuple((_bytes(one[0]), p) for one in pairs if _is_pair(one) and (p := finite(one[1])) is not None),
    )


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str):
        return b""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character that stands for no byte
        return text.encode("utf-8", "replace")


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    return finite(fields.get(name))
