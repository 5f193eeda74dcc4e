"""The playground's prompts and answers in this session, and what is known of its two sides."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bitnet_core.text import finite
from bitnet_tui.services.playing import Who
from bitnet_tui.view.play.answers import SIDES, Answer, Asked, Exchange, folded, tokens_of

MOST_CANDIDATES = 20
_MOST_EXCHANGES = 200


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float

    def at_most(self, asked: Asked) -> float:
        """The most that one answer costs, as collecting reckons: each byte a token, and what a template adds."""
        prompt = sum(len(one["content"].encode(errors="replace")) + 32 for one in asked.messages) + 128
        return (prompt * self.input + asked.length * self.output) / 1e6


@dataclass(frozen=True)
class Side:
    """A model and its process. `state` "closed": it is opened when it is asked next."""

    state: str = "closed"
    name: str = ""
    where: str = ""
    logprobs: str = ""
    bits: int | str | None = None
    price: Price | None = None
    note: str = ""
    problem: str = ""


@dataclass
class Session:
    """All that was asked since the app was started; `shown` is the place of the exchange on the screen."""

    exchanges: list[Exchange] = field(default_factory=list)
    shown: int = -1
    sides: dict[Who, Side] = field(default_factory=lambda: {who: Side() for who in SIDES})
    dropped: int = 0
    """How many of the oldest exchanges are gone."""

    @property
    def exchange(self) -> Exchange | None:
        return self.exchanges[self.shown] if self.exchanges else None

    @property
    def busy_answering(self) -> bool:
        return any(one.active for one in self.exchanges[-1:])

    @property
    def busy(self) -> bool:
        """Whether something may still be told: a side opens or answers, or the student follows the teacher."""
        opening = any(side.state == "opening" for side in self.sides.values())
        return opening or self.busy_answering or any(one.reading for one in self.exchanges)

    @property
    def will_be_read(self) -> bool:
        """Whether the student reads the teacher's answer that is shown, or will when that is complete."""
        exchange = self.exchange
        if exchange is None or len(exchange.answers) < len(SIDES):
            return False
        comes = exchange.answers["teacher"].active and self.sides["student"].state != "closed"
        return exchange.reading or comes

    def begin(self, asked: Asked, whom: Iterable[Who]) -> dict[Who, dict[str, Any]]:
        """Add an exchange, show it, and return the request for each side that is asked."""
        self.exchanges.append(Exchange(asked, {who: Answer() for who in whom}))
        if len(self.exchanges) > _MOST_EXCHANGES:
            del self.exchanges[0]
            self.dropped += 1
        self.shown = len(self.exchanges) - 1
        return {who: _request(asked, self._id(self.shown), who) for who in self.exchanges[-1].answers}

    def stop(self) -> dict[str, int]:
        """The request that stops the newest answers."""
        return {"stop": self._id(len(self.exchanges) - 1)}

    def move(self, by: int) -> None:
        if self.exchanges:
            self.shown = max(0, min(len(self.exchanges) - 1, self.shown + by))

    def take(self, who: Who, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Take what a side has told, and return what the student is to be asked now: the way along an answer."""
        more: list[dict[str, Any]] = []
        for number, group in _by_id(events):
            if number is None:
                self._take_of_side(who, group)
                continue
            place, follows = divmod(number, 2)
            place -= self.dropped
            if not 0 <= place < len(self.exchanges):
                continue
            exchange = self.exchanges[place]
            if follows:
                told = [token for event in group if event.get("event") == "followed" for token in tokens_of(event)]
                exchange.followed = tuple(told) or exchange.followed
                exchange.reading = False
            elif who in exchange.answers:
                before = exchange.answers[who]
                after = exchange.answers[who] = folded(before, group)
                if who == "teacher" and before.active and after.state == "ended" and after.tokens:
                    more += self._along(place)
        return more

    def closed(self, who: Who, problem: str = "") -> None:
        """A side has ended, or can't be opened; what it was answering has failed."""
        self.sides[who] = replace(self.sides[who], state="closed", note="", problem=problem)
        self._failed(who, problem)

    def _failed(self, who: Who, problem: str) -> None:
        for exchange in self.exchanges:
            if who == "student":
                exchange.reading = False
            if who in exchange.answers:
                exchange.answers[who] = exchange.answers[who].failed(problem)

    def _take_of_side(self, who: Who, events: list[dict[str, Any]]) -> None:
        for event in events:
            kind = event.get("event")
            if kind == "side":
                self.sides[who] = _side(event)
            elif kind == "note":
                self.sides[who] = replace(self.sides[who], note=str(event.get("text", "")))
            elif kind == "error":  # of a request that it could not read
                self._failed(who, str(event.get("problem", "")))
            elif kind == "gone":
                self.closed(who, str(event.get("problem", "")))

    def _along(self, place: int) -> list[dict[str, Any]]:
        """The request for the student's candidates along the teacher's answer, if the student was asked too."""
        exchange = self.exchanges[place]
        text = exchange.answers["teacher"].text
        if "student" not in exchange.answers or self.sides["student"].state == "closed" or not text:
            return []
        exchange.reading = True
        return [_request(exchange.asked, self._id(place) + 1, "student") | {"follow": text}]

    def _id(self, place: int) -> int:
        return 2 * (place + self.dropped)


def _request(asked: Asked, number: int, who: Who) -> dict[str, Any]:
    bits = {"bits": asked.bits} if who == "student" and asked.bits is not None else {}
    return {
        "id": number,
        "messages": asked.messages,
        "max_tokens": asked.length,
        "temperature": asked.temperature,
        "seed": asked.seed,
        "top": MOST_CANDIDATES,
        **bits,
    }


def _side(event: Mapping[str, Any]) -> Side:
    told, bits = event.get("price"), event.get("bits")
    prices = [finite(told.get(name)) for name in ("input", "output")] if isinstance(told, dict) else []
    priced = len(prices) == 2 and prices[0] is not None and prices[1] is not None
    return Side(
        "open",
        str(event.get("name", "")),
        str(event.get("where", "")),
        str(event.get("logprobs", "")),
        bits if isinstance(bits, int | str) else None,
        Price(prices[0] or 0.0, prices[1] or 0.0) if priced else None,
    )


def _by_id(events: list[dict[str, Any]]) -> list[tuple[int | None, list[dict[str, Any]]]]:
    """Neighbours of one request together; those of none are about the side."""
    groups: list[tuple[int | None, list[dict[str, Any]]]] = []
    for event in events:
        found = event.get("id")
        number = found if isinstance(found, int) else None
        if groups and groups[-1][0] == number:
            groups[-1][1].append(event)
        else:
            groups.append((number, [event]))
    return groups
