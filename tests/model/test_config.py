"""Shapes and presets, and the errors for sizes that don't fit together."""

import dataclasses

import pytest

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.presets import preset
from bitnet_core.settings.presets import OWN_WEIGHTS, PLANNED, TRAINED, own_weights


def test_presets_have_the_published_shapes() -> None:
    nano = preset("nano", 49152, max_positions=256)
    assert (nano.hidden_size, nano.num_hidden_layers, nano.intermediate_size, nano.head_dim) == (256, 4, 768, 64)
    mini = preset("mini", 49152, max_positions=256)
    assert (mini.hidden_size, mini.num_hidden_layers, mini.intermediate_size, mini.head_dim) == (768, 12, 3072, 64)
    big = preset("7b", 32000, max_positions=2048)
    assert 6.5e9 < big.parameters() < 7e9


@pytest.mark.parametrize(
    ("name", "vocabulary", "published"),
    [
        ("smollm2-135m", 49_152, 134_515_008),
        ("360m", 49_152, 361_821_120),
        ("1b", 128_256, 1_235_814_400),
        ("2b4t", 128_256, 2_412_820_480),
    ],
)
def test_presets_of_known_models_have_their_number_of_parameters(name: str, vocabulary: int, published: int) -> None:
    """A student has two norms a layer besides a Llama's; those of 2B4T are in its own number."""
    config = preset(name, vocabulary)
    more = config.num_hidden_layers * (config.hidden_size + config.intermediate_size)
    assert config.parameters() - (0 if name == "2b4t" else more) == published


def test_every_named_preset_has_a_shape() -> None:
    assert [preset(name, 1000).vocab_size for name in PLANNED] == [1000] * len(PLANNED)
    assert set(OWN_WEIGHTS) < set(TRAINED) < set(PLANNED)


def test_a_preset_names_the_model_whose_shape_it_is() -> None:
    assert own_weights("smollm2-135m", "embedded") == "teacher"
    assert own_weights("smollm2-135m", "openai") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert own_weights("360m", "embedded") == "HuggingFaceTB/SmolLM2-360M-Instruct"
    assert own_weights("nano", "embedded") == own_weights("2b4t", "hf") == ""


def test_profiles_only_differ_in_the_activation() -> None:
    portable, b158 = (preset("nano", 1000, max_positions=64, profile=name) for name in ("portable", "b158"))
    assert (portable.hidden_act, b158.hidden_act) == ("silu", "relu2")
    assert dataclasses.replace(b158, hidden_act="silu") == portable
    assert (portable.rope_theta, portable.rms_norm_eps, portable.hadamard) == (500_000.0, 1e-5, False)


def test_own_sizes_replace_the_presets() -> None:
    config = preset("nano", 1000, max_positions=64, heads=8, head_dim=64, layers=3)
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (512, 3, 1536)
    assert preset("mini", 1000, max_positions=64, hidden_size=512, head_dim=32).num_attention_heads == 16
    assert preset("mini", 1000, max_positions=64, hidden_size=256, heads=4).intermediate_size == 1024
    assert preset("smollm2-135m", 1000, layers=2).num_key_value_heads == 3
    assert preset("smollm2-135m", 1000, heads=6).num_key_value_heads == 2  # three heads to each, as in the preset
    assert preset("smollm2-135m", 1000, heads=8).num_key_value_heads == 8
    assert preset("nano", 1000, hidden_size=320).hidden_size == 320


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 300}, "multiple of 64"),
        ({"hidden_size": 512, "heads": 3}, "MINI_HEADS"),
        ({"hidden_size": 512, "heads": 4, "head_dim": 64}, "MINI_HEADS × MINI_HEAD_DIM"),
        ({"head_dim": 96}, "MINI_HEAD_DIM"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        preset("nano", 1000, max_positions=64, **options)
    with pytest.raises(UsageError, match="nano, mini, smollm2-135m"):
        preset("giant", 1000, max_positions=64)


def test_the_dictionary_is_a_bitnet_config_and_reads_back(config: StudentConfig) -> None:
    from transformers import BitNetConfig

    assert StudentConfig.from_dict(config.to_dict()) == config
    theirs = BitNetConfig(**config.to_dict())
    assert theirs.tie_word_embeddings
    assert theirs.rope_parameters["rope_theta"] == config.rope_theta
    assert StudentConfig.from_dict(theirs.to_dict() | {"rope_theta": config.rope_theta}) == config


def test_foreign_configurations_are_refused(config: StudentConfig) -> None:
    with pytest.raises(BitnetError, match="llama"):
        StudentConfig.from_dict(config.to_dict() | {"model_type": "llama"})
    with pytest.raises(BitnetError, match="untied"):
        StudentConfig.from_dict(config.to_dict() | {"tie_word_embeddings": False})
    with pytest.raises(BitnetError, match="num_key_value_heads"):
        StudentConfig.from_dict(config.to_dict() | {"num_key_value_heads": 3})
    for missing in ("vocab_size", "num_key_value_heads", "max_position_embeddings"):
        given = {name: value for name, value in config.to_dict().items() if name != missing}
        with pytest.raises(BitnetError, match=f"configuration is incomplete: {missing} is missing"):
            StudentConfig.from_dict(given)


ODD = ("x" * 5000, [5] * 5000, None, True, -1, 0, 10**5000, float("nan"), float("inf"))


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize(
    "name",
    [
        *("vocab_size", "hidden_size", "num_hidden_layers", "num_key_value_heads", "max_position_embeddings"),
        *("rope_theta", "rms_norm_eps", "hidden_act", "a4_policy", "embedding_type", "model_type"),
    ],
)
def test_a_value_of_another_program_is_named_in_one_short_sentence(name: str, odd: object) -> None:
    sound = preset("nano", 1000, max_positions=64).to_dict()
    with pytest.raises(BitnetError, match=name) as caught:
        StudentConfig.from_dict({**sound, name: odd})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("odd", ["yes", 1, None, "x" * 5000], ids=range(4))
def test_a_switch_of_another_program_is_named(odd: object) -> None:
    sound = preset("nano", 1000, max_positions=64).to_dict()
    with pytest.raises(BitnetError, match=r"hadamard is .*; it is true or false") as caught:
        StudentConfig.from_dict({**sound, "hadamard": odd})
    assert len(str(caught.value)) < 200
