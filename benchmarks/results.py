"""The comparisons of docs/RESULTS.md, from real runs of `bitnet train` on one set of traces.

    python benchmarks/results.py --traces experiments/results/data --out experiments/results
    python benchmarks/results.py --out experiments/results --report docs/RESULTS.md

Every arm is trained with every seed, in an experiment of its own under `--out`; one that has finished is not run
again. `--report` writes the tables between the markers of a file, from whatever has finished.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMON = {
    "MINI_PRESET": "nano",
    "MAX_SEQ_LEN": "256",
    "TRAIN_BATCH_SIZE": "4",
    "TORCH_DTYPE": "fp32",
    "LR": "1e-3",
    "SCHEDULER_ETA_MIN": "1e-4",
    "TOTAL_STEPS": "1000",
    "LOG_INTERVAL": "10",
    "CHECKPOINT_INTERVAL": "250",
}
ARMS = {
    "kd": {},
    "ce": {"KD_WEIGHT": "0", "KD_CE_WEIGHT": "1", "FORMAT_LOSS_WEIGHT": "0"},
    "full": {"STUDENT_QUANTIZE": "0"},
    "a8": {"FLIP_FRACTION": "1"},
    "ramp": {"FLIP_POLICY": "ramp"},
    "embedding": {"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "0"},
}
ABOUT = {
    "kd": "KD + CE + format loss, ternary, A8 → A4 at 0.9 of the budget (the defaults)",
    "ce": "cross-entropy alone, everything else as kd",
    "full": "full-precision twin: no quantiser, everything else as kd",
    "a8": "never flips: A8 to the end",
    "ramp": "flips layer after layer from 0.90 to 0.95 of the budget",
    "embedding": "begins with the teacher's embedding, reduced to the student's width",
}
PAIRS = (
    ("KD − CE alone", "kd", "ce"),
    ("ternary A8 − full precision", "a8", "full"),
    ("A4 after the flip − A8 throughout", "kd", "a8"),
    ("ramp − hard flip", "ramp", "kd"),
    ("the teacher's embedding − random weights", "embedding", "kd"),
)
BEGIN, END = "<!-- begin results.py -->", "<!-- end results.py -->"


@dataclass(frozen=True)
class Outcome:
    """One finished run: its summary, and the held-out rows around the flip."""

    summary: dict[str, Any]
    before: dict[str, Any] | None
    after: Sequence[dict[str, Any]]
    """The measurements after each layer's flip; one where all flip at once."""
    peak_rss_bytes: int

    def shock(self, figure: str) -> float | None:
        """Right after the flip less right before it; None where there was none."""
        if self.before is None or not self.after:
            return None
        return max(float(row[figure]) for row in self.after) - float(self.before[figure])


def outcome(events: Iterable[dict[str, Any]]) -> Outcome | None:
    """What a run's events say; None unless it ended well."""
    before, after, peak, summary = None, [], 0, None
    for event in events:
        if event["kind"] == "metric":
            peak = max(peak, event.get("peak_rss_bytes", 0))
            if event.get("when") == "before flip":
                before = event
            elif event.get("when") == "after flip":
                after.append(event)
        elif event["kind"] == "run_finished" and event["state"] == "succeeded":
            summary = event["summary"]
    return None if summary is None else Outcome(summary, before, after, peak)


