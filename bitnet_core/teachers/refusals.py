"""What a server's refusal means: an exception whose sentence names the fix. Knows no HTTP client, no wire format."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.http.reply import Reply
from bitnet_core.teachers.http.retries import Failure, Unreachable
from bitnet_core.teachers.profiles import Provider, recommended_for_logprobs
from bitnet_core.teachers.sampling_fields import NEUTRAL, refused_field

_SHOWN_CHARACTERS = 200
_CONTEXT_SIGNS = (
    *("context_length", "context size", "exceed_context", "maximum context", "context window", "context limit"),
    *("prompt is too long", "input token count", "max_new_tokens"),
)
_LOGPROB_SIGNS = ("logprob", "log prob", "top_n_tokens", "n_probs", "requested parameters")
"""TGI and llama.cpp have names of their own. OpenRouter says the last one when none of its providers accepts all
fields of the request."""
_KEY_SIGNS = (
    *("api key not valid", "api_key_invalid", "invalid api key", "invalid_api_key", "incorrect api key"),
    "invalid x-api-key",
)
_MODEL = re.compile(
    r"\b(?:access to|use|using)\b.{0,60}\bmodel\b(?!\.)"
    r"|\bmodel\b(?!\.).{0,60}\b(?:not (?:available|allowed|found|exist)|does not exist|denied|restricted|plan)\b"
)
_PROMPT_SIGNS = (
    *("moderation", "flagged", "content", "policy", "safety", "country", "region", "territory"),
    *("ip address", "firewall", "vpn"),
)
"""In a 403, these say that it is not about the key."""
_OUTPUT_SIGN = "output limit was reached"
_LIMIT = re.compile(
    r"(?:less than or equal to|<=|≤|at most|maximum|max(?:imum)? allowed|up to|between \d+ and|exceed|greater than"
    r"|no more than|no larger than|larger than|(?<!rate )limit(?:ed)?(?: is| of| to)?|\[\d+,|\(\d+,"
    r"|\b[01] ?(?:-|–|\.\.+|to))"
    r"\D{0,24}?(\d+)"
)
_BELOW = re.compile(r"(?:smaller|less|lower|fewer) than (?!or equal)\D{0,24}?(\d+)")
_ONE_OF = re.compile(r"one of \[?((?:\d+ ?, ?)+\d+)")


class PromptRefused(BitnetError):
    """The server does not accept this request, perhaps because of its prompt; it may accept others."""

    status = "refused_prompt"
    """Its name in the journal."""

    def __init__(self, message: str, body: bytes = b"", *, billed: bool = False) -> None:
        """`billed`: it may be billed, because the server did not refuse before it did any work."""
        super().__init__(message)
        self.body = body
        self.billed = billed


class ContextExceeded(PromptRefused):
    """The prompt is too long."""

    status = "context_exceeded"


class FieldRefused(PromptRefused):
    """The server refuses a sampling field by its name; the request may be sent again without it."""

    def __init__(self, message: str, body: bytes, field: str, *, changes_answers: bool) -> None:
        """`changes_answers`: whether the field's value is not a neutral one."""
        super().__init__(message, body)
        self.field = field
        self.changes_answers = changes_answers


class NoLogprobs(BitnetError):
    """The model gives no logprobs."""


class UnusableLogprobs(BitnetError):
    """The model gives logprobs, but traces can't be made from them."""


class TooManyCandidates(BitnetError):
    """The model gives logprobs, but for at most `most` candidates a step."""

    def __init__(self, message: str, most: int) -> None:
        super().__init__(message)
        self.most = most


class QuotaSpent(BitnetError):
    """Only money or a higher limit helps, not waiting."""


class Failing(BitnetError):
    """The server failed at every attempt; it may work later."""


class KeyRefused(BitnetError):
    """The server does not accept the key."""


def failure_of(error: BitnetError) -> Failure:
    """How far the request came that ended in this error."""
    if isinstance(error, PromptRefused):
        return Failure.BROKEN if error.billed else Failure.REFUSED
    return Failure.BROKEN if isinstance(error, Failing | Unreachable) else Failure.REFUSED


