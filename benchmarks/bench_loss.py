"""The fused loss against the same loss on materialised logits: ratios of time and of extra peak memory.

    python benchmarks/bench_loss.py [--vocab 49152] [--hidden 256 768] [--positions 1024] [--dtype bf16] [--repeats 5]

Without --dtype the plain variant computes in fp32 and the fused one in what training chooses for this CPU.
Times are the best of `repeats` interleaved runs of forward and backward, head matmul included, in this process;
memory is the growth of peak RSS in a fresh process for each variant.
"""

import argparse
import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import torch
from torch import Tensor

from bitnet_core.model.precision import pick_precision
from bitnet_core.settings.values import DeviceOptions, LossWeights
from bitnet_core.traces.examples import Counts, Targets
from bitnet_core.training.losses import distill_loss

CANDIDATES = 20
GOALS = {256: (3, 12), 768: (1.4, 5)}  # plain / fused in time and in extra peak memory, by hidden size
WEIGHTS = LossWeights()
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Problem = tuple[Tensor, Tensor, Targets, Counts]


def problem(vocab: int, hidden: int, positions: int) -> Problem:
    """Random states and teacher rows; the head has the size of a fresh student's."""
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocab - CANDIDATES, (positions, 1), generator=rng) + torch.arange(CANDIDATES)
    logprobs = torch.log_softmax(torch.randn(positions, CANDIDATES + 1, generator=rng) * 2, dim=1)
    top, _ = logprobs[:, :CANDIDATES].sort(dim=1, descending=True)
    targets = Targets(
        observed_N=ids[:, 0].clone(),
        topk_ids_NK=ids,
        topk_logprobs_NK=top,
        other_logprob_N=logprobs[:, CANDIDATES].clone(),
        kd_valid_N=torch.ones(positions, dtype=torch.bool),
        is_struct_N=torch.rand(positions, generator=rng) < 0.1,
    )
    counts = Counts(positions, positions, int(targets.is_struct_N.sum()))
    states = torch.randn(positions, hidden, generator=rng).requires_grad_()
    # In place: a temporary of this size would already be in the process's peak.
    head = torch.empty(vocab, hidden).normal_(0, 0.02, generator=rng).requires_grad_()
    return states, head, targets, counts


def plain_loss(states: Tensor, head: Tensor, targets: Targets, counts: Counts) -> Tensor:
    """The obvious version: all logits, log-softmax over the vocabulary, autograd."""
    logits = (states @ head.T).float()
    log_probs = torch.log_softmax(logits, dim=-1)
    picked = log_probs.gather(1, targets.topk_ids_NK)
    tail = log_probs.scatter(1, targets.topk_ids_NK, float("-inf")).logsumexp(dim=1, keepdim=True)
    teacher = torch.cat((targets.topk_logprobs_NK, targets.other_logprob_N[:, None]), dim=1)
    log_q = torch.log_softmax(teacher / WEIGHTS.tau, dim=1)
    log_p = torch.log_softmax(torch.cat((picked, tail), dim=1) / WEIGHTS.tau, dim=1)
    kl = WEIGHTS.tau**2 * (log_q.exp() * (log_q - log_p)).sum()
    nll = -log_probs.gather(1, targets.observed_N[:, None]).squeeze(1)
    structure = (nll * targets.is_struct_N).sum()
    return kl / counts.kd + (WEIGHTS.ce * nll.sum() + WEIGHTS.format * structure) / counts.ce


def fused_loss(states: Tensor, head: Tensor, targets: Targets, counts: Counts) -> Tensor:
    return distill_loss(states, head, targets, WEIGHTS, counts).total


VARIANTS: dict[str, Callable[[Tensor, Tensor, Targets, Counts], Tensor]] = {"plain": plain_loss, "fused": fused_loss}


def narrowed(variant: str, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[None]:
    if dtype is None and variant == "fused":
        return pick_precision(DeviceOptions(), torch.device("cpu")).matmuls()
    return contextlib.nullcontext()


def run(variant: str, given: Problem, dtype: torch.dtype | None) -> tuple[float, float]:
    """(seconds, loss) of one forward and backward pass."""
    states, head, targets, counts = given
    states.grad = head.grad = None
    begin = time.perf_counter()
    with narrowed(variant, dtype):
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            loss = VARIANTS[variant](states, head, targets, counts)
        torch.autograd.backward(loss)
    return time.perf_counter() - begin, loss.item()


def peak_growth(variant: str, hidden: int, args: argparse.Namespace) -> float:
    """MiB that the variant adds to the peak RSS of a fresh process which holds the problem."""
    sizes = [f"--vocab={args.vocab}", f"--positions={args.positions}", f"--hidden={hidden}"]
    sizes += [f"--dtype={args.dtype}"] if args.dtype else []
    done = subprocess.run(
        [sys.executable, __file__, *sizes, f"--memory-of={variant}"], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def print_peak_growth(variant: str, given: Problem, dtype: torch.dtype | None) -> None:
    before = psutil.Process().memory_info().rss
    run(variant, given, dtype)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is bytes there, KiB elsewhere
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before) / (1 << 20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocab", type=int, default=49152)
    parser.add_argument("--hidden", type=int, nargs="+", default=list(GOALS))
    parser.add_argument("--positions", type=int, default=1024)
    parser.add_argument("--dtype", choices=DTYPES)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    dtype = DTYPES[args.dtype] if args.dtype else None
    if args.memory_of:
        print_peak_growth(args.memory_of, problem(args.vocab, args.hidden[0], args.positions), dtype)
        return
    # Before this process grows: a child's peak starts at that of the parent it was forked from.
    memory = {hidden: {one: peak_growth(one, hidden, args) for one in VARIANTS} for hidden in args.hidden}
    for hidden in args.hidden:
        compare(hidden, memory[hidden], args, dtype)


def compare(hidden: int, memory: dict[str, float], args: argparse.Namespace, dtype: torch.dtype | None) -> None:
    """Time both variants in turns and print the ratios next to the goals for this size."""
    given = problem(args.vocab, hidden, args.positions)
    best = dict.fromkeys(VARIANTS, float("inf"))
    losses: dict[str, float] = {}
    for _ in range(args.repeats + 1):
        for variant in VARIANTS:
            seconds, losses[variant] = run(variant, given, dtype)
            best[variant] = min(best[variant], seconds)
    assert abs(losses["fused"] - losses["plain"]) < 1e-2 * losses["plain"], losses
    sizes = f"{args.positions} positions, D {hidden}, V {args.vocab}"
    print(f"{sizes}, {args.dtype or 'as training chooses'}, {torch.get_num_threads()} threads")
    for variant in VARIANTS:
        rate = args.positions / best[variant]
        print(f"{variant}: {best[variant] * 1e3:8.0f} ms  {rate:7.0f} positions/s  +{memory[variant]:6.0f} MiB peak")
    faster, smaller = best["plain"] / best["fused"], memory["plain"] / memory["fused"]
    time_goal, memory_goal = GOALS.get(hidden, ("-", "-"))
    print(f"plain / fused: {faster:.2f}x time (goal {time_goal}), {smaller:.1f}x memory (goal {memory_goal})")


if __name__ == "__main__":
    main()
