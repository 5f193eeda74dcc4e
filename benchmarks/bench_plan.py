"""`bitnet plan` against real trainings: predicted over measured peak memory and tokens/s. The goal is 0.75 to 1.25.

    python benchmarks/bench_plan.py [--rounds 3] [--steps 6]

Beside other programs, `OMP_NUM_THREADS=1` makes the speeds comparable: two threads wait for the slower one at every
matmul, and lose more time than the other programs take.

Each case is planned and trained in processes of their own, by turns, on the same synthetic traces: the plan times its
few steps anew, the training is a `Trainer` with evaluations, a checkpoint and the flip. Measured are VmHWM of the
training's process and the median seconds of its steps after the first two, by the clock and in processor time; the
tokens are those of an average step.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import bench_train
import torch

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.precision import pick_precision
from bitnet_core.model.presets import preset
from bitnet_core.model.student import Student
from bitnet_core.planning import probe
from bitnet_core.planning.batches import batches_of
from bitnet_core.planning.memory import Batch, checkpoint_bytes, training_bytes
from bitnet_core.process import PATIENT_THREADS, peak_rss_bytes, rss_bytes
from bitnet_core.runs.events import Event, Metric
from bitnet_core.settings.values import DeviceOptions, FlipOptions, TrainOptions
from bitnet_core.traces.dataset import TraceSequence, TraceSet
from bitnet_core.training.trainer import Trainer

CPU = torch.device("cpu")
SHOWN = (
    ("peak", "MB", 1e6),
    ("tokens_per_s", "tokens/s", 1.0),
    ("tokens_per_processor_s", "tokens/s", 1.0),
    ("checkpoint", "MB", 1e6),
)
EIGHT_LAYERS = preset("nano", 8192, layers=8, max_positions=128)
CASES = {
    "nano, 4 × 256: the head is most of it": (preset("nano", 49152, max_positions=256), 4, 256, False),
    "mini, 2 × 128: the linears are": (preset("mini", 49152, max_positions=128), 2, 128, False),
    "8 layers of nano, 8 × 128: the activations are": (EIGHT_LAYERS, 8, 128, False),
    "the same, which computes them again": (EIGHT_LAYERS, 8, 128, True),
    "3 layers of smollm2-135m, 1 × 256: the embedding is most of it, and is kept": (
        replace(preset("smollm2-135m", 49152, layers=3, max_positions=256), embedding_type="Q4_0"),
        1,
        256,
        False,
    ),
}


def traces(vocabulary: int) -> TraceSet:
    """Every tenth sequence is held out."""
    bench_train.VOCAB = vocabulary
    found = [
        TraceSequence(**{**vars(one), "heldout": place % 10 == 0, "sequence_hash": f"{place:064x}"})
        for place, one in enumerate(bench_train.sequences())
    ]
    return TraceSet(found, vocabulary, 20, "tokenizer", "template", "teacher")


def options_of(rows: int, length: int, steps: int, *, recompute: bool) -> TrainOptions:
    flip = FlipOptions(budget_tokens=1 << 40, fraction=0.0)
    return TrainOptions(
        batch_size=rows,
        max_seq_len=length,
        recompute=recompute,
        total_steps=steps,
        log_interval=1,
        checkpoint_interval=steps,  # one, at the end: in the processor time of a few steps it would count for half
        flip=flip,
    )


def planned(config: StudentConfig, options: TrainOptions) -> dict[str, float]:
    precision = pick_precision(DeviceOptions(), CPU)
    sampler = batches_of(traces(config.vocab_size), options, config.vocab_size, 20)
    program = rss_bytes()
    step = probe.step_seconds(config, probe.Work(sampler, options, CPU, precision), again=True)
    batch = Batch(options.batch_size, options.max_seq_len)
    tensors = training_bytes(config, batch, narrow=False, device_type="cpu", recompute=options.recompute)["peak"]
    return {
        "peak": program + step["memory_factor"] * tensors,
        "tensors": tensors,
        "factor": step["memory_factor"],
        "tokens_per_s": step["supervised_per_step"] / step["seconds"],
        "tokens_per_processor_s": step["supervised_per_step"] / step["processor_seconds"],
        "checkpoint": checkpoint_bytes(config),
    }


def trained(config: StudentConfig, options: TrainOptions) -> dict[str, float]:
    seconds: list[float] = []
    seen, used = [0], [time.process_time()]

    def on_event(event: Event) -> None:
        if isinstance(event, Metric) and isinstance(event.seen_tokens, int) and isinstance(event.tokens_per_s, float):
            seconds.append((event.seen_tokens - seen[-1]) / event.tokens_per_s)
            seen.append(event.seen_tokens)
            used.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(Student(config), traces(config.vocab_size), options, folder=Path(folder), device=CPU)
        trainer.run(on_event)
        largest = max(path.stat().st_size for path in Path(folder).glob("*.pt"))
    processor = [later - earlier for earlier, later in pairwise(used)]
    # A few steps have more or fewer tokens than the average one, and take as long.
    tokens = trainer.sampler.mean_supervised
    return {
        "peak": peak_rss_bytes(),
        "tokens_per_s": tokens / statistics.median(seconds[2:]),
        "tokens_per_processor_s": tokens / statistics.median(processor[2:]),
        "checkpoint": largest,
    }


def in_process(what: str, case: str, steps: int) -> dict[str, float]:
    import os

    argv = [sys.executable, __file__, "--measure", what, case, "--steps", str(steps)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env=os.environ | PATIENT_THREADS)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        what, case = args.measure
        config, rows, length, recompute = CASES[case]
        work = {"plan": planned, "train": trained}[what]
        print(json.dumps(work(config, options_of(rows, length, args.steps, recompute=recompute))))
        return
    for case in CASES:
        plans, runs = [], []
        for _ in range(args.rounds):
            plans.append(in_process("plan", case, args.steps))
            runs.append(in_process("train", case, args.steps))
        plan, run = (
            {name: statistics.median(one[name] for one in many) for name in many[0]} for many in (plans, runs)
        )
        print(f"{case}; {args.rounds} rounds of {args.steps} steps, {torch.get_num_threads()} threads")
        print(f"  tensors by the formula {plan['tensors'] / 1e6:.0f} MB, allocator × {plan['factor']:.2f}")
        for name, unit, scale in SHOWN:
            ratio = plan[name] / run[name]
            said = "" if 0.75 <= ratio <= 1.25 else "  (outside the goal)"
            print(
                f"  {name:22} planned {plan[name] / scale:8.1f} {unit}, measured {run[name] / scale:8.1f} {unit}: "
                f"{ratio:.2f}{said}"
            )


if __name__ == "__main__":
    main()
