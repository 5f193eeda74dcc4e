"""Stage `train`: traces in, a student's checkpoints out. Thin: it wires traces, model and trainer together."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.precision import configure, pick_device, pick_precision, prepare_compiler
from bitnet_core.model.presets import preset
from bitnet_core.model.student import Student
from bitnet_core.runs.context import StageContext
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import DeviceOptions
from bitnet_core.traces.dataset import TraceSet, load_traces, top1_counts
from bitnet_core.traces.examples import Cuts, prepare
from bitnet_core.training.flip import flip_report
from bitnet_core.training.options import TrainOptions
from bitnet_core.training.trainer import Trainer

# Rotary positions cost nothing, and answers may be longer than training sequences.
_LEAST_POSITIONS = 2048


def run(ctx: StageContext) -> dict[str, Any]:
    """Train, or go on training, the student that the settings describe."""
    settings = ctx.settings
    options = TrainOptions.from_settings(settings)
    compute = DeviceOptions.of(settings)
    device = pick_device(compute)
    precision = pick_precision(compute, device)
    configure(compute)
    if options.compiled:
        prepare_compiler()
    data = settings.maybe_path("KD_DATA_PATH") or ctx.experiment.data
    traces = load_traces(data, settings.int("MAX_TOPK"), _telling(ctx))
    train, held_out = traces.split()
    train_examples, cuts = prepare(train, options.max_seq_len)
    held_out_examples, _ = prepare(held_out, options.max_seq_len)
    _tell_cuts(ctx, cuts, options.max_seq_len)
    if not held_out:
        ctx.alert(
            "warning",
            "no_heldout",
            "The traces hold one prompt only, so nothing can be measured on held-out ones.",
            "Collect more prompts (KD_NUM_PROMPTS).",
        )
    torch.manual_seed(options.seed)
    trainer = Trainer(
        ctx,
        Student(student_config(settings, traces.vocab_size)),
        train_examples,
        held_out_examples,
        options,
        device=device,
        precision=precision,
        tokenizer_hash=traces.tokenizer_hash,
    )
    trainer.resume()
    summary = trainer.run()
    commonest = commonest_token_agreement(traces)
    ctx.table("training", *training_table(trainer.evaluations, commonest))
    return summary | {"heldout_agreement_commonest_token": commonest}


def student_config(settings: Settings, vocab_size: int) -> StudentConfig:
    """The shape that MINI_PRESET and the MINI_* sizes ask for."""
    return preset(
        settings.text("MINI_PRESET"),
        vocab_size,
        max_positions=max(_LEAST_POSITIONS, settings.int("MAX_SEQ_LEN")),
        hidden_size=settings.maybe_int("MINI_DIM"),
        layers=settings.maybe_int("MINI_LAYERS"),
        heads=settings.maybe_int("MINI_HEADS"),
        head_dim=settings.maybe_int("MINI_HEAD_DIM"),
        profile=settings.text("STUDENT_PROFILE"),
        hadamard=settings.bool("STUDENT_HADAMARD"),
    )


def commonest_token_agreement(traces: TraceSet) -> float | None:
    """Agreement of always answering the teacher's commonest top-1 token of the train side: chance, made strong."""
    common_V, found_V = (top1_counts(side, traces.vocab_size) for side in traces.split())
    return float(found_V[common_V.argmax()] / found_V.sum()) if common_V.any() and found_V.any() else None


def training_table(
    evaluations: Sequence[dict[str, Any]], commonest: float | None
) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: held-out figures at the start, around the flip and at the end, and the flip's shock."""
    columns = ["when", "step", "seen tokens", "bits", "held-out loss", "KL", "CE", "top-1 agreement"]
    keys = ["when", "step", "seen_tokens", "activation_bits"]
    figures = ["heldout_loss", "heldout_kl", "heldout_ce", "heldout_agreement"]
    shown = [row for row in evaluations if row["when"] not in ("checkpoint", "recovery")]
    chosen = {row["when"]: row for row in shown}  # the latest of each
    rows = [[row.get(key) for key in keys + figures] for row in sorted(chosen.values(), key=_order)]
    report = flip_report(evaluations)
    if report:
        after, recovered = chosen["after flip"], report["flip_recovered_after_tokens"]
        rows.append(["flip shock", after["step"], after["seen_tokens"], None, report["flip_shock"], None, None, None])
        rows.append(["tokens to recover", None, recovered, None, None, None, None, None])
    if commonest is not None:
        rows.append(["commonest token", None, None, None, None, None, None, commonest])
    return columns, rows


def _order(row: dict[str, Any]) -> tuple[int, int]:
    return row["step"], ["start", "before flip", "after flip", "end"].index(row["when"])


def _telling(ctx: StageContext) -> Callable[[int, int], None]:
    def between(done: int, shards: int) -> None:
        ctx.check_stop()
        if shards > 1:
            ctx.progress(done, shards, "shards", "checking the traces")

    return between


def _tell_cuts(ctx: StageContext, cuts: Cuts, max_len: int) -> None:
    if cuts.completions:
        ctx.log(
            f"MAX_SEQ_LEN={max_len} cut the end of {cuts.completions} completions "
            f"({cuts.completion_tokens} supervised tokens)."
        )
    if cuts.prompts:
        ctx.alert(
            "warning",
            "prompts_cut",
            f"MAX_SEQ_LEN={max_len} cut the beginning of {cuts.prompts} prompts ({cuts.prompt_tokens} tokens).",
            "Raise MAX_SEQ_LEN so that the student reads the whole prompt.",
        )
