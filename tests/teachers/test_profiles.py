"""The table of providers: complete, honest and light."""

import subprocess
import sys

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.settings import registry
from bitnet_core.teachers.opening import WIRES
from bitnet_core.teachers.profiles import PROVIDERS, profile, recommended_for_logprobs


def test_the_registry_of_settings_has_the_same_providers_and_their_settings() -> None:
    """The names are written twice: settings may not import teachers."""
    assert tuple(PROVIDERS) == registry.PROVIDER_NAMES
    for provider in PROVIDERS.values():
        if provider.name == "embedded":
            continue
        assert provider.key_setting in registry.REGISTRY
        assert provider.model_setting in registry.REGISTRY
        if provider.name != "hf":
            assert provider.base_url_setting in registry.REGISTRY


def test_every_provider_has_a_wire_format() -> None:
    assert {provider.wire for provider in PROVIDERS.values()} - {"transformers"} == set(WIRES)


@pytest.mark.parametrize("name", ["unheard-of", ""])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(BitnetError, match="is not a provider; choose one of embedded, hf, openai") as caught:
        profile(name)
    assert str(caught.value).endswith(f"{registry.PROVIDER_NAMES[-1]}.")


def test_recommendations_tell_providers_that_always_have_logprobs_from_those_with_some_models() -> None:
    always, some = recommended_for_logprobs("vllm").split("; or some models of ")
    assert {"embedded", "hf", "fireworks", "llamacpp", "ollama"} <= set(always.split(", "))
    assert some.startswith("openai, gemini, deepseek, mistral")
    assert not {"groq", "anthropic", "custom", "aimlapi", "vllm"} & {*always.split(", "), *some.split(", ")}


def test_every_fact_has_a_source() -> None:
    assert all(provider.source and provider.note for provider in PROVIDERS.values())


def test_it_is_light() -> None:
    code = (
        "import sys, bitnet_core.teachers.profiles as t; print([m for m in sys.modules if m in sys.argv[1].split()])"
    )
    heavy = "httpx stamina torch transformers pyarrow numpy tokenizers"
    done = subprocess.run([sys.executable, "-c", code, heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
