"""The source that a training keeps beside the student, so that its last layer relates tokens as the source's does."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from bitnet_core.errors import BitnetError
from bitnet_core.model.config import StudentConfig
from bitnet_core.pretrained.embedding import EmbeddingStart
from bitnet_core.pretrained.start import WarmStart, require_room, source_bytes, source_student
from bitnet_core.runs.context import StageContext
from bitnet_core.settings.values import LossWeights
from bitnet_core.training.relations import Relations


def open_relations(
    ctx: StageContext,
    start: WarmStart | EmbeddingStart | None,
    config: StudentConfig,
    device: torch.device,
    health: Mapping[str, Any],
) -> Relations | None:
    """The relations of the source, if the settings want them; `health` is that of the newest checkpoint.

    The source is read up to the last layer that the student began with. BitnetError if it is not what the training
    began with, or if there is no room for it beside a student of `config`.
    """
    weight = LossWeights.of(ctx.settings).relation
    if not weight or not isinstance(start, WarmStart):
        return None
    source, layers = start.source, start.kept[-1] + 1
    origin = health.get("origin")
    if isinstance(origin, dict) and origin.get("settings") == start.settings and origin["sha256"] != source.sha256():
        raise BitnetError(
            f"{source.name} has changed since the training began, and ATTENTION_RELATION_WEIGHT compares with it; get"
            " its files of then, set ATTENTION_RELATION_WEIGHT=0, or use another experiment (--root)."
        )
    beside = source_bytes(replace(source.shape, num_hidden_layers=layers))
    require_room(
        config, device, source.name, beside, fix="set ATTENTION_RELATION_WEIGHT=0, or choose a smaller student"
    )
    ctx.progress(0, None, "models", f"loading {source.name}")
    relations = Relations(source_student(source, layers).to(device), weight)
    ctx.log(
        f"The student's last layer learns to relate tokens as layer {start.kept[-1]} of {source.name} does, which "
        f"reads each batch as well (ATTENTION_RELATION_WEIGHT={weight:g})."
    )
    return relations
