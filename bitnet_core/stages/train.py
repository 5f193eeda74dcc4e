"""Stage `train`: traces in, a student's checkpoints out. It wires traces, model and trainer together."""

from collections.abc import Callable
from typing import Any

import torch

from bitnet_core.model.precision import configure, pick_device, pick_precision
from bitnet_core.model.presets import student_config
from bitnet_core.model.student import Student
from bitnet_core.runs.context import StageContext
from bitnet_core.settings.values import DataOptions, DeviceOptions, StudentOptions, TrainOptions
from bitnet_core.traces.dataset import load_traces
from bitnet_core.training.report import commonest_token_agreement, training_table
from bitnet_core.training.trainer import Trainer


def run(ctx: StageContext) -> dict[str, Any]:
    """Train the student that the settings describe, or resume its training."""
    options, data = TrainOptions.of(ctx.settings), DataOptions.of(ctx.settings)
    hardware = DeviceOptions.of(ctx.settings)
    device = pick_device(hardware)
    configure(hardware)
    traces = load_traces(data.path or ctx.experiment.data, data.top_k, _shard_progress(ctx))
    torch.manual_seed(options.seed)
    student = Student(student_config(StudentOptions.of(ctx.settings), traces.vocab_size, options.max_seq_len))
    trainer = Trainer(
        student,
        traces,
        options,
        folder=ctx.experiment.checkpoints,
        device=device,
        precision=pick_precision(hardware, device),
    )
    summary = trainer.run(ctx)
    commonest = commonest_token_agreement(traces)
    ctx.table("training", *training_table(trainer.state.evaluations, commonest))
    return summary | {"heldout_agreement_commonest_token": commonest}


def _shard_progress(ctx: StageContext) -> Callable[[int, int], None]:
    def on_shard(done: int, shards: int) -> None:
        ctx.check_stop()
        if shards > 1:
            ctx.progress(done, shards, "shards", "checking the traces")

    return on_shard
