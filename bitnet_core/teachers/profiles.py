"""What each provider is and can do, as far as is known without asking it. Light: data and standard library only.

Logprobs are a property of the model more than of its provider, so collecting asks the teacher itself first;
this table is what the app shows before that, and what error messages recommend.
"""

from dataclasses import dataclass
from typing import Literal

from bitnet_core.errors import BitnetError

Wire = Literal["openai", "anthropic", "gemini", "transformers"]
Logprobs = Literal["yes", "no", "per model"]


@dataclass(frozen=True)
class Provider:
    """One value of PROVIDER and TEACHER_PROVIDER."""

    name: str
    label: str
    wire: Wire
    base_url: str
    """Usual address; empty when only the user knows it (or nobody needs it)."""
    needs_key: bool
    logprobs: Logprobs
    max_top_logprobs: int | None
    """None: not known, or the server's own setting."""
    note: str
    supported: bool = True
    seeds: bool = False
    """Takes OpenAI's `seed` field."""
    local: bool = False
    """Usually runs on the user's own machine or network."""
    source: str = ""
    """Where this row's facts are from, and of when."""
    token_ids: bool = False
    limit_field: str = "max_tokens"
    """What it calls the longest answer."""
    integer_logprobs: bool = False
    """Its `logprobs` is the number of candidates."""
    usage_in_stream: bool = True
    """Takes OpenAI's `stream_options` to count the tokens of a streamed answer."""

    @property
    def prefix(self) -> str:
        return self.name.upper()

    @property
    def key_setting(self) -> str:
        return "HF_TOKEN" if self.name == "hf" else f"{self.prefix}_API_KEY"

    @property
    def loads_first(self) -> bool:
        """Whether it may be one's own server, which loads its model when it is first asked."""
        return self.local or self.name == "custom"

    @property
    def model_setting(self) -> str:
        return f"{self.prefix}_MODEL"

    @property
    def base_url_setting(self) -> str:
        return f"{self.prefix}_BASE_URL"


