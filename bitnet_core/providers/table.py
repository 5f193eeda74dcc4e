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

    @property
    def prefix(self) -> str:
        return self.name.upper()

    @property
    def key_setting(self) -> str:
        return "HF_TOKEN" if self.name == "hf" else f"{self.prefix}_API_KEY"

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
        False,
        "yes",
        100,
        "Runs on this machine through llama.cpp; no key, no cost; fetched once (93 MB).",
        seeds=True,
        local=True,
    ),
    Provider(
        "hf",
        "Hugging Face transformers",
        "transformers",
        "",
        False,
        "yes",
        None,
        "A model run in this process; not available yet.",
        supported=False,
        local=True,
    ),
    Provider(
        "openai",
        "OpenAI",
        "openai",
        "https://api.openai.com/v1",
        True,
        "per model",
        20,
        "GPT-4o and 4.1 families give logprobs; reasoning models refuse them.",
        seeds=True,
    ),
    Provider(
        "anthropic",
        "Anthropic",
        "anthropic",
        "https://api.anthropic.com/v1",
        True,
        "no",
        None,
        "No logprobs, so it can't be a teacher for traces; not available yet.",
        supported=False,
    ),
    Provider(
        "groq",
        "Groq",
        "openai",
        "https://api.groq.com/openai/v1",
        True,
        "no",
        None,
        "No logprobs: good for the baseline alone.",
        seeds=True,
    ),
    Provider(
        "aimlapi",
        "AI/ML API",
        "openai",
        "https://api.aimlapi.com/v1",
        True,
        "per model",
        None,
        "Depends on the model behind it; asked before anything is spent.",
    ),
    Provider(
        "gemini",
        "Gemini",
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        True,
        "per model",
        20,
        "Some models give logprobs; not available yet.",
        supported=False,
    ),
    Provider(
        "deepseek",
        "DeepSeek",
        "openai",
        "https://api.deepseek.com/v1",
        True,
        "per model",
        20,
        "Logprobs come with models that don't think first.",
    ),
    Provider(
        "mistral",
        "Mistral",
        "openai",
        "https://api.mistral.ai/v1",
        True,
        "per model",
        None,
        "Depends on the model; asked before anything is spent.",
    ),
    Provider(
        "together",
        "Together",
        "openai",
        "https://api.together.xyz/v1",
        True,
        "per model",
        20,
        "Its logprobs field is a number of its own; the baseline works, traces only where it answers like OpenAI.",
        seeds=True,
    ),
    Provider(
        "fireworks",
        "Fireworks",
        "openai",
        "https://api.fireworks.ai/inference/v1",
        True,
        "yes",
        5,
        "Few candidates a step.",
    ),
    Provider(
        "openrouter",
        "OpenRouter",
        "openai",
        "https://openrouter.ai/api/v1",
        True,
        "per model",
        20,
        "Passes on what the provider behind it gives; some give nothing without saying so.",
        seeds=True,
    ),
    Provider(
        "vllm",
        "vLLM server",
        "openai",
        "http://127.0.0.1:8000/v1",
        False,
        "yes",
        None,
        "Your own server; --max-logprobs sets the most candidates (20 by default).",
        seeds=True,
        local=True,
    ),
    Provider(
        "llamacpp",
        "llama.cpp server",
        "openai",
        "http://127.0.0.1:8080/v1",
        False,
        "yes",
        100,
        "Your own llama-server; gives token ids and exact bytes.",
        seeds=True,
        local=True,
    ),
    Provider(
        "ollama",
        "Ollama server",
        "openai",
        "http://127.0.0.1:11434/v1",
        False,
        "yes",
        20,
        "Your own Ollama, of 2026 or later for logprobs.",
        seeds=True,
        local=True,
    ),
    Provider(
        "custom",
        "OpenAI-compatible server",
        "openai",
        "",
        False,
        "per model",
        None,
        "Any server with /chat/completions; name it in CUSTOM_BASE_URL.",
    ),
)

PROVIDERS: dict[str, Provider] = {provider.name: provider for provider in _ALL}


def supported_names() -> list[str]:
    return [provider.name for provider in _ALL if provider.supported]


def names_with_logprobs() -> list[str]:
    """Providers that work today and give logprobs, at least for some models; sure ones first."""
    able = [provider for provider in _ALL if provider.supported and provider.logprobs != "no"]
    return [provider.name for provider in sorted(able, key=lambda provider: provider.logprobs != "yes")]


def profile(name: str) -> Provider:
    """The provider of this name, if it works today; BitnetError with those that do otherwise."""
    provider = PROVIDERS.get(name)
    if provider is None or not provider.supported:
        known = "is not a provider" if provider is None else "is not available yet"
        raise BitnetError(f"{name or 'An empty name'} {known}; choose one of {', '.join(supported_names())}.")
    return provider
