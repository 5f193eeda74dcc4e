"""Forward passes at two activation widths, measured and compared: the dry run's figures, tables and report.

Shapes: B sequences, T tokens, D hidden, N positions, V vocabulary.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.layer_check import LayerCheck, check_layer, last_layer_watched
from bitnet_core.evaluation.memory import Peak, peak_rss
from bitnet_core.evaluation.random_student import LOGIT_BYTES, OnLayer, build, component_bytes
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.process import rss_bytes
from bitnet_core.settings.values import DryRunOptions

MEMORY_COLUMNS = ["memory", "bytes", "origin", "how"]
PASSES_COLUMNS = [
    *("pass", "seconds", "tokens/s", "finite", "layer's error"),
    *("hidden states differ by (random weights)", "other top-1 tokens (random weights)"),
]
PARTS = 3
"""Building and two passes: each goes through all layers once."""


@dataclass(frozen=True)
class Pass:
    """One forward pass, logits included. `peak_bytes` is the peak of this process, or of the GPU if it runs there."""

    bits: int
    seconds: float
    peak_bytes: int
    peak_how: str
    hidden_BTD: Tensor
    top1_BT: Tensor
    check: LayerCheck


def forward(student: Student, ids_BT: Tensor, bits: int, on_layer: OnLayer = lambda _done: None) -> Pass:
    """Run, measure and check one pass. `on_layer` may raise.

    BitnetError if a hidden state or logit is not finite, or the pass was at another width (`check_layer`).
    """
    device = student.output_weight.device
    student.activation_bits = bits
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    with (
        peak_rss() as peak,
        torch.inference_mode(),
        _layers_counted(student, on_layer),
        last_layer_watched(student) as seen,
    ):
        started = time.perf_counter()
        hidden_BTD = student(ids_BT)
        finite, top1 = bool(hidden_BTD.isfinite().all()), []
        rows_ND = hidden_BTD.flatten(0, 1)
        for rows_nD in rows_ND.split(max(1, LOGIT_BYTES // (4 * student.config.vocab_size))):
            logits_nV = student.logits(rows_nD)
            finite &= bool(logits_nV.isfinite().all())
            top1.append(logits_nV.argmax(dim=-1))
        seconds = time.perf_counter() - started
    if not finite:
        raise BitnetError(f"The forward pass at A{bits} gave values that are not finite; report this shape as a bug.")
    return Pass(
        bits=bits,
        seconds=seconds,
        peak_bytes=torch.cuda.max_memory_allocated(device) if cuda else peak.bytes,
        peak_how="torch's allocator on the GPU" if cuda else peak.how,
        hidden_BTD=hidden_BTD,
        top1_BT=torch.cat(top1).view(ids_BT.shape),
        check=check_layer(student, seen, bits),
    )


@contextmanager
def _layers_counted(student: Student, on_layer: OnLayer) -> Iterator[None]:
    """Report each finished layer inside the block. Hooks do that, so that the forward pass stays that of training."""
    handles = [
        layer.register_forward_hook(lambda *_, done=place + 1: on_layer(done))
        for place, layer in enumerate(student.model.layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Difference:
    """How two passes differ: the relative distance of the hidden states, the share of differing top-1 tokens."""

    relative: float
    other_top1: float


def compare(first: Pass, second: Pass) -> Difference:
    gap = (first.hidden_BTD - second.hidden_BTD).norm() / first.hidden_BTD.norm()
    return Difference(float(gap), float((first.top1_BT != second.top1_BT).double().mean()))


@dataclass(frozen=True)
class DryRun:
    """A student built and run once at each width. `resident_before`: the process's bytes before it was built."""

    wanted: StudentConfig
    config: StudentConfig
    device: torch.device
    tokens: int
    resident_before: int
    build_seconds: float
    build_peak: Peak
    components: dict[str, int]
    first: Pass
    second: Pass
    difference: Difference

    @property
    def weights_bytes(self) -> int:
        return sum(self.components.values())

    @property
    def peak_bytes(self) -> int:
        """The most memory at any time: while building and in both passes; on a GPU, in the passes."""
        passes = max(self.first.peak_bytes, self.second.peak_bytes)
        return passes if self.device.type == "cuda" else max(passes, self.build_peak.bytes)


