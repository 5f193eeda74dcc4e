"""A start from the teacher's weights against a random one, and what the flip costs by policy.

    python benchmarks/bench_warm.py --traces EXPERIMENT/data [--tokens 2000] [--seeds 1] [--layers 6] [--out FILE]

Every start has the same shape, traces, tokens and steps: `random`; `fitted` (STUDENT_INIT), fitted to the source in
--fit-steps, with an embedding that is trained (STUDENT_INIT_EMBEDDING=trained); `kept`, as `fitted` with the
embedding kept in Q5_0 (the default); `hadamard`, as `fitted` with rotated inputs of o and down (STUDENT_HADAMARD);
`relation`, as `fitted` with the attention relations of the source's last layer in the loss
(ATTENTION_RELATION_WEIGHT); `warm`, with layers as they are (STUDENT_INIT_FIT_STEPS=0); `unrotated`, as `warm` with
the outliers of the source's residual stream; `ones`, as `warm` with weights of 1 in the sub-norms; `ramp`, as
`warm`, becoming ternary over --ramp of the tokens before the flip (QUANT_RAMP_FRACTION; its KL at first is that of
full precision). Each is trained at A8 for --tokens supervised tokens and measured on held-out prompts. From that
very checkpoint each policy flips it and trains on for --after of the tokens: the shock is the held-out loss right
after the flip minus that before it, in nats.

With --out, each start of each seed is a line of that file as soon as it is measured, and what the file has already
is not measured again.

The teacher is the embedded one, and so are the traces: `bitnet collect --root EXPERIMENT --set KD_NUM_PROMPTS=1500`.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from bitnet_core.process import PATIENT_THREADS

os.environ.update(PATIENT_THREADS)  # before torch starts its threads

import torch
from torch import Tensor

from bitnet_core.errors import Stopped
from bitnet_core.model.precision import pick_device, pick_precision
from bitnet_core.model.student import Student
from bitnet_core.pretrained.choose import open_source
from bitnet_core.pretrained.enlarge import enlarge
from bitnet_core.pretrained.rotate import rotate
from bitnet_core.pretrained.source import tokens_of
from bitnet_core.pretrained.start import WarmStart, calibrate_on, load, source_student
from bitnet_core.pretrained.wanted import Wanted
from bitnet_core.runs.events import Event, Metric
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.flip import A4Policy
from bitnet_core.settings.values import (
    DeviceOptions,
    FlipOptions,
    RateOptions,
    StudentOptions,
    TrainOptions,
)
from bitnet_core.tables import render_table
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.traces.dataset import TraceSet, load_traces
from bitnet_core.traces.examples import Example, Examples
from bitnet_core.traces.places import tokenizer as tokenizer_folder
from bitnet_core.training.batches import Sampler
from bitnet_core.training.relations import Relations
from bitnet_core.training.trainer import Trainer

STARTS = ("random", "warm", "unrotated", "ones", "hadamard", "ramp", "fitted", "kept", "relation")
POLICIES: tuple[A4Policy, ...] = get_args(A4Policy)
FIGURES = ("heldout_kl", "heldout_ce", "heldout_agreement")


class _Once:
    """The same start, made once: it depends on the traces and on no seed, and takes as long as some trainings."""

    def __init__(self, start: WarmStart) -> None:
        self.start, self.settings = start, start.settings
        self._weights: dict[str, Tensor] = {}
        self._origin: dict[str, Any] = {}

    def __call__(
        self, student: Student, examples: Sequence[Example], reporter: Reporter, folder: Path | None
    ) -> dict[str, Any]:
        if self._weights:
            student.load_state_dict(self._weights)
        else:
            self._origin = self.start(student, examples, reporter, folder)
            self._weights = {name: weight.clone() for name, weight in student.state_dict().items()}
        return self._origin


@dataclass(frozen=True)
class Bench:
    arguments: argparse.Namespace
    traces: TraceSet
    warm: WarmStart
    fitted: _Once
    kept: _Once
    hadamard: _Once

    def options(self, start: str, seed: int) -> TrainOptions:
        """As many steps as the tokens take; the flip comes behind --tokens of them."""
        a = self.arguments
        total, rate = round(a.tokens * (1 + a.after)), a.random_lr if start == "random" else a.lr
        ramp = a.ramp * a.tokens / total if start == "ramp" else 0.0
        examples = Examples(self.traces.split()[0], a.length)
        steps = -(-total // int(Sampler(examples, a.rows, seed, a.length).mean_supervised))
        return TrainOptions(
            total_steps=1 << 40,
            batch_size=a.rows,
            max_seq_len=a.length,
            rate=RateOptions(peak=rate, floor=rate / 10, steps=steps),
            flip=FlipOptions(budget_tokens=total, fraction=a.tokens / total, quant_ramp_fraction=ramp),
            checkpoint_interval=1 << 30,
            log_interval=1,
            seed=seed,
        )

    def trainer(self, start: str, policy: A4Policy, options: TrainOptions, folder: Path) -> Trainer:
        shape = StudentOptions(hadamard=start == "hadamard", a4_policy=policy)
        config = (self.kept.start if start == "kept" else self.warm).shape(
            shape, self.traces.vocab_size, options.max_seq_len
        )
        relations = None
        if start == "relation":
            layers = self.warm.kept[-1] + 1
            relations = Relations(source_student(self.warm.source, layers), self.arguments.relation_weight)
        torch.manual_seed(options.seed)
        device = pick_device(DeviceOptions())
        precision = pick_precision(DeviceOptions(), device)
        return Trainer(
            Student(config),
            self.traces,
            options,
            folder=folder,
            device=device,
            precision=precision,
            first_weights={
                "random": None,
                "unrotated": _Unrotated(self.warm),
                "ones": _Ones(self.warm),
                "fitted": self.fitted,
                "kept": self.kept,
                "hadamard": self.hadamard,
                "relation": self.fitted,
            }.get(start, self.warm),
            relations=relations,
        )


class _Unrotated:
    """The same start, with the channels of the source's residual stream."""

    def __init__(self, warm: WarmStart) -> None:
        self.warm, self.settings = warm, warm.settings | {"STUDENT_INIT": "unrotated"}

    def __call__(
        self,
        student: Student,
        examples: Sequence[Example],
        reporter: Reporter,  # noqa: ARG002
        folder: Path | None,  # noqa: ARG002
    ) -> dict[str, Any]:
        load(student, self.warm.source, self.warm.kept)
        tokens = calibrate_on(student, examples)
        enlarge(student)
        return self.warm.record(self.warm.kept) | {"calibration_tokens": tokens}


