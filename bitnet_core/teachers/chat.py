"""The interface of every teacher, and the base class of those that answer over HTTP; `wire/` has their formats.

It must not know stages. A key is passed in and never shown.
"""

import contextlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypedDict, Unpack

from bitnet_core.errors import BitnetError
from bitnet_core.network.proxy import through_in_the_clear
from bitnet_core.prompts.prompt import Given
from bitnet_core.teachers.answers.body import list_of_models
from bitnet_core.teachers.answers.json_body import decode
from bitnet_core.teachers.answers.parts import whole_characters
from bitnet_core.teachers.answers.result import BadReply, ChatResult, as_bad_reply, read_checked
from bitnet_core.teachers.http.body import TooManyBytes
from bitnet_core.teachers.http.client import READ_SECONDS, WHOLE_SECONDS, JsonClient
from bitnet_core.teachers.http.error_words import words_of
from bitnet_core.teachers.http.pace import Pace
from bitnet_core.teachers.http.payload import decode_error
from bitnet_core.teachers.http.reply import Reply
from bitnet_core.teachers.http.retries import ATTEMPTS, FailedAttempt, OnRetry, StreamCut, Watch
from bitnet_core.teachers.other_address import other_address
from bitnet_core.teachers.profiles import Provider
from bitnet_core.teachers.refusals import KeyRefused, NotThere, OtherAddress, SentRequest
from bitnet_core.teachers.sampling_fields import NEUTRAL, sampling_fields, without
from bitnet_core.teachers.usage import believed
from bitnet_core.tokenizer.steps import TokenTable

_LOCAL_SECONDS = 3600.0
"""An answer may come in one piece from a slow machine of the user's own: asking again would only slow it down."""
_SLOWEST = 5.0
"""Tokens a second. Every hosted model is expected to be faster."""
_LONGEST_SECONDS = 4 * _LOCAL_SECONDS
_SHOWN = 200
_FIXED_BYTES = 1 << 20
_TOKEN_BYTES = 1 << 10
"""What a token or a candidate may take in an answer; about 100 bytes are usual, 300 in a stream."""
_KEEPS_OPEN = re.compile(r"[A-Za-z][A-Za-z _-]{0,39}")
"""An event of a word or two (`ping`, `keep-alive`) only keeps the connection open. What may be a piece of JSON, cut
or garbled, is none of these: a part of the answer would be lost without a word."""
_MOST_STRAY = 10_000

OnText = Callable[[str], None]


@dataclass(frozen=True)
class ChatRequest:
    """All that decides an answer, except the teacher. `top_logprobs` 0 requests no logprobs."""

    messages: Sequence[Mapping[str, str]]
    max_tokens: int
    temperature: float
    top_p: float
    top_logprobs: int = 0
    seed: int | None = None
    given: Given | None = None
    """The answer to score, for a teacher that can (`Provider.scores`): nothing is sampled, the tokens are its own."""
    draws: bool = False
    """Whether the candidates are `top_logprobs` draws instead of the likeliest; for a model in this process."""


class CallOptions(TypedDict, total=False):
    """How one request is made."""

    attempts: int
    """How often to send it if it fails in a way that may pass; ATTEMPTS by default."""
    on_text: OnText | None
    """If given, the answer is streamed, and each piece of text is passed to it."""
    enough: Callable[[], bool]
    """Asked at each piece of a streamed answer: if it says yes, what has come until then is the whole answer."""
    watch: Watch | None
    """Follows each sending."""
    seconds: float | None
    """Limits one attempt."""
    held: contextlib.ExitStack
    """Closed by the caller when it is done with the answer, whose bytes count as in flight until then."""
    left_out: frozenset[str]
    """The sampling fields, by their common names, that are not sent this time."""


