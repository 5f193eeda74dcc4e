"""Training against a plain PyTorch trainer of the same student: ratios of supervised tokens/s and of peak memory.

    python benchmarks/bench_train.py [--presets nano mini] [--rounds 3] [--compile]

The plain trainer is the obvious first version: every linear quantises its weight and input at each call, sequences
are padded to the longest of a shuffled batch, all logits [B, T, V] exist, and AdamW is torch's default. Both train
on the same synthetic sequences, with the same number per step. Each measurement runs in a fresh process; the variants
take turns, and the best round of each counts. The bound is the time of the matmuls of our batches, head included.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bitnet_core.model.integers import Codes
from bitnet_core.model.layers import BitLinear, FeedForward, RMSNorm
from bitnet_core.model.precision import pick_precision
from bitnet_core.model.presets import preset
from bitnet_core.model.quant import quantize_activation, quantize_weight
from bitnet_core.model.student import Student
from bitnet_core.settings.values import DeviceOptions, LossWeights, TrainOptions
from bitnet_core.traces.dataset import TraceSequence
from bitnet_core.traces.examples import Batch, Examples, collate
from bitnet_core.training.batches import Sampler
from bitnet_core.training.step import Stepper

VOCAB, CANDIDATES, ROWS, MAX_LEN = 49152, 20, 4, 256
STEPS = {"nano": 6, "mini": 2}
GOALS = {"nano": 2.2, "mini": 1.25}
MEMORY_GOAL = 0.65
WEIGHTS = LossWeights()


def sequences(count: int = 160) -> list[TraceSequence]:
    """Lengths as in traces of a small chat model: prompts of 20 to 60 tokens, answers of 20 to 200, most about 90."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        prompt = int(rng.integers(20, 60))
        completion = int(np.clip(rng.lognormal(math.log(90), 0.6), 20, 200))
        ids_C1 = rng.integers(0, VOCAB - CANDIDATES, (completion, 1))
        logits_CK = np.sort(rng.normal(0, 2, (completion, CANDIDATES + 1)), axis=1)[:, ::-1]
        logprobs_CK = logits_CK - np.log(np.exp(logits_CK).sum(axis=1, keepdims=True))
        found.append(
            TraceSequence(
                prompt_idx=number,
                prompt_text="",
                completion_text="",
                prompt_ids_P=rng.integers(0, VOCAB, prompt).astype(np.int32),
                completion_ids_C=ids_C1[:, 0].astype(np.int32),
                topk_ids_CK=(ids_C1 + np.arange(CANDIDATES)).astype(np.int32),
                topk_logprobs_CK=logprobs_CK[:, :CANDIDATES].astype(np.float32),
                other_logprob_C=logprobs_CK[:, CANDIDATES].astype(np.float32),
                kd_valid_C=np.ones(completion, bool),
                is_struct_C=rng.random(completion) < 0.1,
                heldout=False,
                finish_reason="stop",
                sequence_hash="",
            )
        )
    return found


class PlainLinear(BitLinear):
    """Quantises weight and input at every call, with the detach form of the straight-through estimator."""

    def quantize_input(self, x: Tensor) -> Tensor:
        return x

    def project(self, x_q: Tensor | Codes) -> Tensor:
        assert isinstance(x_q, Tensor)  # `quantize_input` gives nothing else
        x_q = x_q + (quantize_activation(x_q, 8) - x_q).detach()
        weight = self.weight + (quantize_weight(self.weight) - self.weight).detach()
        return F.linear(x_q, weight)


