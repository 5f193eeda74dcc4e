"""A source in a folder of transformers: `config.json`, safetensors and a tokenizer. It runs no code from there."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.files import require_regular
from bitnet_core.model.config import StudentConfig
from bitnet_core.pretrained.located import configuration
from bitnet_core.pretrained.source import HEAD, DoesNotFit, Source, Unchanged, require_tensors, shape_of, tokens_of
from bitnet_core.teachers.hf.files import content_hash
from bitnet_core.tokenizer.load import load_tokenizer

_KINDS = ("llama", "mistral")
_ANY_TEMPLATE = "{{ messages }}"
"""Models that don't chat have none, and only their vocabulary is read here."""
_TYPES = ("F32", "F16", "BF16")
_BUFFER = "rotary_emb.inv_freq"
"""Older files keep what rope_theta already says."""


def open_folder(folder: Path, name: str, fix: str) -> Source:
    """Read the configuration, the headers of the weights and the vocabulary.

    DoesNotFit for another kind of model, BitnetError for files that are missing or damaged.
    """
    files = _weight_files(folder)
    unchanged = Unchanged([folder / "config.json", *files])
    config = _config(folder, name)
    where = _where(files, folder, name)
    shape = _shape(name, config)
    require_tensors(name, {own: size for own, (_, size) in where.items()}, shape)
    tokens = tokens_of(load_tokenizer(folder, _ANY_TEMPLATE, fix=fix).definition)

    def read(own: str) -> Tensor:
        with _weights(where[own][0]) as file:
            return file.get_tensor(own).to(torch.float32, copy=True)  # type: ignore[no-any-return]

    tied = HEAD not in where or config.get("tie_word_embeddings") is True
    return Source(name, shape, tied, tokens, unchanged.checked(read), unchanged.checked(lambda: content_hash(folder)))


def configured_shape(folder: Path, name: str) -> StudentConfig:
    """The shape that the configuration says, without a look at the weights. Errors as of `open_folder`."""
    return _shape(name, _config(folder, name))


def _shape(name: str, config: dict[str, Any]) -> StudentConfig:
    return shape_of(name, _shape_values(name, config))


def _config(folder: Path, name: str) -> dict[str, Any]:
    config = configuration(folder)
    if not isinstance(config, dict) or config.get("model_type") not in _KINDS:
        kind = config.get("model_type") if isinstance(config, dict) else None
        raise DoesNotFit(name, f"its model_type is {kind!r:.40}")
    for key in ("attention_bias", "mlp_bias", "quantization_config"):
        if config.get(key):
            raise DoesNotFit(name, f"it has {key}")
    return config


def _shape_values(name: str, config: dict[str, Any]) -> dict[str, Any]:
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type", "default")) != "default":
        raise DoesNotFit(name, "its rotary positions are scaled")
    if type(heads) is not int or type(hidden) is not int or heads < 1:
        raise DoesNotFit(name, f"it has {heads!r:.20} heads in a width of {hidden!r:.20}")
    width = config.get("head_dim") or hidden // heads
    if type(width) is not int or width * heads != hidden:
        raise DoesNotFit(name, f"its {heads} heads of {config.get('head_dim')!r:.20} are not as wide as {hidden}")
    if config.get("hidden_act", "silu") != "silu":
        raise DoesNotFit(name, f"its activation is {config['hidden_act']!r:.20}")
    positions, window = config.get("max_position_embeddings"), config.get("sliding_window")
    if window is not None and (type(window) is not int or window < 1):
        raise DoesNotFit(name, f"its sliding_window is {window!r:.20}")
    if type(positions) is int and window is not None:
        positions = min(positions, window)  # up to there, a sliding window sees everything
    return {
        "vocab_size": config.get("vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": config.get("intermediate_size"),
        "num_hidden_layers": config.get("num_hidden_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": config.get("num_key_value_heads") or heads,
        "max_position_embeddings": positions,
        "rope_theta": rope.get("rope_theta", config.get("rope_theta", 10_000.0)),
        "rms_norm_eps": config.get("rms_norm_eps", 1e-6),
    }


def _weight_files(folder: Path) -> list[Path]:
    one = folder / "model.safetensors"
    return [one] if one.is_file() else sorted(folder.glob("model-*.safetensors"))


def _where(parts: list[Path], folder: Path, name: str) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """The file and shape of every tensor. BitnetError for one that two files hold."""
    if not parts:
        raise BitnetError(f"{folder} holds no model.safetensors; convert its weights to safetensors.")
    found: dict[str, tuple[Path, tuple[int, ...]]] = {}
    for path in parts:
        with _weights(path) as file:
            for own in file.keys():  # noqa: SIM118 - a safetensors file is not a dict
                piece = file.get_slice(own)
                if piece.get_dtype() not in _TYPES and not own.endswith(_BUFFER):
                    raise DoesNotFit(name, f"{own:.80} is of type {piece.get_dtype()}")
                if own in found:
                    both = f"{found[own][0].name} and {path.name} in {folder}"
                    raise BitnetError(f"{both} both hold {own:.80}; leave the files of one model there.")
                found[own] = path, tuple(piece.get_shape())
    return {own: place for own, place in found.items() if not own.endswith(_BUFFER)}


def _weights(path: Path) -> Any:
    """An open safetensors file, to be closed by `with`; BitnetError for a damaged one, or a pipe in its place."""
    require_regular(path)  # the library would wait for what a pipe gives
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise BitnetError(f"{path} is not a whole safetensors file ({error!s:.200}); download it again.") from error
