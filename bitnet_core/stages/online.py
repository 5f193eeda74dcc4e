"""The teacher of a training that asks it at every step: the model of the settings, loaded beside the student."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bitnet_core.errors import UsageError
from bitnet_core.model.config import StudentConfig
from bitnet_core.pretrained.choose import Wanted, open_source
from bitnet_core.pretrained.source import require_same_tokens, tokens_of
from bitnet_core.pretrained.start import require_room
from bitnet_core.runs.context import StageContext
from bitnet_core.settings.values import OnlineOptions, TeacherOptions
from bitnet_core.teachers.identity import Identity, identify
from bitnet_core.teachers.opening import fetch_progress
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.traces.places import tokenizer as tokenizer_folder
from bitnet_core.training.online import OnlineTeacher

_OTHERWISE = "train on its traces (TRAIN_ONLINE=0)"


def open_online(ctx: StageContext, data: Path, config: StudentConfig, device: torch.device) -> OnlineTeacher | None:
    """The teacher, if TRAIN_ONLINE wants one; `data` are the traces that it is asked about.

    UsageError for a teacher whose weights are elsewhere. BitnetError if its tokenizer is not that of the traces, or
    if there is no room for it beside a student of `config`; both before its weights are loaded.
    """
    if not OnlineOptions.of(ctx.settings).online:
        return None
    options = TeacherOptions.of(ctx.settings)
    identity = identify(options)
    embedded = identity.provider.name == "embedded"
    if not embedded and identity.provider.wire != "transformers":
        raise UsageError(
            f"TRAIN_ONLINE asks a teacher whose weights are on this machine, and {identity.model} is at "
            f"{identity.provider.name}; set TEACHER_PROVIDER=hf and a TEACHER_MODEL, or {_OTHERWISE}."
        )
    from bitnet_core.teachers.hf.model import pick_dtype  # only here: transformers takes seconds to import
    from bitnet_core.teachers.hf.states import HiddenStates

    ctx.progress(0, None, "models", f"loading {identity.model}")
    dtype = pick_dtype(options, device)
    found = _embedded(ctx, dtype) if embedded else _transformers(ctx, identity, options, dtype, device)
    tokenizer = load_tokenizer(tokenizer_folder(data))
    require_same_tokens(identity.model, found.tokens, tokens_of(tokenizer.definition), _OTHERWISE)
    require_room(config, device, found.weight_bytes)
    states = HiddenStates(identity.model, found.load().to(device), config.vocab_size)
    ctx.log(
        f"{identity.model} teaches online, in {str(dtype).removeprefix('torch.')} on {device}: its whole "
        "distribution at every position, on the held-out side too."
    )
    return OnlineTeacher(identity.origin, states, states.head_VE, tokenizer.eos_id)


class _Found(NamedTuple):
    """A model whose weights are not loaded yet."""

    tokens: Mapping[int, str]
    weight_bytes: int
    load: Callable[[], Any]


def _embedded(ctx: StageContext, dtype: torch.dtype) -> _Found:
    """The embedded teacher's weights, dequantised: llama.cpp gives no whole distributions."""
    from bitnet_core.pretrained.llama import as_llama

    source = open_source(Wanted("", ""), fetch_progress(ctx))
    weight_bytes = dtype.itemsize * source.shape.parameters()
    return _Found(source.tokens, weight_bytes, lambda: as_llama(source, dtype))


def _transformers(
    ctx: StageContext, identity: Identity, options: TeacherOptions, dtype: torch.dtype, device: torch.device
) -> _Found:
    from bitnet_core.teachers.hf import model
    from bitnet_core.teachers.hf.files import locate

    token = ctx.secret("HF_TOKEN")
    path = locate(identity.model, token)
    tokens = tokens_of(model.tokenizer_of(identity.model, path).definition)
    weight_bytes = model.weight_bytes(identity.model, path, dtype)
    return _Found(tokens, weight_bytes, lambda: model.load(identity.model, options, device, token).model)