class PlainNorm(RMSNorm):
    """With autograd's own backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


class PlainFeedForward(FeedForward):
    def forward(self, x_BTD: Tensor) -> Tensor:
        gated = F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD)
        out: Tensor = self.down_proj(self.ffn_sub_norm(gated))
        return out


_PLAIN = {BitLinear: PlainLinear, RMSNorm: PlainNorm, FeedForward: PlainFeedForward}


def plain_student(student: Student) -> Student:
    """The same parameters in modules written the obvious way."""
    for module in student.modules():
        module.__class__ = _PLAIN.get(type(module), type(module))
    return student


def plain_loss(logits_BTV: Tensor, batch: Batch) -> Tensor:
    log_probs = torch.log_softmax(logits_BTV.flatten(0, 1), dim=-1)[batch.positions_N]
    targets = batch.targets
    picked = log_probs.gather(1, targets.topk_ids_NK)
    tail = log_probs.scatter(1, targets.topk_ids_NK, float("-inf")).logsumexp(dim=1, keepdim=True)
    teacher = torch.cat((targets.topk_logprobs_NK, targets.other_logprob_N[:, None]), dim=1)
    log_q = torch.log_softmax(teacher / WEIGHTS.tau, dim=1)
    log_p = torch.log_softmax(torch.cat((picked, tail), dim=1) / WEIGHTS.tau, dim=1)
    kl = WEIGHTS.tau**2 * (log_q.exp() * (log_q - log_p)).sum(dim=1).mean()
    nll = -log_probs.gather(1, targets.observed_N[:, None]).squeeze(1)
    return kl + WEIGHTS.ce * nll.mean() + WEIGHTS.format * (nll * targets.is_struct_N).mean()


Step = Callable[[], int]


def ours(student: Student, examples: Examples, compiled: bool) -> Step:
    """Packed rows, one quantisation per weight and step, the fused loss, fused AdamW: the code of the stage.

    Its precision is its own choice, too: fp32, with bf16 matmuls where the CPU has tiles for them.
    """
    options = TrainOptions(batch_size=ROWS, max_seq_len=MAX_LEN, compiled=compiled)
    cpu = torch.device("cpu")
    stepper = Stepper(student, options, cpu, pick_precision(DeviceOptions(), cpu))
    sampler = Sampler(examples, ROWS, 0, MAX_LEN, shape=(ROWS, MAX_LEN) if compiled else None)

    def step() -> int:
        result = stepper.step([sampler.next()], 1e-4)
        assert result.finite
        return result.tokens

    return step


def plain(student: Student, examples: Examples) -> Step:
    student = plain_student(student)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, betas=(0.9, 0.95))
    order = np.random.default_rng(0).permutation(len(examples)).tolist()
    size = sequences_a_batch(examples)
    place = 0

    def step() -> int:
        nonlocal place
        chosen = [examples[order[(place + n) % len(order)]] for n in range(size)]
        place += size
        batch = collate(chosen)
        optimizer.zero_grad()
        loss = plain_loss(student.logits(student(batch.ids_BT)), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        assert math.isfinite(loss.item())
        return batch.counts.ce

    return step


def sequences_a_batch(examples: Examples) -> int:
    """As many sequences as one of our packed batches holds on average."""
    return max(1, round(ROWS * MAX_LEN / float(examples.lengths_S.mean())))


def bound(student: Student, examples: Examples) -> Step:
    """Only the matmuls of our batches."""
    sampler = Sampler(examples, ROWS, 0, MAX_LEN)
    weights = [linear.weight.detach() for linear in student.bit_linears()]
    head_VD = student.output_weight.detach()

    def three(x_MI: Tensor, weight_OI: Tensor) -> None:
        y_MO = x_MI @ weight_OI.T
        _ = y_MO @ weight_OI, y_MO.T @ x_MI

    def step() -> int:
        batch = sampler.next()
        for weight_OI in weights:
            three(torch.ones(batch.ids_BT.numel(), weight_OI.shape[1]), weight_OI)
        for start in range(0, batch.counts.ce, 128):
            three(torch.ones(min(128, batch.counts.ce - start), head_VD.shape[1]), head_VD)
        return batch.counts.ce

    return step


def measure(variant: str, name: str) -> dict[str, float]:
    """In this process: supervised tokens/s after a warm-up, and the peak of the whole process."""
    torch.manual_seed(0)
    examples = Examples(sequences(), MAX_LEN)
    student = Student(preset(name, VOCAB, max_positions=MAX_LEN))
    step = {
        "plain": lambda: plain(student, examples),
        "ours": lambda: ours(student, examples, compiled=False),
        "compiled": lambda: ours(student, examples, compiled=True),
        "bound": lambda: bound(student, examples),
    }[variant]()
    started = time.perf_counter()
    step()
    first = time.perf_counter() - started
    best = 0.0
    for _ in range(2):
        started, tokens = time.perf_counter(), 0
        for _ in range(STEPS[name]):
            tokens += step()
        best = max(best, tokens / (time.perf_counter() - started))
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"tokens_per_s": best, "peak": peak, "first_step_s": first}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--compile", action="store_true", help="also with torch.compile; the first time takes minutes"
    )
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure)))
        return
    variants = ["plain", "ours", *(["compiled"] if args.compile else []), "bound"]
    for name in args.presets:
        found: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
        for _ in range(args.rounds):
            for variant in variants:
                argv = [sys.executable, __file__, "--measure", variant, name]
                done = subprocess.run(argv, check=True, capture_output=True, text=True)
                found[variant].append(json.loads(done.stdout.splitlines()[-1]))
        rate = {variant: max(one["tokens_per_s"] for one in rows) for variant, rows in found.items()}
        peak = {variant: min(one["peak"] for one in rows) for variant, rows in found.items()}
        print(
            f"{name}: {ROWS} rows of {MAX_LEN}, V {VOCAB}, {torch.get_num_threads()} threads, best of {args.rounds}"
        )
        for variant in variants:
            memory = "" if variant == "bound" else f"  {peak[variant] / 1e9:5.2f} GB"
            print(f"  {variant:9} {rate[variant]:8.0f} supervised tokens/s{memory}")
        for variant in variants[1:-1]:
            print(
                f"  {variant} / plain: {rate[variant] / rate['plain']:.2f}x tokens/s (goal {GOALS[name]}), "
                f"{peak[variant] / peak['plain']:.2f}x memory (goal {MEMORY_GOAL}), "
                f"{rate[variant] / rate['bound']:.2f} of the matmul bound"
            )
        if args.compile:
            first = [f"{one['first_step_s']:.0f} s" for one in found["compiled"]]
            print(f"  first compiled step: {', '.join(first)}")


if __name__ == "__main__":
    main()