def dry_run(
    wanted: StudentConfig,
    config: StudentConfig,
    options: DryRunOptions,
    device: torch.device,
    progress: Callable[[str], OnLayer],
) -> DryRun:
    """Build the student `config` and run it at both widths; `progress` gives the callback for each part of the work.

    Raises BitnetError when a pass was at another width than it should be, or both give the same output.
    """
    before = rss_bytes()
    with peak_rss() as building:
        started = time.perf_counter()
        student = build(config, options.seed, device, progress("build"))
        build_seconds = time.perf_counter() - started
    shape = options.batch_size, options.seq_len
    generator = torch.Generator().manual_seed(options.seed)
    ids_BT = torch.randint(config.vocab_size, shape, generator=generator).to(device)
    first, second = (
        forward(student, ids_BT, bits, progress(f"forward {place} at A{bits}"))
        for place, bits in enumerate((options.first_bits, options.second_bits), start=1)
    )
    difference = compare(first, second)
    if first.bits != second.bits and difference.relative == 0:
        raise BitnetError(f"A{first.bits} and A{second.bits} gave the same output; report this shape as a bug.")
    return DryRun(
        wanted=wanted,
        config=config,
        device=device,
        tokens=ids_BT.numel(),
        resident_before=before,
        build_seconds=build_seconds,
        build_peak=building,
        components=component_bytes(student),
        first=first,
        second=second,
        difference=difference,
    )


def memory_table(found: DryRun) -> list[list[Any]]:
    """Rows under MEMORY_COLUMNS."""
    exact = "bytes of the tensors"
    first, second, build = found.first, found.second, found.build_peak
    in_fp32 = f"4 bytes a weight, {found.config.num_hidden_layers} layers"
    return [
        *([part, size, "measured", exact] for part, size in found.components.items()),
        ["all weights", found.weights_bytes, "measured", exact],
        ["process before building", found.resident_before, "measured", "resident"],
        ["peak while building", build.bytes, "measured", build.how],
        [f"peak of the pass at A{first.bits}", first.peak_bytes, "measured", first.peak_how],
        [f"peak of the pass at A{second.bits}", second.peak_bytes, "measured", second.peak_how],
        ["the same in fp32", 4 * found.config.parameters(), "computed", in_fp32],
    ]


def passes_table(found: DryRun) -> list[list[Any]]:
    """Rows under PASSES_COLUMNS: the second pass says how it differs from the first."""
    differences = [round(found.difference.relative, 5), round(found.difference.other_top1, 4)]
    return [
        [f"A{one.bits}", round(one.seconds, 3), round(found.tokens / one.seconds, 1), True, one.check.error, *others]
        for one, others in ((found.first, [None, None]), (found.second, differences))
    ]


def record(found: DryRun, options: DryRunOptions) -> dict[str, Any]:
    """The report of the dry run."""
    parameters, build = found.config.parameters(), found.build_peak
    return {
        "version": 1,
        "shape": found.config.to_dict(),
        "wanted_layers": found.wanted.num_hidden_layers,
        "downgraded": found.config != found.wanted,
        "parameters": parameters,
        "device": str(found.device),
        "threads": torch.get_num_threads(),
        "batch_size": options.batch_size,
        "sequence_length": options.seq_len,
        "weights": "random ternary codes at 2 bits, embedding and norms fp32",
        "components_bytes": found.components,
        "weights_bytes": found.weights_bytes,
        "fp32_weights_bytes": 4 * parameters,
        "bf16_weights_bytes": 2 * parameters,
        "rss_before_bytes": found.resident_before,
        "build": {"seconds": found.build_seconds, "peak_rss_bytes": build.bytes, "how": build.how},
        "passes": [
            {
                "activation_bits": one.bits,
                "seconds": one.seconds,
                "tokens_per_s": found.tokens / one.seconds,
                "peak_bytes": one.peak_bytes,
                "origin": "measured",
                "how": one.peak_how,
                "layer_check": asdict(one.check),
            }
            for one in (found.first, found.second)
        ],
        "peak_bytes": {"bytes": found.peak_bytes, "origin": "measured", "how": found.first.peak_how},
        "finite": True,
        "difference": {
            "weights": "random: it shows that both widths ran, and says nothing about quality",
            "hidden_relative": found.difference.relative,
            "other_top1_share": found.difference.other_top1,
        },
    }
