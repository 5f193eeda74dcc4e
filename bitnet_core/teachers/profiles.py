"""What each provider is and can do, as far as that is known without asking it. Light: data and standard library only.

Whether there are logprobs depends on the model more than on its provider, so collecting probes the teacher first. The
app shows this table before that, and error messages recommend from it.

To add a provider:

- a row in `_ALL` below;
- in `settings/registry.py`, its name in `PROVIDER_NAMES` and a line `provider(label, PREFIX)` for its model, key and
  address (then `make docs`);
- only for a request field of its own: `wire/openai.py`;
- only for a new wire format: its name in `Wire`, a module in `wire/`, and a line in `WIRES` of `opening.py`;
- if its prices are known, a table in `assets/prices.toml`.

`tests/teachers/test_profiles.py` fails while one of the first two is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bitnet_core.errors import BitnetError
from bitnet_core.text import flat

Wire = Literal["openai", "anthropic", "gemini", "transformers"]
Logprobs = Literal["yes", "no", "per model"]


@dataclass(frozen=True)
class Provider:
    """One value of PROVIDER and TEACHER_PROVIDER."""

    name: str
    label: str
    base_url: str
    """The usual address; empty where only the user knows it, or where there is none."""
    note: str
    source: str
    """Where the facts of this row come from, and their date."""
    wire: Wire = "openai"
    logprobs: Logprobs = "per model"
    max_top_logprobs: int | None = None
    """None: unknown, or set on the server."""
    seeds: bool = False
    """Accepts OpenAI's `seed` field."""
    local: bool = False
    """Usually runs on the user's own machine or network."""
    token_ids: bool = False
    limit_field: str = "max_tokens"
    """The request field that limits the length of the answer."""
    integer_logprobs: bool = False
    """Its `logprobs` field is the number of candidates, not a flag."""
    usage_in_stream: bool = True
    """Accepts OpenAI's `stream_options`, which ask for token counts in a stream."""
    scores: bool = False
    """Gives the logprobs of an answer that it did not write."""
    own_sampling: Mapping[str, float] = field(default_factory=dict)
    """Sampling that the server applies unless told otherwise: the fields, with the values that switch it off."""

    @property
    def key_setting(self) -> str:
        return "HF_TOKEN" if self.name == "hf" else f"{self.name.upper()}_API_KEY"

    @property
    def model_setting(self) -> str:
        return f"{self.name.upper()}_MODEL"

    @property
    def base_url_setting(self) -> str:
        return f"{self.name.upper()}_BASE_URL"

    def key_settings(self, *, own: bool) -> tuple[str, ...]:
        """The settings that may hold its key, the strongest first; `own`: whether it is the teacher's provider."""
        if self.name == "embedded":
            return ()
        return ("TEACHER_API_KEY", self.key_setting) if own else (self.key_setting,)

    @property
    def loads_first(self) -> bool:
        """Whether it may be the user's own server, which loads its model at the first request."""
        return self.local or self.name == "custom"

    @property
    def needs_key(self) -> bool:
        return not self.loads_first


_LLAMA_CPP_SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
"""llama-server's own defaults are 0.8, 0.95, 40 and 0.05 (tools/server/README.md, 2026-10)."""
_VLLM_SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""vLLM takes its defaults from the model's generation_config.json (its documentation, `--generation-config`)."""

