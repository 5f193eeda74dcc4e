"""Stage `dryrun`: one forward pass of a 7B student at A8 and at A4, with what it takes. Thin."""

import time
from collections.abc import Callable
from typing import Any

import torch

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.evaluation.dryrun import (
    Difference,
    Pass,
    build,
    compare,
    components,
    feed_forward_size,
    fit,
    forward,
    needed_bytes,
)
from bitnet_core.evaluation.memory import available_bytes, peak_rss
from bitnet_core.model.config import SIZE_MULTIPLE, StudentConfig
from bitnet_core.model.precision import pick_device
from bitnet_core.process import rss_bytes
from bitnet_core.runs.context import StageContext
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import DeviceOptions

REPORT = "dryrun_7b_memory.json"
VOCABULARY = 32_000
_LEAST_POSITIONS = 2048
_GIGABYTE = 1e9


def run(ctx: StageContext) -> dict[str, Any]:
    """Build, run twice, measure; write `reports/dryrun_7b_memory.json` and the table memory."""
    settings = ctx.settings
    device = torch.device("cpu") if settings.bool("DRYRUN_FORCE_CPU") else pick_device(DeviceOptions.of(settings))
    batch, length = settings.int("DRYRUN_BATCH_SIZE"), settings.int("DRYRUN_SEQ_LEN")
    wanted = _shape(settings)
    config = _what_fits(ctx, wanted, batch * length, device)
    bits = settings.int("DRYRUN_ACT_BITS_START"), settings.int("DRYRUN_ACT_BITS_AFTER")
    layers, seed = config.num_hidden_layers, settings.int("SEED")
    before = rss_bytes()
    with peak_rss() as building:
        started = time.perf_counter()
        student = build(config, seed, device, _progress(ctx, layers, "build"))
        build_s = time.perf_counter() - started
    ids_BT = torch.randint(VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed)).to(device)
    first, second = (
        forward(student, ids_BT, width, _progress(ctx, layers, f"forward {place} at A{width}"))
        for place, width in enumerate(bits, start=1)
    )
    difference = compare(first, second)
    if bits[0] != bits[1] and difference.relative == 0:
        raise BitnetError(f"A{bits[0]} and A{bits[1]} gave the same output; report this shape as a bug.")
    parts = dict(components(student))
    on_device = device.type == "cuda"
    peak = max([p.peak_bytes for p in (first, second)] + ([] if on_device else [building.bytes]))
    report = {
        "version": 1,
        "shape": config.to_dict(),
        "wanted_layers": wanted.num_hidden_layers,
        "downgraded": config != wanted,
        "parameters": config.parameters(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "batch_size": batch,
        "sequence_length": length,
        "weights": "random ternary codes at 2 bits, embedding and norms fp32",
        "components_bytes": parts,
        "weights_bytes": sum(parts.values()),
        "fp32_weights_bytes": 4 * config.parameters(),
        "bf16_weights_bytes": 2 * config.parameters(),
        "rss_before_bytes": before,
        "build": {"seconds": build_s, "peak_rss_bytes": building.bytes, "how": building.how},
        "passes": [_pass_record(one, batch * length) for one in (first, second)],
        "peak_bytes": {"bytes": peak, "origin": "measured", "how": first.peak_how},
        "finite": True,
        "difference": {"hidden_relative": difference.relative, "other_top1_share": difference.other_top1},
    }
    ctx.table("memory", ["memory", "bytes", "origin", "how"], _rows(report, first, second))
    ctx.table("passes", *_passes_table(first, second, difference, batch * length))
    ctx.report(REPORT, report)
    return {
        "parameters": config.parameters(),
        "layers": layers,
        "downgraded": config != wanted,
        "weights_bytes": report["weights_bytes"],
        "peak_bytes": peak,
        "seconds": {f"A{one.bits}": one.seconds for one in (first, second)},
        "hidden_difference": difference.relative,
    }


def _shape(settings: Settings) -> StudentConfig:
    dim, heads = settings.int("DRYRUN_DIM"), settings.int("DRYRUN_HEADS")
    head_dim = settings.int("DRYRUN_HEAD_DIM")
    if dim % SIZE_MULTIPLE:
        raise UsageError(f"DRYRUN_DIM is {dim}; give a multiple of {SIZE_MULTIPLE}.")
    if heads * head_dim != dim or head_dim % 2:
        raise UsageError(
            f"DRYRUN_HEADS × DRYRUN_HEAD_DIM is {heads} × {head_dim}; it must be DRYRUN_DIM, {dim}, "
            "with an even head size."
        )
    return StudentConfig(
        vocab_size=VOCABULARY,
        hidden_size=dim,
        intermediate_size=feed_forward_size(dim),
        num_hidden_layers=settings.int("DRYRUN_LAYERS"),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max(_LEAST_POSITIONS, settings.int("DRYRUN_SEQ_LEN")),
    )


def _what_fits(ctx: StageContext, wanted: StudentConfig, tokens: int, device: torch.device) -> StudentConfig:
    """The wanted shape, or fewer layers of it with an alert, or a refusal before anything is allocated."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_bytes()
    share = ctx.settings.float("DRYRUN_MAX_ALLOC_FRAC")
    room = int(free * share)
    needed = needed_bytes(wanted, tokens)
    ctx.log(
        f"{wanted.parameters():,} parameters need about {needed / _GIGABYTE:.2f} GB packed "
        f"({4 * wanted.parameters() / _GIGABYTE:.1f} GB in fp32); {room / _GIGABYTE:.2f} GB may be used."
    )
    ctx.log("The weights are random: A4 and A8 differing shows that both really ran, and says nothing of quality.")
    if needed <= room:
        return wanted
    short = f"{needed / _GIGABYTE:.2f} GB are needed and {room / _GIGABYTE:.2f} GB may be used"
    smaller = fit(wanted, tokens, room)
    if smaller is None or not ctx.settings.bool("DRYRUN_ALLOW_DOWNGRADE"):
        raise BitnetError(
            f"The dry run doesn't fit: {short} (DRYRUN_MAX_ALLOC_FRAC={share:g} of what is free); "
            "close other programs, or set a smaller DRYRUN_LAYERS or DRYRUN_DIM."
        )
    ctx.alert(
        "warning",
        "dryrun_downgraded",
        f"{short}, so only {smaller.num_hidden_layers} of {wanted.num_hidden_layers} layers are built.",
        "The figures are of the smaller shape; close other programs for the whole one.",
    )
    return smaller


def _progress(ctx: StageContext, layers: int, label: str) -> Callable[[int], None]:
    def on_layer(done: int) -> None:
        ctx.check_stop()
        ctx.progress(done, layers, "layers", label)

    return on_layer


def _pass_record(one: Pass, tokens: int) -> dict[str, Any]:
    return {
        "activation_bits": one.bits,
        "seconds": one.seconds,
        "tokens_per_s": tokens / one.seconds,
        "peak_bytes": one.peak_bytes,
        "origin": "measured",
        "how": one.peak_how,
    }


def _rows(report: dict[str, Any], first: Pass, second: Pass) -> list[list[Any]]:
    exact = "bytes of the tensors"
    rows: list[list[Any]] = [[part, size, "measured", exact] for part, size in report["components_bytes"].items()]
    rows.append(["all weights", report["weights_bytes"], "measured", exact])
    rows.append(["process before building", report["rss_before_bytes"], "measured", "resident"])
    rows.append(["peak while building", report["build"]["peak_rss_bytes"], "measured", report["build"]["how"]])
    rows += [
        [f"peak of the pass at A{one.bits}", one.peak_bytes, "measured", one.peak_how] for one in (first, second)
    ]
    layers = report["shape"]["num_hidden_layers"]
    rows.append(["the same in fp32", report["fp32_weights_bytes"], "computed", f"4 bytes a weight, {layers} layers"])
    return rows


def _passes_table(
    first: Pass, second: Pass, difference: Difference, tokens: int
) -> tuple[list[str], list[list[Any]]]:
    columns = ["pass", "seconds", "tokens/s", "finite", "hidden states differ by", "other top-1 tokens"]
    rows: list[list[Any]] = [
        [f"A{first.bits}", round(first.seconds, 3), round(tokens / first.seconds, 1), True, None, None]
    ]
    rows.append(
        [
            f"A{second.bits}",
            round(second.seconds, 3),
            round(tokens / second.seconds, 1),
            True,
            round(difference.relative, 5),
            round(difference.other_top1, 4),
        ]
    )
    return columns, rows
