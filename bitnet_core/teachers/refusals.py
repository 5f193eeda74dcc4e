"""What a server's refusal means: an exception whose sentence names the fix. Knows no HTTP client, no wire format.

A server that refuses a prompt may quote it, so words alone prove little: `Teacher` checks what they say against a
neutral request before it believes an error that is not about the prompt.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.http.reply import Reply
from bitnet_core.teachers.http.retries import Failure, Unreachable
from bitnet_core.teachers.key_words import blames_key, names_bad_key
from bitnet_core.teachers.limit_words import limit_in
from bitnet_core.teachers.profiles import Provider, recommended_for_logprobs
from bitnet_core.teachers.sampling_fields import named_fields, refused_field

_SHOWN_CHARACTERS = 200
_CONTEXT_SIGNS = (
    *("context_length", "context size", "exceed_context", "maximum context", "context window", "context limit"),
    *("prompt is too long", "input is too long", "string too long", "input token count", "max_new_tokens"),
    *("must have less than", "reduce the length"),
)
_LOGPROB_SIGNS = ("logprob", "log prob", "top_n_tokens", "n_probs", "requested parameters")
"""TGI and llama.cpp have names of their own. OpenRouter says the last one when none of its providers accepts all
fields of the request."""
_MODEL = re.compile(
    r"\b(?:access to|use|using)\b.{0,60}\bmodel\b(?!\.)"
    r"|\bmodel\b(?!\.).{0,60}"
    r"\b(?:not (?:available|allowed|found|exist)|does not exist|denied|restricted|plan|subscription|tier)\b"
)
_ACCOUNT_SIGNS = (
    *("suspended", "deactivated", "billing", "budget", "payment", "subscription", "verify your", "not verified"),
    *("must be verified", "accept the terms", "accept the license", "organization", "organisation", "not a member"),
    *("your account", "account is", "account has"),
)
"""In a 401 or 403, these say that the account is to be put in order; the key is good."""
_PROMPT_SIGNS = (
    *("moderation", "flagged", "content", "policy", "safety", "country", "region", "territory"),
    *("ip address", "firewall", "vpn"),
)
"""In a 403, these say that it is not about the key."""
_OTHER_FORMS = ("a stream of events", "text that is not UTF-8", "several JSON values", "a broken JSON text")
"""Answers of a model server, in a form that is not read."""
_OUTPUT_SIGN = "output limit was reached"
_OTHER_NAME = re.compile(r"\b(?:use|try|instead|renamed|replaced)\b.{0,40}\bmax_(?:completion|output|new)_tokens\b")
_SETTINGS = {
    "temperature": "KD_TEACHER_TEMPERATURE",
    "top_p": "KD_TEACHER_TOP_P",
    "max_tokens": "KD_MAX_TOKENS_PER_PROMPT",
}
"""The settings of a request with logprobs: only collecting and its probe ask for them."""


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
    """The server seems to refuse a sampling field by its name; if so, the request may be sent again without it."""

    of_prompt: PromptRefused | None = None
    """What the refusal means if it only quotes the prompt."""

    def __init__(self, message: str, body: bytes, field: str) -> None:
        super().__init__(message, body)
        self.field = field


class RefusesAll(BitnetError):
    """The server would refuse every request like this one, whatever its prompt."""

    of_prompt: PromptRefused | None = None
    """What the refusal means if it only quotes the prompt; None if its status can't be about one."""


class SettingsRefused(RefusesAll):
    """The server does not accept the values of some fields, which stand in the settings."""

    def __init__(self, message: str, fields: Mapping[str, Any]) -> None:
        """`fields`: their common names, with the refused values."""
        super().__init__(message)
        self.fields = fields


class NoLogprobs(RefusesAll):
    """The model gives no logprobs."""


class UnusableLogprobs(BitnetError):
    """The model gives logprobs, but traces can't be made from them."""


class TooManyCandidates(RefusesAll):
    """The model gives logprobs, but for at most `most` candidates a step."""

    def __init__(self, message: str, most: int) -> None:
        super().__init__(message)
        self.most = most


class NotThere(RefusesAll):
    """The address has no such model or no such path."""


class KeyRefused(RefusesAll):
    """The server does not accept the key."""