@dataclass(frozen=True)
class SentRequest:
    """What was sent, and to whom: what it takes to explain a refusal."""

    provider: Provider
    base_url: str
    model: str
    key: str | None
    top_logprobs: int = 0
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """The sampling fields of the request, by their common names."""
    path: str = ""
    own: bool = True
    """Whether it is the teacher of the settings. Only then do its TEACHER_ settings count."""

    def refusal(self, reply: Reply) -> Exception:
        """The exception for a reply without an answer.

        The explanations are tried in order: what the words name comes before what the status means. An error about
        the prompt may quote it, so words about the key, logprobs or the model count only in other errors.
        """
        said = self._said(reply)
        return (
            self._of_quota(reply, said)
            or (self._key_refused(said) if _mentions(reply, _KEY_SIGNS) and not reply.about_the_prompt else None)
            or self._of_length(reply, said)
            or (self._of_logprobs(reply, said) if not reply.about_the_prompt else None)
            or self._of_prompt(reply, said)
            or self._of_field(reply, said)
            or self._of_model(reply, said)
            or (self._key_refused(said) if reply.code in (401, 403) else None)
            or self._of_address(reply, said)
            or self._of_server(reply, said)
            or self._not_accepted(reply, said, f"correct the {'teacher' if self.own else 'provider'}'s settings")
        )

    def not_json(self, reply: Reply) -> BitnetError:
        return BitnetError(
            f"{self.base_url} answers with {reply.body_kind} instead of JSON; correct {self._address_settings} "
            "(it usually ends in /v1)."
        )

    def _of_quota(self, reply: Reply, said: str) -> Exception | None:
        if not reply.quota_spent:
            return None
        return QuotaSpent(
            f"The quota at {self.provider.name} is spent ({said}); "
            "raise it or add credit, then start again: it resumes."
        )

    def _key_refused(self, said: str) -> KeyRefused:
        setting = self.provider.key_setting
        where = f"{setting} (or TEACHER_API_KEY)" if self.own else setting
        return KeyRefused(
            f"{self.provider.name} refuses the key in {where} ({said}); "
            f"set a valid one in the environment or with `bitnet keys set {setting}`."
        )

    def _of_length(self, reply: Reply, said: str) -> Exception | None:
        if _mentions(reply, (_OUTPUT_SIGN,)):
            return BadReply("no_text", "the answer has no text: all its tokens went into thinking", reply.body)
        if not reply.too_large and not _mentions(reply, _CONTEXT_SIGNS):
            return None
        return ContextExceeded(
            f"{self.model} can't take a prompt this long ({said}); "
            "shorten it, lower the number of tokens or raise TEACHER_CTX_LEN.",
            reply.body,
            billed=not reply.refused,
        )

    def _of_prompt(self, reply: Reply, said: str) -> Exception | None:
        if not _about_the_prompt(reply):
            return None
        return self._not_accepted(reply, said, "a rule of the network or of the provider forbids it")

    def _of_logprobs(self, reply: Reply, said: str) -> Exception | None:
        failing = reply.code >= 500 and reply.code != 501
        if not self.top_logprobs or failing or not _mentions(reply, _LOGPROB_SIGNS):
            return None
        words = reply.words().lower()
        limits = [int(number) for number in _LIMIT.findall(words)]
        limits += [int(number) - 1 for number in _BELOW.findall(words)]
        limits += [int(number) for listed in _ONE_OF.findall(words) for number in listed.split(",")]
        most = max((limit for limit in limits if limit < self.top_logprobs), default=0)
        if most:
            return too_many_candidates(self.provider.name, self.model, self.top_logprobs, most, said)
        return no_logprobs(self.provider.name, self.model, said)

    def _of_field(self, reply: Reply, said: str) -> Exception | None:
        name = refused_field(reply, self.sampling)
        if name is None:
            return None
        message = self._not_accepted(reply, said, f"{self.model} does not take {name}")
        changes = self.sampling[name] not in NEUTRAL.get(name, ())
        return FieldRefused(str(message), reply.body, name, changes_answers=changes)

    def _of_model(self, reply: Reply, said: str) -> Exception | None:
        setting = f"{'TEACHER_MODEL or ' if self.own else ''}{self.provider.model_setting}"
        server = f"{self.provider.name} at {self.base_url}"
        if reply.code == 404 and _mentions(reply, ("model", "endpoint", self.model.lower())):
            return BitnetError(f"{server} has no model {self.model} ({said}); correct {setting}.")
        if reply.code in (401, 403) and _MODEL.search(reply.words().lower()):
            return BitnetError(
                f"{server} gives this key no access to {self.model} ({said}); choose another model in {setting}."
            )
        return None

    def _of_address(self, reply: Reply, said: str) -> Exception | None:
        server = f"{self.provider.name} at {self.base_url}"
        if 300 <= reply.code < 400:
            return BitnetError(
                f"{server} redirects to {reply.headers.get('location') or 'another address'} ({said}); "
                f"set {self._address_settings} to the address that answers."
            )
        if reply.code in (404, 405):
            return BitnetError(
                f"{self.base_url} has no {self.path or 'such path'} ({said}); "
                f"correct {self._address_settings} (it usually ends in /v1)."
            )
        return None

    def _of_server(self, reply: Reply, said: str) -> Exception | None:
        name = self.provider.name
        if reply.code == 429:
            return Failing(f"{name} accepts no more requests ({said}); wait a while, then start again.")
        if reply.code >= 500:
            return Failing(f"{name} at {self.base_url} keeps failing ({said}); start again later.")
        return None

    def _not_accepted(self, reply: Reply, said: str, fix: str) -> PromptRefused:
        return PromptRefused(
            f"{self.provider.name} at {self.base_url} refuses the request ({said}); {fix}.",
            reply.body,
            billed=not reply.refused,
        )

    @property
    def _address_settings(self) -> str:
        return f"{self.provider.base_url_setting}{' or TEACHER_BASE_URL' if self.own else ''}"

    def _said(self, reply: Reply) -> str:
        """What the server says, shortened and without the key, which some servers echo."""
        text = reply.words()
        if not text and reply.body_kind == "a web page":
            text = "a web page"
        if self.key:
            text = text.replace(self.key, "***")
        return f"HTTP {reply.status}" + (f": {text[:_SHOWN_CHARACTERS]}" if text else "")