class _Ones:
    """The same start, without the fit of the sub-norms."""

    def __init__(self, warm: WarmStart) -> None:
        self.warm, self.settings = warm, warm.settings | {"STUDENT_INIT": "with sub-norms of 1"}

    def __call__(
        self,
        student: Student,
        examples: Sequence[Example],  # noqa: ARG002
        reporter: Reporter,  # noqa: ARG002
        folder: Path | None,  # noqa: ARG002
    ) -> dict[str, Any]:
        load(student, self.warm.source, self.warm.kept)
        rotate(student)
        enlarge(student)
        return self.warm.record(self.warm.kept) | {"calibration_tokens": 0}


def until_the_flip(trainer: Trainer) -> None:
    """Train to the step before which the flip is due; the checkpoint is left in the trainer's folder."""
    threshold = trainer.options.flip.threshold

    def on_event(event: Event) -> None:
        seen = event.seen_tokens if isinstance(event, Metric) else None
        if isinstance(seen, int) and seen >= threshold:
            trainer.request_stop()

    try:
        trainer.run(on_event)
    except Stopped:
        return
    raise AssertionError("the training ended before its flip")


def measure(bench: Bench, start: str, seed: int, say: Callable[[str], None]) -> tuple[list[Any], list[list[Any]]]:
    """The row of a start, and one row for each policy."""
    a = bench.arguments
    options = bench.options(start, seed)
    flips: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as work:
        before = Path(work) / "a8"
        begun = time.perf_counter()
        trainer = bench.trainer(start, POLICIES[0], options, before)
        until_the_flip(trainer)
        seconds, seen = time.perf_counter() - begun, trainer.state.seen_tokens
        first = trainer.state.evaluations[0]
        del trainer
        at_flip: dict[str, Any] = {}
        for policy in a.policies:
            folder = Path(work) / policy
            shutil.copytree(before, folder)
            later = replace_interval(options, 20)
            after = bench.trainer(start, policy, later, folder)
            found = after.run()
            at_flip = next(row for row in after.state.evaluations if row["when"] == "before flip")
            flips.append(
                [
                    *(start, seed, policy, found["flip_shock"], found["flip_recovered_after_tokens"]),
                    *(found[name] for name in FIGURES),
                ]
            )
            say(f"{start}, seed {seed}, {policy}: shock {found['flip_shock']:.3f}")
    row = [start, seed, seen, first["heldout_kl"], *(at_flip[name] for name in FIGURES), round(seconds)]
    return row, flips


