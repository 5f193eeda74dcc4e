"""The teacher's own model on this machine, to be asked while training: what it takes, and its weights when wanted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from bitnet_core.files.wheels import Progress
from bitnet_core.pretrained.choose import open_source, planned_shape
from bitnet_core.pretrained.source import tokens_of
from bitnet_core.pretrained.wanted import Wanted, online_teacher
from bitnet_core.settings.values import TeacherOptions
from bitnet_core.teachers.embedded import files as embedded
from bitnet_core.teachers.identity import Identity

if TYPE_CHECKING:
    from bitnet_core.teachers.hf.states import HiddenStates


@dataclass(frozen=True)
class TeacherModel:
    """A model whose weights are not loaded yet. `parameters` and `hidden_size` come from its headers alone."""

    identity: Identity
    dtype: torch.dtype
    parameters: int
    hidden_size: int
    positions: int | None
    """The longest text that it reads, in tokens; None if it says none."""
    is_here: bool
    """Whether its weights are on this machine, so that `load` downloads nothing."""
    tokens: Callable[[], Mapping[int, str]]
    """The spellings of its vocabulary, by id."""
    load: Callable[[], Any]
    """The model of transformers, on any device."""

    @property
    def weight_bytes(self) -> int:
        return self.parameters * self.dtype.itemsize

    def states(self, device: torch.device, vocabulary: int) -> "HiddenStates":
        """Its weights on the device, ready to be asked; `vocabulary` is the student's."""
        from bitnet_core.teachers.hf.states import HiddenStates  # only here: transformers takes seconds to import

        return HiddenStates(self.identity.model, self.load().to(device), vocabulary)


def teacher_model(
    options: TeacherOptions, device: torch.device, progress: Progress | None = None, token: str | None = None
) -> TeacherModel:
    """The model of the settings; `token` is the hub's.

    UsageError for one whose weights are elsewhere, BitnetError if its files are missing or damaged.
    """
    identity = online_teacher(options)
    from bitnet_core.teachers.hf.model import pick_dtype  # only here: transformers takes seconds to import

    dtype = pick_dtype(options, device)
    if identity.provider.name == "embedded":
        return _embedded(identity, dtype, progress)
    return _transformers(identity, options, dtype, device, token)


def _embedded(identity: Identity, dtype: torch.dtype, progress: Progress | None) -> TeacherModel:
    """The embedded teacher's weights, dequantised: llama.cpp gives no whole distributions."""
    from bitnet_core.pretrained.llama import as_llama

    wanted = Wanted("", "")
    shape = planned_shape(wanted)
    source = cache(lambda: open_source(wanted, progress))
    return TeacherModel(
        identity,
        dtype,
        parameters=shape.parameters(),
        hidden_size=shape.hidden_size,
        positions=shape.max_position_embeddings,
        is_here=embedded.are_here(),
        tokens=lambda: source().tokens,
        load=lambda: as_llama(source(), dtype),
    )


def _transformers(
    identity: Identity, options: TeacherOptions, dtype: torch.dtype, device: torch.device, token: str | None
) -> TeacherModel:
    from bitnet_core.teachers.hf import files, model

    name = identity.model
    headers = files.headers(name, token)
    empty = model.unloaded(name, headers)
    return TeacherModel(
        identity,
        dtype,
        parameters=sum(int(parameter.numel()) for parameter in empty.parameters()),
        hidden_size=int(empty.get_input_embeddings().weight.shape[1]),
        positions=model.positions_of(empty),
        is_here=files.has_weights(headers),
        tokens=lambda: tokens_of(model.tokenizer_of(name, files.locate(name, token)).definition),
        load=lambda: model.load(name, options, device, token).model,
    )
