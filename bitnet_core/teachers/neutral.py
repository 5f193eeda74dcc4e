"""A request whose refusal can't be about its prompt. It probes a teacher, and decides what other refusals mean.

A server that refuses a prompt may quote it or paraphrase it, so what it names (the key, a field, a quota) may stand
in the prompt. Whether it does is shown by a request that differs in its prompt alone.
"""

from dataclasses import replace

from bitnet_core.settings.values import Sampling
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.http.client import QUICK_SECONDS
from bitnet_core.teachers.profiles import Provider

# Tokenizers differ most in digits, accents, scripts and code. The answer is plain ASCII, because llama.cpp reports
# only the last token of a character that takes several.
MESSAGES = (
    {
        "role": "user",
        "content": 'naïve café, 東京, Привет, 1995 + 2024 = 4019, {"a": [1, 2]}, f(x): x**2. '
        "Describe this line in one short sentence of plain English.",
    },
)
OTHER_MESSAGES = tuple(
    ({"role": "user", "content": content},)
    for content in ("Name a colour.", "Count from one to five in English words.")
)
"""Asked where the answer to the first shows nothing. Their answers, too, are plain ASCII."""
TOKENS = 8
"""Of the answer that is judged: enough for blanks between words, and for thinking that should not be there."""
PLAIN = Sampling(max_tokens=TOKENS, temperature=0.8)
_SEED = 1
_LOADING_SECONDS = 600.0


def few_tokens(top_logprobs: int, sampling: Sampling = PLAIN, tokens: int = TOKENS) -> ChatRequest:
    """A neutral request as collecting sends it, but for a few tokens."""
    drawing = min(tokens, sampling.max_tokens), sampling.temperature, sampling.top_p
    return ChatRequest(MESSAGES, *drawing, top_logprobs, _SEED)


def one_token(top_logprobs: int, sampling: Sampling = PLAIN) -> ChatRequest:
    return few_tokens(top_logprobs, sampling, 1)


def neutral(request: ChatRequest, max_tokens: int = 1) -> ChatRequest:
    """The same request with a neutral prompt and, unless told otherwise, for a single token."""
    return replace(request, messages=MESSAGES, max_tokens=max_tokens)


def is_neutral(request: ChatRequest) -> bool:
    return tuple(request.messages) in (MESSAGES, *OTHER_MESSAGES)


def few_tokens_seconds(provider: Provider) -> float:
    """How many seconds to wait for a few tokens; a local server may have to load its model first."""
    return _LOADING_SECONDS if provider.loads_first else QUICK_SECONDS