def replace_interval(options: TrainOptions, interval: int) -> TrainOptions:
    """Recovery is measured at every report, which takes longer than a step."""
    return replace(options, log_interval=interval)


class Kept:
    """What is measured, by start and seed; with --out, also in a file, beside what it was measured with."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.rows: dict[tuple[str, int], tuple[list[Any], list[list[Any]]]] = {}
        self._out: Path | None = arguments.out
        ways = {"out", "starts", "seeds", "ramp", "fit_steps", "relation_weight"}
        self._how = {name: str(value) for name, value in sorted(vars(arguments).items()) if name not in ways}
        fit = {"fit_steps": str(arguments.fit_steps)}
        relation = fit | {"relation_weight": str(arguments.relation_weight)}
        self._own = {
            "ramp": {"ramp": str(arguments.ramp)},
            "fitted": fit,
            "kept": fit,
            "hadamard": fit,
            "relation": relation,
        }
        lines = self._out.read_text("utf-8").splitlines() if self._out and self._out.exists() else []
        for line in map(json.loads, lines):
            if (
                line["how"] == self._how_of(line["start"])
                and line["start"] in arguments.starts
                and line["seed"] < arguments.seeds
            ):
                self.rows[line["start"], line["seed"]] = line["row"], line["flips"]

    def _how_of(self, start: str) -> dict[str, str]:
        return self._how | self._own.get(start, {})

    def add(self, start: str, seed: int, row: list[Any], flips: list[list[Any]]) -> None:
        self.rows[start, seed] = row, flips
        if self._out:
            with self._out.open("a", encoding="utf-8") as out:
                found = {"start": start, "seed": seed, "row": row, "flips": flips, "how": self._how_of(start)}
                out.write(json.dumps(found) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True, metavar="DIR", help="traces of the embedded teacher")
    parser.add_argument("--init", default="", metavar="MODEL", help="as STUDENT_INIT; default: the embedded teacher")
    parser.add_argument("--layers", default="6", metavar="N|LIST", help="as STUDENT_INIT_LAYERS")
    parser.add_argument("--tokens", type=int, default=2000, help="supervised tokens before the flip")
    parser.add_argument("--after", type=float, default=0.2, help="and after it, as a share of them")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--random-lr", type=float, default=1.5e-3, help="of the random start")
    parser.add_argument("--ramp", type=float, default=0.5, help="of the start `ramp`, as a share of --tokens")
    parser.add_argument("--fit-steps", type=int, default=1024, help="of the start `fitted`")
    parser.add_argument("--relation-weight", type=float, default=2.5, help="as ATTENTION_RELATION_WEIGHT")
    parser.add_argument("--starts", nargs="+", default=list(STARTS[:2]), choices=STARTS)
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=POLICIES)
    parser.add_argument("--out", type=Path, metavar="FILE", help="keeps each measurement, and goes on from there")
    arguments = parser.parse_args()
    wanted = Wanted(arguments.init, arguments.layers)
    tokens = tokens_of(load_tokenizer(tokenizer_folder(arguments.traces)).definition)
    fitted = replace(wanted, fit_steps=arguments.fit_steps)
    warm, *starts = (
        WarmStart(one, partial(open_source, one), lambda: tokens)
        for one in (wanted, fitted, replace(fitted, embedding="Q5_0"), fitted)
    )
    bench = Bench(arguments, load_traces(arguments.traces, 20), warm, *map(_Once, starts))
    kept = Kept(arguments)
    for seed in range(arguments.seeds):
        for start in arguments.starts:
            if (start, seed) not in kept.rows:
                kept.add(start, seed, *measure(bench, start, seed, lambda line: print(line, flush=True)))
    rows = [row for row, _ in kept.rows.values()]
    flips = [row for _, of_flip in kept.rows.values() for row in of_flip]
    columns = ["start", "seed", "tokens", "KL at first", "KL", "CE", "agreement", "s"]
    print(render_table(f"A8, layers {arguments.layers}", columns, rows, 120))
    columns = ["start", "seed", "policy", "shock", "recovered after", "KL at end", "CE", "agreement"]
    print(render_table(f"the flip, then {arguments.after:.0%} of the tokens", columns, flips, 120))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