class Chat(Protocol):
    """A teacher that can be asked."""

    provider: Provider
    model: str
    base_url: str
    """Empty for a model in this process."""

    async def chat(self, request: ChatRequest, **options: Unpack[CallOptions]) -> ChatResult:
        """Ask once.

        Raises BadReply for an answer that can't be used, PromptRefused for a prompt that is not accepted (its
        subclass ContextExceeded if it is too long), and another BitnetError for what stops every request (key, model,
        address, quota).
        """

    def requested_sampling(self, request: ChatRequest) -> Mapping[str, Any]:
        """The sampling fields as they are really sent; None for one that the server takes no value of."""

    async def models(self) -> list[str]:
        """The names of the server's models."""


class Fold(ABC):
    """Puts the events of a stream together into the body that would have come in one piece."""

    complete = False
    """Whether the server has ended the answer."""
    ends_once = True
    """Whether nothing of the answer can follow once it is complete."""

    @abstractmethod
    def add(self, event: Mapping[str, Any]) -> str:
        """Take one event and return the text that it adds."""

    @abstractmethod
    def answer_body(self) -> dict[str, Any]:
        """The whole body of the answer, before encoding."""


class HttpChat(ABC):
    """One model at one address. Use as an async context manager; safe for concurrent requests."""

    def __init__(
        self,
        provider: Provider,
        base_url: str,
        model: str,
        key: str | None,
        *,
        on_retry: OnRetry | None = None,
        first_wait: float = 0.5,
        pace: Pace | None = None,
        table: TokenTable | None = None,
        own: bool = True,
        key_name: str = "",
    ) -> None:
        """`own`: whether it is the teacher of the settings, to which TEACHER_MODEL and the like apply.

        `key_name` is the setting that has the key, if known.
        """
        self.provider = provider
        self.model = model
        self.base_url = base_url
        self.table = TokenTable() if table is None else table
        self.upstream = ""
        """Behind a router: the only one that may answer, once it is chosen."""
        named = base_url + through_in_the_clear(base_url)
        self._sent = SentRequest(provider, named, model, key, own=own, key_name=key_name)
        self.left_out: frozenset[str] = frozenset()
        """The sampling fields that this model refuses, by their common names."""
        self.explicit = False
        """Whether neutral values are sent, too: a server's own temperature would scale the logprobs."""
        self._answered = False
        """Whether the address has given a good answer before, so that it can't be wrong."""
        self.accepted: set[tuple[str, Any]] = set()
        """The sampling fields of good answers with their values, and `max_tokens`."""
        self.absurd_counts = 0
        """Answers with a count of tokens that is not believed (`usage.py`)."""
        self._http = JsonClient(
            base_url,
            self.headers(key) if key else {},
            read_seconds=_LOCAL_SECONDS if provider.local else READ_SECONDS,
            whole_seconds=_LONGEST_SECONDS if provider.local else WHOLE_SECONDS,
            on_retry=on_retry,
            first_wait=first_wait,
            pace=pace,
        )

    async def __aenter__(self) -> "HttpChat":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    # -- what a wire format defines ----------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def headers(key: str) -> dict[str, str]:
        """How the key is sent."""

    @abstractmethod
    def path(self, *, stream: bool) -> str: ...

    @abstractmethod
    def request_body(self, request: ChatRequest, *, stream: bool = False) -> dict[str, Any]:
        """The body of a request, before encoding."""

    def answer_of(self, body: bytes, _request: ChatRequest) -> bytes:
        """The body to read and keep: what was received, unless the answer was given. Raises BadReply."""
        return body

    @staticmethod
    @abstractmethod
    def read_body(body: bytes, table: TokenTable | None) -> ChatResult:
        """The result in a body; without a `table`, its text alone. See `read_answer`.

        Raises BadReply, or anything else for an unknown shape.
        """

    fold: type[Fold]
    """Puts together a stream in this format."""
    models_path = "/models"

    # -- asking ------------------------------------------------------------------------------------------

    @classmethod
    def read_answer(cls, body: bytes, table: TokenTable | None) -> ChatResult:
        """The result in a body, just received or kept in a journal. Raises BadReply and nothing else."""
        return read_checked(cls.read_body, body, table)

    async def chat(self, request: ChatRequest, **options: Unpack[CallOptions]) -> ChatResult:
        """See `Chat.chat`. Raises FieldRefused and ValueRefused for what only seems to be refused; see `Teacher`."""
        try:
            result = await self._chat(request, options)
        except (NotThere, KeyRefused) as error:
            raise await self._other_address(error) or error from None
        except TooManyBytes as error:
            raise BadReply("too_large", str(error)) from error
        told = believed(result, request.messages, request.max_tokens)
        self.absurd_counts += told is not result
        return told

    async def _chat(self, request: ChatRequest, options: CallOptions) -> ChatResult:
        attempts, watch = options.get("attempts", ATTEMPTS), options.get("watch")
        on_text, seconds = options.get("on_text"), options.get("seconds")
        stream = on_text is not None
        left_out = self.left_out | options.get("left_out", frozenset())
        path, body = self.path(stream=stream), without(self.request_body(request, stream=stream), left_out)
        sent = replace(
            self._sent,
            path=path,
            top_logprobs=request.top_logprobs,
            sampling=sampling_fields(body),
            max_tokens=request.max_tokens,
        )
        tokens = request.max_tokens
        if request.given is not None:  # the prompt's tokens are told, each of which has at least a character
            tokens = len(request.given.text) + sum(len(message["content"]) for message in request.messages)
        most_bytes = _FIXED_BYTES + tokens * (1 + request.top_logprobs) * _TOKEN_BYTES
        if on_text is not None:
            return await self._stream(sent, body, most_bytes, on_text, options)
        if seconds is None and not self.provider.local:
            seconds = min(READ_SECONDS + request.max_tokens / _SLOWEST, _LONGEST_SECONDS)
        reply = await self._http.post(
            path,
            body,
            attempts=attempts,
            watch=watch,
            seconds=seconds,
            most_bytes=most_bytes,
            held=options.get("held"),
        )
        self._require(reply, sent)
        return self._read(self.answer_of(reply.body, request), sent)

    def requested_sampling(self, request: ChatRequest) -> dict[str, Any]:
        """See `Chat.requested_sampling`."""
        fields = sampling_fields(self.request_body(request))
        sent = {name: value for name, value in fields.items() if name not in self.left_out}
        meant = {**fields, "temperature": request.temperature}
        if request.temperature > 0:  # a greedy answer has no nucleus
            meant["top_p"] = request.top_p
        # A neutral value matters only where the server's own default would replace it in the logprobs.
        neutral = {name for name, value in meant.items() if value in NEUTRAL.get(name, ())}
        return sent | {
            name: None
            for name in meant
            if name not in sent and (name not in neutral or (name in fields and self.explicit))
        }

    async def _stream(
        self, sent: SentRequest, body: dict[str, Any], most_bytes: int, on_text: OnText, options: CallOptions
    ) -> ChatResult:
        fold = self.fold()
        enough, cut, half, begun = options.get("enough", lambda: False), False, "", False
        stray: list[str] = []

        def on_event(data: str) -> bool:
            nonlocal cut, half, begun
            if not data.strip():  # it only keeps the connection open
                return False
            if data.strip().strip('"') == "[DONE]":
                return True
            if _KEEPS_OPEN.fullmatch(data.strip()) and len(stray) < _MOST_STRAY:
                stray.append(data)
                return False
            with as_bad_reply(data.encode()):
                event = decode(data)
            reply = Reply(200, data.encode(), event, asked=body)
            if reply.error is not None:
                # Without a name or a number it is no verdict on a request that is being answered.
                if begun and reply.code == 200 and not reply.about_the_prompt:
                    raise FailedAttempt("the server reports a failure", reply)
                raise FailedAttempt.of(reply) if reply.retryable else sent.refusal(reply)
            if isinstance(event, str | list) and event:
                raise BadReply("malformed", "an event of the stream is not an object")
            with as_bad_reply(data.encode()):
                text = fold.add(event) if isinstance(event, dict) else ""
            begun = begun or bool(text)
            text, half = whole_characters(half + text)
            if text:
                on_text(text)
            cut = enough()
            return cut

        try:
            reply = await self._http.stream(
                sent.path,
                body,
                on_event,
                attempts=options.get("attempts", ATTEMPTS),
                watch=options.get("watch"),
                seconds=options.get("seconds"),
                most_bytes=most_bytes,
                is_whole=lambda: fold.complete and fold.ends_once,
            )
        except StreamCut as error:
            raise BadReply("stream_cut", f"the answer was cut off ({error})") from error
        if reply is not None:
            return self._result(reply, sent)
        if not (fold.complete or cut):
            if stray:
                raise BadReply("not_json", f"the stream ended before the answer did, and said: {stray[-1]}")
            raise BadReply("stream_cut", "the stream ended before the answer did")
        return self._read(json.dumps(fold.answer_body()).encode(), sent)

    def _result(self, reply: Reply, sent: SentRequest) -> ChatResult:
        self._require(reply, sent)
        return self._read(reply.body, sent)

    def _read(self, body: bytes, sent: SentRequest) -> ChatResult:
        """The result in a body; BadReply if a router let another upstream answer than the one that was asked."""
        try:
            # Some servers send logprobs without being asked: wrong ones must not spoil an answer.
            result = self.read_answer(body, self.table if sent.top_logprobs > 0 else None)
        except BadReply as error:
            if error.reason == "no_choice" and (said := _words_in(body, sent.key)):
                raise BadReply(error.reason, f"{error}, but says: {said}", body) from None
            raise
        self._answered = True
        if self.upstream and result.upstream != self.upstream:
            raise BadReply(
                "other_upstream",
                f"{result.upstream or 'an unnamed upstream'} answered instead of {self.upstream}",
                result.body,
            )
        self.accepted |= {*sent.sampling.items(), ("max_tokens", sent.max_tokens)}
        return result

    async def models(self) -> list[str]:
        """See `Chat.models`. OpenAI's format, which most servers imitate; Together sends the bare list."""
        payload = await self._listed(self.models_path)
        entries = list_of_models({"data": payload} if isinstance(payload, list) else payload, "data")
        return sorted(str(entry["id"]) for entry in entries if isinstance(entry, dict) and entry.get("id"))

    async def _listed(self, path: str) -> Any:
        """The decoded answer to a GET; raises like `chat`."""
        try:
            reply = await self._http.get(path)
        except TooManyBytes as error:
            raise BitnetError(f"{self.base_url}{path} can't be read: {error}; correct the address.") from error
        try:
            self._require(reply, replace(self._sent, path=path))
        except (NotThere, KeyRefused) as error:
            raise await self._other_address(error) or error from None
        return reply.payload

    async def _other_address(self, error: NotThere | KeyRefused) -> OtherAddress | None:
        if self._answered:
            return None
        return await other_address(self._http, self.base_url, self.models_path, self._sent, error)

    def _require(self, reply: Reply, sent: SentRequest) -> None:
        if reply.status != 200 or reply.error is not None:
            raise sent.refusal(reply)
        if reply.payload is None:
            if self._answered:
                raise BadReply("not_json", f"the answer is {reply.body_kind} instead of JSON", reply.body)
            raise sent.not_json(reply)


def _words_in(body: bytes, key: str | None) -> str:
    """What a body without an answer says, without the key: some servers give errors no status and no name."""
    with contextlib.suppress(ValueError):
        said = words_of(decode_error(body))
        return (said.replace(key, "***") if key else said)[:_SHOWN]
    return ""