def read(root: Path) -> Outcome | None:
    """The newest successful training of an experiment."""
    for log in sorted(root.glob("logs/train-*/events.jsonl"), reverse=True):
        found = outcome(json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
        if found is not None:
            return found
    return None


def settings(arm: str, seed: int, tokens: int) -> dict[str, str]:
    """What the arm is trained with, besides the traces; the rate falls over as many steps as the budget lasts."""
    steps = max(1, round(tokens / 690))  # measured: supervised tokens of one packed batch of these traces
    budget = {"BUDGET_TOKENS": str(tokens), "SCHEDULER_TMAX": str(steps), "SEED": str(seed)}
    return COMMON | budget | ARMS[arm]


def command(root: Path, traces: Path, values: dict[str, str]) -> list[str]:
    sets = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    return ["bitnet", "--root", str(root), "train", "--set", f"KD_DATA_PATH={traces}", *sets]


def train(root: Path, traces: Path, values: dict[str, str], threads: int) -> None:
    if read(root) is not None:
        print(f"{root.name}: done before", flush=True)
        return
    argv = [sys.executable, "-m", "bitnet_core", *command(root, traces, values)[1:]]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True)
    print(f"{root.name}: {'done' if done.returncode == 0 else done.stderr.strip()[-300:]}", flush=True)
    if done.returncode == 0:
        for checkpoint in (root / "checkpoints").glob("*.pt"):
            checkpoint.unlink()  # the figures are in the events; a dozen students would fill a small disk


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and, over several seeds, the least and the most."""
    if not values:
        return "–"
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} … {max(values):.{digits}f})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def report(found: dict[str, dict[int, Outcome]], seeds: Sequence[int], tokens: int) -> str:
    """The tables of these arms, in Markdown."""
    lines: list[str] = []
    missing = [f"{arm}-seed{seed}" for arm in found for seed in seeds if seed not in found[arm]]
    if missing:
        lines += [f"Not finished when this was written: {', '.join(missing)}.", ""]
    rows = []
    for arm in found:
        ends = [one.summary for one in found[arm].values()]
        figures = [[float(end[name]) for end in ends] for name in ("heldout_ce", "heldout_kl", "heldout_agreement")]
        rows.append([arm, ABOUT[arm], str(len(ends)), *map(spread, figures)])
    lines += table(["arm", "what", "seeds", "held-out CE", "held-out KL", "top-1 agreement"], rows)
    lines += ["", "Differences by seed (negative: the first of the two is better):", ""]
    rows = []
    for name, one, other in PAIRS:
        if not {one, other} <= found.keys():
            continue
        both = [seed for seed in seeds if seed in found[one] and seed in found[other]]
        cells = []
        for figure in ("heldout_ce", "heldout_kl"):
            gaps = [found[one][seed].summary[figure] - found[other][seed].summary[figure] for seed in both]
            cells.append(f"{spread(gaps)}: {', '.join(f'{gap:+.3f}' for gap in gaps)}" if gaps else "–")
        rows.append([name, *cells])
    lines += table(["pair", "Δ held-out CE, nats/token", "Δ held-out KL, nats/token"], rows)
    lines += ["", "The flip:", ""]
    rows = []
    for arm in (arm for arm in found if arm not in ("a8", "full")):
        runs = list(found[arm].values())
        shocks = [
            [shock for one in runs if (shock := one.shock(name)) is not None]
            for name in ("heldout_kl", "heldout_ce", "heldout_loss")
        ]
        recovered = [one.summary.get("flip_recovered_after_tokens") for one in runs]
        shown = ", ".join("not by the end" if one is None else f"{one:,}" for one in recovered) or "–"
        rows.append([arm, *map(spread, shocks), shown, str(sum(one.summary["nonfinite"] for one in runs))])
    head = ["arm", "shock, KL", "shock, CE", "shock, loss", "tokens until the loss had recovered", "steps not finite"]
    lines += table(head, rows)
    speeds = [one.summary["tokens_per_s"] for runs in found.values() for one in runs.values()]
    peaks = [one.peak_rss_bytes / 1e9 for runs in found.values() for one in runs.values()]
    tested = {one.summary["heldout_tokens"] for runs in found.values() for one in runs.values()}
    shown = " or ".join(f"{number:,}" for number in sorted(tested))
    lines += ["", f"{tokens:,} supervised tokens each; {shown} held-out tokens; {spread(speeds, 0)} tokens/s,"]
    lines += [f"{spread(peaks, 2)} GB at the peak, several runs at a time. One of the runs by hand:", "", "```"]
    first = next(iter(found))
    lines += [shlex.join(command(Path("experiments/one"), Path("TRACES"), settings(first, seeds[0], tokens))), "```"]
    lines += ["", "The other arms add:", ""]
    lines += [
        f"- {arm}: `{' '.join(f'{name}={value}' for name, value in own.items())}`"
        for arm in found
        if (own := ARMS[arm])
    ]
    return "\n".join(lines)


def write_between(path: Path, text: str) -> None:
    """Put the text between the markers of a file, which must be there."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} lacks the lines {BEGIN} and {END}; put them where the tables belong.")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiments")
    parser.add_argument("--traces", type=Path, help="folder of the traces; without it nothing is trained")
    parser.add_argument("--report", type=Path, help="file to write the tables into; - prints them")
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads of each")
    args = parser.parse_args()
    roots = {(arm, seed): args.out / f"{arm}-seed{seed}" for seed in args.seeds for arm in args.arms}
    if args.traces:
        with ThreadPoolExecutor(args.jobs) as pool:
            for (arm, seed), root in roots.items():
                pool.submit(train, root, args.traces.resolve(), settings(arm, seed, args.tokens), args.threads)
    if args.report:
        found: dict[str, dict[int, Outcome]] = {arm: {} for arm in args.arms}
        for (arm, seed), root in roots.items():
            if one := read(root):
                found[arm][seed] = one
        text = report(found, args.seeds, args.tokens)
        if str(args.report) == "-":
            print(text)
        else:
            write_between(args.report, text)


if __name__ == "__main__":
    main()