_ALL = (
    Provider(
        "embedded",
        "Embedded SmolLM2-135M",
        "",
        logprobs="yes",
        max_top_logprobs=100,
        note="Runs on this machine through llama.cpp; no key, no cost; downloaded once (93 MB).",
        source="measured with xllamacpp 2026.10",
        seeds=True,
        local=True,
        token_ids=True,
        own_sampling=_LLAMA_CPP_SAMPLING,
        scores=True,
    ),
    Provider(
        "hf",
        "Hugging Face transformers",
        "",
        wire="transformers",
        logprobs="yes",
        note="A model in this process, on the GPU if there is one; logprobs are exact over the whole vocabulary.",
        source="computed here",
        seeds=True,
        local=True,
        token_ids=True,
        scores=True,
    ),
    Provider(
        "openai",
        "OpenAI",
        "https://api.openai.com/v1",
        max_top_logprobs=20,
        note="GPT-4o and 4.1 families give logprobs; reasoning models refuse them.",
        source="openai 3.54 (SDK types), 2026-11",
        seeds=True,
        limit_field="max_completion_tokens",
    ),
    Provider(
        "anthropic",
        "Anthropic",
        "https://api.anthropic.com/v1",
        wire="anthropic",
        logprobs="no",
        note="No logprobs: only for chat and the baseline.",
        source="anthropic 2.12 (SDK types), 2026-11",
    ),
    Provider(
        "groq",
        "Groq",
        "https://api.groq.com/openai/v1",
        logprobs="no",
        note="No logprobs: only for chat and the baseline.",
        source="console.groq.com/docs/openai, 2026-11",
        seeds=True,
    ),
    Provider(
        "aimlapi",
        "AI/ML API",
        "https://api.aimlapi.com/v1",
        note="Depends on the model behind it; probed before anything is spent.",
        source="not documented",
    ),
    Provider(
        "gemini",
        "Gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        wire="gemini",
        max_top_logprobs=20,
        note="Some models give logprobs, newer ones often don't; probed before anything is spent.",
        source="google-genai 3.4 (SDK types), 2026-11",
        token_ids=True,
    ),
    Provider(
        "deepseek",
        "DeepSeek",
        "https://api.deepseek.com/v1",
        max_top_logprobs=20,
        note="Gives logprobs when the model does not think first, so thinking is switched off.",
        source="client libraries, 2026-11; the maximum is not documented",
    ),
    Provider(
        "mistral",
        "Mistral",
        "https://api.mistral.ai/v1",
        note="Depends on the model; probed before anything is spent.",
        source="mistralai 3.7 (SDK types), 2026-11",
        usage_in_stream=False,
    ),
    Provider(
        "together",
        "Together",
        "https://api.together.xyz/v1",
        max_top_logprobs=20,
        note="Depends on the model; probed before anything is spent.",
        source="togethercomputer/openapi, 2026-11",
        seeds=True,
        integer_logprobs=True,
    ),
    Provider(
        "fireworks",
        "Fireworks",
        "https://api.fireworks.ai/inference/v1",
        logprobs="yes",
        max_top_logprobs=5,
        note="At most 5 candidates a step.",
        source="client libraries, 2026-11; the maximum is not documented",
    ),
    Provider(
        "openrouter",
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        max_top_logprobs=20,
        note="Gives what the provider behind it gives; some omit logprobs without saying so.",
        source="user reports, 2026-11",
        seeds=True,
    ),
    Provider(
        "vllm",
        "vLLM server",
        "http://127.0.0.1:8000/v1",
        logprobs="yes",
        note="Your own server; its --max-logprobs sets the maximum (20 by default).",
        source="vLLM's documentation, 2026-11",
        seeds=True,
        local=True,
        own_sampling=_VLLM_SAMPLING,
        scores=True,
    ),
    Provider(
        "llamacpp",
        "llama.cpp server",
        "http://127.0.0.1:8080/v1",
        logprobs="yes",
        max_top_logprobs=100,
        note="Your own llama-server; gives token ids and exact bytes.",
        source="measured with xllamacpp 2026.10",
        seeds=True,
        local=True,
        token_ids=True,
        own_sampling=_LLAMA_CPP_SAMPLING,
    ),
    Provider(
        "ollama",
        "Ollama server",
        "http://127.0.0.1:11434/v1",
        logprobs="yes",
        max_top_logprobs=20,
        note="Your own Ollama; logprobs need a version of 2026 or later.",
        source="ollama#18579, 2026-11",
        seeds=True,
        local=True,
    ),
    Provider(
        "custom",
        "OpenAI-compatible server",
        "",
        note="Any server with /chat/completions; name it in CUSTOM_BASE_URL.",
        source="found by the probe",
    ),
)

PROVIDERS: dict[str, Provider] = {provider.name: provider for provider in _ALL}

_NOT_RECOMMENDED = frozenset({"aimlapi", "custom"})
"""What is behind them is not documented, so no error message recommends them."""


def profile(name: str) -> Provider:
    """The provider of this name. BitnetError names the others."""
    if name not in PROVIDERS:
        raise BitnetError(f"{flat(name) or 'An empty name'} is not a provider; choose one of {', '.join(PROVIDERS)}.")
    return PROVIDERS[name]


def recommended_for_logprobs(besides: str = "") -> str:
    """The providers known to give logprobs, in words; `besides` is one that was just found not to."""
    able = [one for one in _ALL if one.name not in {besides, *_NOT_RECOMMENDED}]
    always = ", ".join(one.name for one in able if one.logprobs == "yes")
    sometimes = ", ".join(one.name for one in able if one.logprobs == "per model")
    return f"{always}; or some models of {sometimes}"