class OtherAddress(RefusesAll):
    """The server answers at another `address` than the one that is set; there it may also have `refused` the key."""

    def __init__(self, message: str, address: str, refused: KeyRefused | None = None) -> None:
        super().__init__(message)
        self.address, self.refused = address, refused


class QuotaSpent(RefusesAll):
    """Only money or a higher limit helps, not waiting."""


class Failing(BitnetError):
    """The server failed at every attempt; it may work later."""


def failure_of(error: BitnetError) -> Failure:
    """How far the request came that ended in this error."""
    if isinstance(error, PromptRefused):
        return Failure.BROKEN if error.billed else Failure.REFUSED
    return Failure.BROKEN if isinstance(error, Failing | Unreachable) else Failure.REFUSED


@dataclass(frozen=True)
class SentRequest:
    """What was sent, and to whom: what it takes to explain a refusal."""

    provider: Provider
    address: str
    """As messages name it: with the proxy, where that may answer in the server's place."""
    model: str
    key: str | None
    top_logprobs: int = 0
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """The sampling fields of the request, by their common names."""
    max_tokens: int = 0
    path: str = ""
    own: bool = True
    """Whether it is the teacher of the settings. Only then do its TEACHER_ settings count."""
    key_name: str = ""
    """The setting that has the key; empty if it is not known."""

    def refusal(self, reply: Reply) -> Exception:
        """The exception for a reply without an answer."""
        said = self._said(reply)
        error = self._explained(reply, said)
        if isinstance(error, FieldRefused | RefusesAll) and reply.code not in (402, 429):
            error.of_prompt = self._not_accepted(reply, said, "it answers others, so change this prompt")
        return error

    def _explained(self, reply: Reply, said: str) -> Exception:
        """The explanations are tried in order: what the words name comes before what the status means.

        An error about the prompt may quote it, so words about the key, logprobs or the model count only in others.
        """
        return (
            self._of_quota(reply, said)
            or (self._key_refused(said) if names_bad_key(_words(reply)) and not reply.about_the_prompt else None)
            or self._of_length(reply, said)
            or (self._of_logprobs(reply, said) if not reply.about_the_prompt else None)
            or self._of_prompt(reply, said)
            or self._of_field(reply, said)
            or self._of_value(reply, said)
            or self._of_model(reply, said)
            or self._of_account(reply, said)
            or self._of_access(reply, said)
            or self._of_address(reply, said)
            or self._of_server(reply, said)
            or self._not_accepted(reply, said, self._correct_settings())
        )

    def other_address(self, address: str, refused: KeyRefused | None = None) -> OtherAddress:
        told = f"{self.address} does not answer, but {address} does; set {self._address_settings} to {address}."
        return OtherAddress(f"{told} There, {refused}" if refused else told, address, refused)

    def not_json(self, reply: Reply) -> BitnetError:
        fix = f"correct {self._address_settings} (it usually ends in /v1)"
        if reply.body_kind in _OTHER_FORMS:
            fix = f"let the server give each answer as one JSON text in UTF-8, or {fix}"
        return BitnetError(f"{self.address} answers with {reply.body_kind} instead of JSON; {fix}.")

    def _of_quota(self, reply: Reply, said: str) -> Exception | None:
        if not reply.quota_spent:
            return None
        return QuotaSpent(
            f"The quota at {self.provider.name} is spent ({said}); "
            "raise it or add credit, then start again: it resumes."
        )

    def _key_refused(self, said: str) -> KeyRefused:
        setting = where = self.key_name or self.provider.key_setting
        if self.own and not self.key_name:
            where = f"{setting} (or TEACHER_API_KEY)"
        name, fix = self.provider.name, f"in the environment or with `bitnet keys set {setting}`."
        if not self.key:
            return KeyRefused(f"{name} wants a key, and none is given ({said}); set one {fix}")
        return KeyRefused(f"{name} refuses the key in {where} ({said}); set a valid one {fix}")

    def _of_access(self, reply: Reply, said: str) -> Exception | None:
        """A 401 or 403 blames the key only if its words name the key, or nothing."""
        if reply.code not in (401, 403):
            return None
        if blames_key(_words(reply)):
            return self._key_refused(said)
        return RefusesAll(
            f"{self.provider.name} at {self.address} accepts no requests ({said}); "
            "correct what it names or settle it with the provider, then start again: it resumes."
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
        if not self.top_logprobs or not _mentions(reply, _LOGPROB_SIGNS):
            return None
        most = limit_in(reply.words().lower(), self.top_logprobs)
        if most:
            return too_many_candidates(self.provider.name, self.model, self.top_logprobs, most, said)
        failing = reply.code >= 500 and reply.code != 501  # then the words are about a crash
        return None if failing else no_logprobs(self.provider.name, self.model, said)

    def _of_field(self, reply: Reply, said: str) -> Exception | None:
        name = refused_field(reply, self.sampling)
        if name is None:
            return None
        message = self._not_accepted(reply, said, f"{self.model} does not take {name}")
        return FieldRefused(str(message), reply.body, name)

    def _of_value(self, reply: Reply, said: str) -> Exception | None:
        fields = named_fields(reply, {**self.sampling, "max_tokens": self.max_tokens})
        if not fields:
            return None
        if "max_tokens" in fields and _OTHER_NAME.search(reply.words().lower()):
            wants = f"{self.model} takes the limit of tokens under another name; choose another model or server"
            return SettingsRefused(str(self._not_accepted(reply, said, wants)), fields)
        settings = [_SETTINGS[name] for name in fields if name in _SETTINGS] if self.top_logprobs and self.own else []
        named = f": {' or '.join(settings)}" if settings else ""
        message = self._not_accepted(reply, said, self._correct_settings() + named)
        return SettingsRefused(str(message), fields)

    def _of_model(self, reply: Reply, said: str) -> Exception | None:
        setting = f"{'TEACHER_MODEL or ' if self.own else ''}{self.provider.model_setting}"
        server = f"{self.provider.name} at {self.address}"
        if reply.code == 404 and self.model and _mentions(reply, ("model", "endpoint", self.model.lower())):
            return NotThere(f"{server} has no model {self.model} ({said}); correct {setting}.")
        if reply.code in (401, 403) and _MODEL.search(reply.words().lower()):
            return RefusesAll(
                f"{server} gives this key no access to {self.model} ({said}); choose another model in {setting}."
            )
        return None

    def _of_account(self, reply: Reply, said: str) -> Exception | None:
        if reply.code not in (401, 403) or not _mentions(reply, _ACCOUNT_SIGNS):
            return None
        return RefusesAll(
            f"{self.provider.name} at {self.address} accepts no requests from this account ({said}); "
            "settle that with the provider, then start again: it resumes."
        )

    def _of_address(self, reply: Reply, said: str) -> Exception | None:
        server = f"{self.provider.name} at {self.address}"
        if 300 <= reply.code < 400:
            where = reply.headers.get("location", "")[:_SHOWN_CHARACTERS]
            what = f"redirects to {where}" if where else "gives no answer"
            return RefusesAll(f"{server} {what} ({said}); set {self._address_settings} to the address that answers.")
        if reply.code in (404, 405):
            return NotThere(
                f"{self.address} has no {self.path or 'such path'} ({said}); "
                f"correct {self._address_settings} (it usually ends in /v1)."
            )
        return None

    def _of_server(self, reply: Reply, said: str) -> Exception | None:
        name = self.provider.name
        if reply.code == 429:
            return Failing(f"{name} accepts no more requests ({said}); wait a while, then start again.")
        if reply.code >= 500 or reply.code in (408, 409):
            return Failing(f"{name} at {self.address} keeps failing ({said}); start again later.")
        return None

    def _not_accepted(self, reply: Reply, said: str, fix: str) -> PromptRefused:
        return PromptRefused(
            f"{self.provider.name} at {self.address} refuses the request ({said}); {fix}.",
            reply.body,
            billed=not reply.refused,
        )

    def _correct_settings(self) -> str:
        return f"correct the {'teacher' if self.own else 'provider'}'s settings"

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


def no_usable_answer(name: str, error: BadReply) -> BitnetError:
    """For a teacher or provider whose answer is none."""
    return BitnetError(f"{name} gave no usable answer ({error}); try again, or choose another model.")


def _words(reply: Reply) -> str:
    return f"{reply.words()} {(reply.error or {}).get('param') or ''}".lower()


def _mentions(reply: Reply, signs: tuple[str, ...]) -> bool:
    words = _words(reply)
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
