"""The figures of a training and of its student: what each is, which direction is better, where a value is from."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from bitnet_core.results.subject import EVAL, TRAIN, StageRun, Subject
from bitnet_core.text import count, dollars, duration, finite, flat, number, share, significant, size

Better = Literal["lower", "higher", ""]


@dataclass(frozen=True)
class Figure:
    """A value and its origin: `measured`, `given` by the user, or `recorded`; `how` says how it came about.

    `half` is half its 95 % interval: 0 if it is exact, None if chance moves it by an unknown amount.
    """

    value: float
    origin: str = "measured"
    how: str = ""
    outdated: bool = False
    half: float | None = None


@dataclass(frozen=True)
class Measure:
    """A row of the table of results. `stage` made its values; `words` writes one."""

    name: str
    title: str
    better: Better
    stage: str
    words: Callable[[float | None], str]

    @property
    def by_teacher(self) -> bool:
        """Whether the teacher or its held-out texts are what it is measured by."""
        return self.stage == TRAIN or self.name in ("quality_ratio", "qei", "qei_speed")


def _four(value: float | None) -> str:
    return significant(value, 4)


def _signed(value: float | None) -> str:
    return significant(value, 2) if value is None or value < 0 else f"+{significant(value, 2)}"


_UNCERTAIN = "uncertain"
"""Stands in how a speed was measured if too few turns agreed."""
_SPEEDS_ALIKE = 0.1
"""An evaluation tells how far its turns spread only beyond this share."""
LAST, LOWEST = "heldout_loss", "best_loss"
MEASURES: tuple[Measure, ...] = (
    Measure(LAST, "held-out loss", "lower", TRAIN, _four),
    Measure("heldout_kl", "  KL", "lower", TRAIN, _four),
    Measure("heldout_ce", "  CE", "lower", TRAIN, _four),
    Measure(LOWEST, "  lowest on the way", "lower", TRAIN, _four),
    Measure("heldout_agreement", "held-out agreement", "higher", TRAIN, share),
    Measure("flip_shock", "flip shock", "", TRAIN, _signed),  # how far chance moves it is not known
    Measure("quality_ratio", "quality Q_s/Q_t", "higher", EVAL, significant),
    Measure("qei", "QEI", "higher", EVAL, significant),
    Measure("qei_speed", "QEI_speed", "higher", EVAL, significant),
    Measure("memory", "memory", "lower", EVAL, size),
    Measure("speed", "tokens/s", "higher", EVAL, significant),
    Measure("seen_tokens", "seen tokens", "", TRAIN, count),
    Measure("train_seconds", "time trained", "", TRAIN, duration),
    Measure("train_speed", "tokens/s in training", "", TRAIN, count),  # the machine's load decides it
    Measure("teacher_tokens", "teacher tokens", "lower", "collect", count),
    Measure("cost", "teacher's cost", "lower", "collect", dollars),
)


def figures_of(subject: Subject) -> dict[str, Figure]:
    """What is known, by the name of its measure."""
    found: dict[str, Figure] = {}
    for stage, read in ((TRAIN, _trained), (EVAL, _evaluated), ("collect", _collected)):
        run = subject.runs.get(stage)
        values = read(subject, run) if run else {}
        found |= {name: figure for name, figure in values.items() if figure is not None}
    return found


def half_widths(subject: Subject) -> tuple[float, float] | None:
    """Half the 95 % intervals of KL and of CE over held-out prompts, by the evaluation; None without it."""
    run = subject.runs.get(EVAL)
    halves: dict[str, float] = {}
    for row in run.rows("imitation") if run else ():
        if len(row) < 5 or not str(row[1]).startswith("student"):
            continue
        low, high = finite(row[3]), finite(row[4])
        if low is not None and high is not None:
            halves.setdefault(str(row[0]), (high - low) / 2)
    kl, ce = halves.get("coarse KL"), halves.get("cross-entropy, all tokens")
    return None if kl is None or ce is None else (kl, ce)


def _trained(subject: Subject, run: StageRun) -> dict[str, Figure | None]:
    training = subject.training
    at = training.held_out
    tokens = finite(getattr(at, "heldout_tokens", None))
    how = f"at step {number(finite(at.step))}" if at is not None else ""
    how += f", on {number(tokens)} held-out tokens" if tokens else ""
    found = {
        name: _figure(getattr(at, name, None), how, run)
        for name in ("heldout_loss", "heldout_kl", "heldout_ce", "heldout_agreement")
    }
    losses = [point for point in training.points("heldout_loss") if point[0] > training.ternary_from]
    best = min(losses, key=lambda point: point[1], default=None)
    seen = max([x for x, _ in training.points("loss") or losses][-1:], default=0.0)
    speeds = [speed for _, speed in training.points("tokens_per_s")]
    seconds = [one.seconds for one in subject.trained]
    whole = sum(one for one in seconds if one is not None) if None not in seconds else None
    over = sum(one != 0 for one in seconds)
    return found | {
        "best_loss": _figure(best and best[1], f"after {count(best[0])} tokens" if best else "", run),
        "flip_shock": _figure(run.record.summary.get("flip_shock"), "loss after the flip less before it", run),
        "seen_tokens": _figure(max(seen, training.seen or 0.0) or None, "supervised tokens", run, "recorded"),
        "train_seconds": _figure(whole, f"over {over} runs" if over > 1 else "", run, "recorded"),
        "train_speed": _figure(median(speeds) if speeds else None, "median of the reports", run),
    }


def _evaluated(_: Subject, run: StageRun) -> dict[str, Figure | None]:
    rows: Mapping[str, list[Any]] = {str(row[0]): [*row, None, None, None] for row in run.rows("qei") if row}
    summary = run.record.summary

    def cell(row: str, column: int = 1, told: str = "", half: float | None = None) -> Figure | None:
        """`told`: what the run's summary has it as, if the table lacks it. `half`: a share of the value."""
        found = rows.get(row, [None] * 5)
        figure = _figure(found[column], flat(str(found[4] or "")), run, flat(str(found[3] or "measured")), half)
        return figure or _figure(summary.get(told), "", run, half=half)

    student, teacher = cell("quality"), cell("quality", 2)
    of_ratio = _share_of_ratio(run)
    ratio = None
    if student and teacher and teacher.value:
        value = student.value / teacher.value
        half = None if of_ratio is None else of_ratio * value
        ratio = Figure(value, student.origin, student.how, student.outdated, half)
    speed = cell("speed, tokens/s")
    of_speed = None if speed is None or _UNCERTAIN in speed.how else _SPEEDS_ALIKE
    both = None if of_ratio is None or of_speed is None else math.hypot(of_ratio, of_speed)
    return {
        "quality_ratio": ratio,
        "qei": cell("QEI", told="qei", half=of_ratio),
        "qei_speed": cell("QEI_speed", told="qei_speed", half=both),
        "memory": cell("memory, bytes", told="memory_bytes", half=0.0),
        "speed": cell("speed, tokens/s", told="tokens_per_s", half=of_speed),
    }


def _share_of_ratio(run: StageRun) -> float | None:
    """Half the 95 % interval of Q_s/Q_t as a share of it: memory is exact, so QEI has the same; None without it."""
    for row in run.rows("quality"):
        value, low, high = ([*map(finite, row[2:5])] if row and row[0] == "Q_s/Q_t" else []) or [None] * 3
        if value and low is not None and high is not None:
            return (high - low) / 2 / value
    return None


def _collected(_: Subject, run: StageRun) -> dict[str, Figure | None]:
    spent = run.spent
    how = "collecting, by the price file" if spent.get("usd") else "collecting"
    return {
        "teacher_tokens": _figure(spent.get("tokens"), "collecting, prompts included", run, "recorded", 0.0),
        "cost": _figure(spent.get("usd"), how, run, "recorded", 0.0),
    }


def _figure(
    value: object, how: str, run: StageRun, origin: str = "measured", half: float | None = None
) -> Figure | None:
    """`half` of a measured figure is a share of its value."""
    known = finite(value)
    return None if known is None else Figure(known, origin, how, run.outdated, half and half * abs(known))