_ALL = (
    Provider(
        "embedded",
        "Embedded SmolLM2-135M",
        "openai",
        "",
        needs_key=False,
        logprobs="yes",
        max_top_logprobs=100,
        note="Runs on this machine through llama.cpp; no key, no cost; fetched once (93 MB).",
        source="measured with xllamacpp 2026.10",
        seeds=True,
        local=True,
        token_ids=True,
    ),
    Provider(
        "hf",
        "Hugging Face transformers",
        "transformers",
        "",
        needs_key=False,
        logprobs="yes",
        max_top_logprobs=None,
        note="A model run in this process, on the GPU where there is one; logprobs exact over the whole vocabulary.",
        source="computed here",
        seeds=True,
        local=True,
        token_ids=True,
    ),
    Provider(
        "openai",
        "OpenAI",
        "openai",
        "https://api.openai.com/v1",
        needs_key=True,
        logprobs="per model",
        max_top_logprobs=20,
        note="GPT-4o and 4.1 families give logprobs; reasoning models refuse them.",
        source="openai 3.54 (SDK types), 2026-11",
        seeds=True,
        limit_field="max_completion_tokens",
    ),
    Provider(
        "anthropic",
        "Anthropic",
        "anthropic",
        "https://api.anthropic.com/v1",
        needs_key=True,
        logprobs="no",
        max_top_logprobs=None,
        note="No logprobs: good for chat and the baseline alone.",
        source="anthropic 2.12 (SDK types), 2026-11",
    ),
    Provider(
        "groq",
        "Groq",
        "openai",
        "https://api.groq.com/openai/v1",
        needs_key=True,
        logprobs="no",
        max_top_logprobs=None,
        note="No logprobs: good for chat and the baseline alone.",
        source="console.groq.com/docs/openai, 2026-11",
        seeds=True,
    ),
    Provider(
        "aimlapi",
        "AI/ML API",
        "openai",
        "https://api.aimlapi.com/v1",
        needs_key=True,
        logprobs="per model",
        max_top_logprobs=None,
        note="Depends on the model behind it; asked before anything is spent.",
        source="not documented",
    ),
    Provider(
        "gemini",
        "Gemini",
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        needs_key=True,
        logprobs="per model",
        max_top_logprobs=20,
        note="Some models give logprobs, newer ones often not; asked before anything is spent.",
        source="google-genai 3.4 (SDK types), 2026-11",
        token_ids=True,
    ),
    Provider(
        "deepseek",
        "DeepSeek",
        "openai",
        "https://api.deepseek.com/v1",
        needs_key=True,
        logprobs="per model",
        max_top_logprobs=20,
        note="Logprobs come when the model does not think first; it is told not to.",
        source="client libraries, 2026-11; the most is not documented",
    ),
    Provider(
        "mistral",
        "Mistral",
        "openai",
        "https://api.mistral.ai/v1",
        needs_key=True,
        logprobs="per model",
        max_top_logprobs=None,
        note="Depends on the model; asked before anything is spent.",
        source="mistralai 3.7 (SDK types), 2026-11",
        usage_in_stream=False,
    ),
    Provider(
        "together",
        "Together",
        "openai",
        "https://api.together.xyz/v1",
        needs_key=True,
        logprobs="per model",
        max_top_logprobs=20,
        note="Its logprobs field is a number of its own; asked before anything is spent.",
        source="togethercomputer/openapi, 2026-11",
        seeds=True,
        integer_logprobs=True,
    ),
    Provider(
        "fireworks",
        "Fireworks",
        "openai",
        "https://api.fireworks.ai/inference/v1",
        needs_key=True,
        logprobs="yes",
        max_top_logprobs=5,
        note="Few candidates a step.",
        source="client libraries, 2026-11; the most is not documented",
    ),
    Provider(
        "openrouter",
        "OpenRouter",
        "openai",
        "https://openrouter.ai/api/v1",
        needs_key=True,
        logprobs="per model",
        max_top_logprobs=20,
        note="Passes on what the provider behind it gives; some give nothing without saying so.",
        source="users' reports, 2026-11",
        seeds=True,
    ),
    Provider(
        "vllm",
        "vLLM server",
        "openai",
        "http://127.0.0.1:8000/v1",
        needs_key=False,
        logprobs="yes",
        max_top_logprobs=None,
        note="Your own server; --max-logprobs sets the most candidates (20 by default).",
        source="vLLM's documentation, 2026-11",
        seeds=True,
        local=True,
    ),
    Provider(
        "llamacpp",
        "llama.cpp server",
        "openai",
        "http://127.0.0.1:8080/v1",
        needs_key=False,
        logprobs="yes",
        max_top_logprobs=100,
        note="Your own llama-server; gives token ids and exact bytes.",
        source="measured with xllamacpp 2026.10",
        seeds=True,
        local=True,
        token_ids=True,
    ),
    Provider(
        "ollama",
        "Ollama server",
        "openai",
        "http://127.0.0.1:11434/v1",
        needs_key=False,
        logprobs="yes",
        max_top_logprobs=20,
        note="Your own Ollama, of 2026 or later for logprobs.",
        source="ollama#18579, 2026-11",
        seeds=True,
        local=True,
    ),
    Provider(
        "custom",
        "OpenAI-compatible server",
        "openai",
        "",
        needs_key=False,
        logprobs="per model",
        max_top_logprobs=None,
        note="Any server with /chat/completions; name it in CUSTOM_BASE_URL.",
        source="asked at the probe",
    ),
)

_UNPROVED = frozenset({"aimlapi", "custom"})
"""Nobody has documented what is behind them; nothing is promised of them."""

PROVIDERS: dict[str, Provider] = {provider.name: provider for provider in _ALL}


def supported_names() -> list[str]:
    return [provider.name for provider in _ALL if provider.supported]


def names_with_logprobs() -> list[str]:
    """Providers that work today and are known to give logprobs, at least for some models; sure ones first."""
    able = [one for one in _ALL if one.supported and one.logprobs != "no" and one.name not in _UNPROVED]
    return [provider.name for provider in sorted(able, key=lambda provider: provider.logprobs != "yes")]


def who_has_logprobs(besides: str = "") -> str:
    """The same as words, without one that was just found not to."""
    names = [name for name in names_with_logprobs() if name != besides]
    sure = [name for name in names if PROVIDERS[name].logprobs == "yes"]
    some = [name for name in names if name not in sure]
    return f"{', '.join(sure)}; or some models of {', '.join(some)}"


def profile(name: str) -> Provider:
    """The provider of this name, if it works today; BitnetError with those that do otherwise."""
    provider = PROVIDERS.get(name)
    if provider is None or not provider.supported:
        known = "is not a provider" if provider is None else "is not available yet"
        raise BitnetError(f"{name or 'An empty name'} {known}; choose one of {', '.join(supported_names())}.")
    return provider
