"""The providers' table: complete, honest, and light."""

import subprocess
import sys

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.settings import registry as settings
from bitnet_core.teachers.profiles import PROVIDERS, names_with_logprobs, profile, supported_names, who_has_logprobs


def test_it_has_every_provider_that_settings_take_and_their_settings_exist() -> None:
    assert set(PROVIDERS) == set(settings.PROVIDERS)
    for provider in PROVIDERS.values():
        if provider.name == "embedded":
            continue
        assert provider.key_setting in settings.REGISTRY
        assert provider.model_setting in settings.REGISTRY
        if provider.name != "hf":
            assert provider.base_url_setting in settings.REGISTRY


@pytest.mark.parametrize("name", ["unheard-of", ""])
def test_what_does_not_work_yet_is_refused_with_what_does(name: str) -> None:
    with pytest.raises(BitnetError, match="embedded, hf, openai") as caught:
        profile(name)
    assert str(caught.value).endswith("custom.")


def test_recommendations_work_today_and_begin_with_the_sure_ones() -> None:
    names = names_with_logprobs()
    assert names[0] == "embedded"
    assert set(names) <= set(supported_names())
    assert not {"groq", "anthropic", "custom", "aimlapi"} & set(names)


def test_what_only_some_models_have_is_not_promised_of_all() -> None:
    told = who_has_logprobs("vllm")
    sure, some = told.split("; or some models of ")
    assert sure == "embedded, hf, fireworks, llamacpp, ollama"
    assert "openai" in some
    assert "vllm" not in told


def test_every_fact_has_a_source() -> None:
    assert all(provider.source and provider.note for provider in PROVIDERS.values())


def test_it_is_light() -> None:
    code = (
        "import sys, bitnet_core.teachers.profiles as t; print([m for m in sys.modules if m in sys.argv[1].split()])"
    )
    heavy = "httpx stamina torch transformers pyarrow numpy tokenizers"
    told = subprocess.run([sys.executable, "-c", code, heavy], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
