"""What a server's refusal means, as one sentence that names the fix. Knows no HTTP client and no wire format."""

import re
from dataclasses import dataclass

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.errors import BadReply
from bitnet_core.teachers.http.reply import Reply
from bitnet_core.teachers.http.retries import Failure, Unreachable
from bitnet_core.teachers.profiles import Provider, recommended_for_logprobs

_SHOWN = 200
_CONTEXT_SIGNS = (
    *("context_length", "context size", "exceed_context", "maximum context", "context window", "context limit"),
    *("prompt is too long", "input token count", "max_new_tokens"),
)
_LOGPROB_SIGNS = ("logprob", "requested parameters")
"""The second is OpenRouter's, where no upstream takes all that is asked for."""
_KEY_SIGNS = ("api key not valid", "api_key_invalid", "invalid api key")
_PROMPT_SIGNS = ("moderation", "flagged", "content", "policy", "safety", "country", "region", "territory")
"""Of a 403 that is not about the key."""
_OUTPUT_SIGN = "output limit was reached"
_LIMIT = re.compile(
    r"(?:less than or equal to|<=|≤|at most|maximum|max(?:imum)? allowed|up to|between \d+ and|exceed|greater than"
    r"|no more than|range \[?\(?\d+,)\D{0,24}?(\d+)"
)


class PromptRefused(BitnetError):
    """This one request is not taken, perhaps for what its prompt says; others may do."""

    status = "refused_prompt"
    """What the journal calls it."""

    def __init__(self, message: str, body: bytes = b"", *, billed: bool = False) -> None:
        """`billed`: it may be, for the server did not say at once that it refuses."""
        super().__init__(message)
        self.body = body
        self.billed = billed


class ContextExceeded(PromptRefused):
    """The prompt is too long."""

    status = "context_exceeded"


class NoLogprobs(BitnetError):
    """The model gives no logprobs."""


class TooManyCandidates(BitnetError):
    """It has logprobs, but of fewer candidates than were asked for: `most`, where that is known."""

    def __init__(self, message: str, most: int) -> None:
        super().__init__(message)
        self.most = most


class QuotaSpent(BitnetError):
    """Waiting does not help; money or a higher limit does. What is there stays."""


class Failing(BitnetError):
    """The server fails, time after time; later it may not."""


class KeyRefused(BitnetError):
    """The server does not take the key."""


def failure_of(error: BitnetError) -> Failure:
    """How far the request came that ended in this error."""
    if isinstance(error, PromptRefused):
        return Failure.BROKEN if error.billed else Failure.REFUSED
    return Failure.BROKEN if isinstance(error, Failing | Unreachable) else Failure.REFUSED


