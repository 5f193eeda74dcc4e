"""Stage `train`: traces in, a student's checkpoints out. It wires traces, model and trainer together."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bitnet_core.errors import BitnetError
from bitnet_core.model.config import A4_POLICIES, StudentConfig
from bitnet_core.model.precision import configure, pick_device, pick_precision
from bitnet_core.model.presets import student_config
from bitnet_core.model.student import Student
from bitnet_core.pretrained.choose import open_source
from bitnet_core.pretrained.embedding import EmbeddingStart
from bitnet_core.pretrained.source import tokens_of
from bitnet_core.pretrained.start import SMALLER_MODEL, SMALLER_SHAPE, WarmStart, require_room
from bitnet_core.pretrained.wanted import wanted
from bitnet_core.runs.catalog import HALF_MADE
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.resuming import RANDOM_START
from bitnet_core.settings.values import (
    DataOptions,
    DeviceOptions,
    StudentOptions,
    TeacherOptions,
    TrainOptions,
)
from bitnet_core.stages.online import open_online
from bitnet_core.stages.relations import open_relations
from bitnet_core.teachers.opening import fetch_progress
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.examples import Examples
from bitnet_core.traces.places import tokenizer as tokenizer_folder
from bitnet_core.training import checkpoints
from bitnet_core.training.report import commonest_token_agreement, training_table
from bitnet_core.training.trainer import Trainer

_OF_LAYERS = {"STUDENT_INIT_FIT_STEPS": "fit_steps", "STUDENT_INIT_EMBEDDING": "embedding"}
"""The fields of a start for what is asked of the layers that are kept."""


def run(ctx: StageContext) -> dict[str, Any]:
    """Train the student that the settings describe, or resume its training."""
    options, data = TrainOptions.of(ctx.settings), DataOptions.of(ctx.settings)
    health = checkpoints.newest_health(ctx.experiment.checkpoints)
    ctx.resumes = bool(health) or ctx.experiment.holds(HALF_MADE)
    hardware = DeviceOptions.of(ctx.settings)
    device = pick_device(hardware)
    configure(hardware)
    folder = data.path or ctx.experiment.data
    traces = load_traces(folder, data.top_k, _shard_progress(ctx))
    if traces.cut_by_filter:
        ctx.log(f"{traces.cut_by_filter} answers that a content filter cut are left out of the training.")
    shape, start = _student(ctx, health), _start(ctx, folder, health)
    if start is None:
        config = student_config(shape, traces.vocab_size, options.max_seq_len)
    else:
        resumed = _resumed_shape(health, start, shape, options.max_seq_len)
        config = resumed or start.shape(shape, traces.vocab_size, options.max_seq_len)
    require_room(config, device, fix=SMALLER_MODEL if isinstance(start, WarmStart) else SMALLER_SHAPE)
    teacher = open_online(ctx, folder, Examples(traces.sequences, options.max_seq_len), config, device)
    relations = open_relations(ctx, start, config, device, health)
    torch.manual_seed(options.seed)
    trainer = Trainer(
        Student(config),
        traces,
        options,
        folder=ctx.experiment.checkpoints,
        device=device,
        precision=pick_precision(hardware, device),
        first_weights=start,
        teacher=teacher,
        relations=relations,
    )
    summary = trainer.run(ctx)
    commonest = commonest_token_agreement(traces)
    ctx.table("training", *training_table(trainer.state.evaluations, commonest))
    return summary | {"heldout_agreement_commonest_token": commonest}


def _student(ctx: StageContext, health: Mapping[str, Any]) -> StudentOptions:
    """The student of the settings. A policy that is not set stays that of the checkpoints, also of older versions."""
    options, config = StudentOptions.of(ctx.settings), health.get("config")
    if "A4_POLICY" in ctx.settings.origins or not isinstance(config, dict):
        return options
    kept = config.get("a4_policy", "all")
    return replace(options, a4_policy=kept) if kept in A4_POLICIES else options


def _start(ctx: StageContext, folder: Path, health: Mapping[str, Any]) -> WarmStart | EmbeddingStart | None:
    """The start of the settings. What an older version did not note of a training is as then, unless it is set."""
    found = wanted(TrainOptions.of(ctx.settings).init, TeacherOptions.of(ctx.settings))
    if found is None:
        return None
    made = _settings_of_start(health)
    unknown = _OF_LAYERS.keys() - _recorded_start(health).keys() - ctx.settings.origins.keys()
    if (older := replace(found, **{_OF_LAYERS[name]: made[name] for name in unknown})).settings() == made:
        found = older
    return (EmbeddingStart if found.embedding_alone else WarmStart)(
        found,
        partial(open_source, found, fetch_progress(ctx), ctx.secret("HF_TOKEN")),
        lambda: tokens_of(load_tokenizer(tokenizer_folder(folder)).definition),
    )


def _settings_of_start(health: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the start that the checkpoints came from, also of older versions; a random one without them."""
    return RANDOM_START | _recorded_start(health)


def _recorded_start(health: Mapping[str, Any]) -> dict[str, Any]:
    """Those of them that the checkpoints name."""
    origin = health.get("origin")
    settings = origin.get("settings") if isinstance(origin, dict) else None
    return settings if isinstance(settings, dict) else {}


def _resumed_shape(
    health: Mapping[str, Any], start: WarmStart | EmbeddingStart, options: StudentOptions, max_seq_len: int
) -> StudentConfig | None:
    """The shape of the checkpoints of this start, for which the source need not be there any more; else None."""
    if _settings_of_start(health) != start.settings:
        return None
    try:
        there = StudentConfig.from_dict(health["config"])
    except (BitnetError, KeyError, AttributeError):
        return None
    return start.resumed_shape(there, options, max_seq_len)


def _shard_progress(ctx: StageContext) -> Callable[[int, int], None]:
    def on_shard(done: int, shards: int) -> None:
        ctx.check_stop()
        if shards > 1:
            ctx.progress(done, shards, "shards", "checking the traces")

    return on_shard