def _mentions(reply: Reply, signs: tuple[str, ...]) -> bool:
    words = f"{reply.words()} {(reply.error or {}).get('param') or ''}".lower()
    return any(sign in words for sign in signs)


def _about_the_prompt(reply: Reply) -> bool:
    forbidden = reply.code == 403 and (reply.body_kind == "a web page" or _mentions(reply, _PROMPT_SIGNS))
    return forbidden or reply.about_the_prompt


def missing_key(provider: Provider, *, own: bool = True) -> BitnetError:
    setting = "TEACHER_PROVIDER" if own else "PROVIDER"
    return BitnetError(
        f"There is no key for {provider.name}: store it with `bitnet keys set {provider.key_setting}` (in the OS "
        f"keyring or an encrypted vault), or set it in the environment; {setting}=embedded needs none."
    )


def no_logprobs(provider_name: str, model: str, said: str = "") -> NoLogprobs:
    return NoLogprobs(
        f"{provider_name} gives no logprobs for {model}{_because(said)}, and traces need them; choose another model, "
        f"or a TEACHER_PROVIDER that has them: {recommended_for_logprobs(besides=provider_name)}."
    )


def unusable_logprobs(provider_name: str, model: str, wrong: str, fix: str) -> UnusableLogprobs:
    return UnusableLogprobs(
        f"The logprobs that {provider_name} gives for {model} can't be used: {wrong}; {fix}, or set another "
        f"TEACHER_PROVIDER: {recommended_for_logprobs(besides=provider_name)}."
    )


def too_many_candidates(provider_name: str, model: str, asked: int, most: int, said: str = "") -> TooManyCandidates:
    return TooManyCandidates(
        f"{provider_name} gives logprobs for at most {most} candidates with {model}, not for "
        f"TEACHER_TOP_LOGPROBS={asked}{_because(said)}; set TEACHER_TOP_LOGPROBS={most}, or choose a "
        "TEACHER_PROVIDER that gives more.",
        most,
    )


def _because(said: str) -> str:
    return f" ({said})" if said else ""