@dataclass(frozen=True)
class Asked:
    """Who was asked for what."""

    provider: Provider
    base_url: str
    model: str
    key: str | None
    top_logprobs: int = 0
    path: str = ""
    own: bool = True
    """Whether it is the teacher of the settings: only then its TEACHER_ settings count."""

    def refusal(self, reply: Reply) -> Exception:
        """The exception that says why there is no answer."""
        told, low = self.told(reply), reply.words().lower()
        name, code = self.provider.name, reply.code
        if reply.quota_spent:
            return QuotaSpent(
                f"The quota at {name} is spent ({told}); raise it or add credit, then start again (it goes on)."
            )
        about_the_prompt = reply.about_the_prompt or (
            code == 403 and (reply.kind == "a web page" or any(sign in low for sign in _PROMPT_SIGNS))
        )
        if not about_the_prompt and (code in (401, 403) or any(sign in low for sign in _KEY_SIGNS)):
            return key_refused(self.provider, told, own=self.own)
        if _OUTPUT_SIGN in low:  # it thought for as long as it was allowed to
            return BadReply("no_text", "the answer holds no text: all its tokens went into thinking", reply.body)
        if reply.too_large or any(sign in low for sign in _CONTEXT_SIGNS):
            return ContextExceeded(
                f"{self.model} can't take a prompt this long ({told}); "
                "shorten it, lower the number of tokens or raise TEACHER_CTX_LEN.",
                reply.body,
                billed=not reply.refused,
            )
        if about_the_prompt:
            return self._not_taken(reply, told)
        if self.top_logprobs and code < 500 and any(sign in low for sign in _LOGPROB_SIGNS):
            most = _most(low, self.top_logprobs)
            if most:
                return too_many_candidates(name, self.model, self.top_logprobs, most, told)
            return no_logprobs(name, self.model, told)
        if 300 <= code < 400:
            return BitnetError(
                f"{name} at {self.base_url} sends on to {reply.headers.get('location') or 'another address'} "
                f"({told}); set {self._address} to the address that answers."
            )
        if code == 404 and ("model" in low or "endpoint" in low or self.model.lower() in low):
            return BitnetError(
                f"{name} at {self.base_url} knows no model {self.model} ({told}); "
                f"correct {'TEACHER_MODEL or ' if self.own else ''}{self.provider.model_setting}."
            )
        if code in (404, 405):
            return BitnetError(
                f"{self.base_url} has no {self.path or 'such path'} ({told}); "
                f"correct {self._address} (it usually ends in /v1)."
            )
        if code == 429:
            return Failing(f"{name} refuses more requests ({told}); wait a while, then start again.")
        if code >= 500:
            return Failing(f"{name} at {self.base_url} keeps failing ({told}); start again later.")
        whose = "teacher's" if self.own else "provider's"
        return self._not_taken(reply, told, f"correct the {whose} settings")

    def _not_taken(
        self, reply: Reply, told: str, fix: str = "it is the network's or the provider's rule"
    ) -> PromptRefused:
        return PromptRefused(
            f"{self.provider.name} at {self.base_url} refuses the request ({told}); {fix}.",
            reply.body,
            billed=not reply.refused,
        )

    def no_json(self, reply: Reply) -> BitnetError:
        return BitnetError(
            f"{self.base_url} answers with {reply.kind} instead of JSON; correct {self._address} "
            "(it usually ends in /v1)."
        )

    @property
    def _address(self) -> str:
        return f"{self.provider.base_url_setting}{' or TEACHER_BASE_URL' if self.own else ''}"

    def told(self, reply: Reply) -> str:
        """What the server says, short and without the key (some servers echo it)."""
        text = reply.words()
        if not text and reply.kind == "a web page":
            text = "a web page"
        if self.key:
            text = text.replace(self.key, "***")
        return f"HTTP {reply.status}" + (f": {text[:_SHOWN]}" if text else "")


def _most(low: str, asked: int) -> int | None:
    """The most candidates that the words of a refusal allow, where that is less than was asked for."""
    found = [int(number) for number in _LIMIT.findall(low) if int(number) < asked]
    return max(found, default=None)


def missing_key(provider: Provider, *, own: bool = True) -> BitnetError:
    other = "TEACHER_PROVIDER" if own else "PROVIDER"
    return BitnetError(
        f"There is no key for {provider.name}: keep it with `bitnet keys set {provider.key_setting}` (in the OS "
        f"keyring or an encrypted vault), or set it in the environment; {other}=embedded needs none."
    )


def key_refused(provider: Provider, told: str = "", *, own: bool = True) -> KeyRefused:
    where = f"{provider.key_setting} (or TEACHER_API_KEY)" if own else provider.key_setting
    because = f" ({told})" if told else ""
    return KeyRefused(
        f"{provider.name} refuses the key in {where}{because}; "
        f"set a valid one in the environment or with `bitnet keys set {provider.key_setting}`."
    )


def no_logprobs(provider_name: str, model: str, told: str = "") -> NoLogprobs:
    because = f" ({told})" if told else ""
    return NoLogprobs(
        f"{provider_name} gives no logprobs for {model}{because}, and traces need them; "
        f"choose another model, or a TEACHER_PROVIDER that has them: {recommended_for_logprobs(provider_name)}."
    )


def too_many_candidates(provider_name: str, model: str, asked: int, most: int, told: str = "") -> TooManyCandidates:
    because = f" ({told})" if told else ""
    return TooManyCandidates(
        f"{provider_name} gives logprobs of at most {most} candidates for {model}, not of "
        f"TEACHER_TOP_LOGPROBS={asked}{because}; set TEACHER_TOP_LOGPROBS={most}, or choose a TEACHER_PROVIDER "
        f"that gives more.",
        most,
    )
