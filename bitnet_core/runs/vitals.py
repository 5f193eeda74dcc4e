"""What tells how a run is doing, kept from its events as they arrive, in bounded memory. `health.py` judges it."""

from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from msgspec import UNSET, structs

from bitnet_core.errors import UsageError
from bitnet_core.runs.cadence import CHANGED, Cadence
from bitnet_core.runs.chain import Beginning, Start
from bitnet_core.runs.events import (
    Alert,
    Budget,
    CheckpointSaved,
    Event,
    Flip,
    Log,
    Metric,
    Progress,
    SettingsChanged,
    Table,
    Trace,
    Upload,
)
from bitnet_core.runs.resuming import new_values
from bitnet_core.settings.group import Group, setting
from bitnet_core.settings.layers import keeps_no_layers
from bitnet_core.settings.presets import TRAINED
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import FlipOptions, LimitOptions
from bitnet_core.text import finite, natural

REPORTS = 64
"""How many reports of steps are kept: enough to know what is usual."""
EVALUATIONS = 16
MEASURED = ("start", "ternary", "before flip", "after flip", "lowest", "end")
"""The rows of the table `training` that are evaluations of a ternary student, in their order at one step."""
COMMONEST = "commonest token"
"""The row of that table with the agreement of always answering the commonest token."""
_MOST_NAMES = 20
_Group = TypeVar("_Group", bound=Group)


@dataclass(frozen=True)
class Report:
    """A report of training steps. `refused` says that a step since the one before was not finite."""

    t: float
    step: float | None
    seen: float
    grad_norm: float | None
    tokens_per_s: float | None
    refused: bool
    ce: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """A measurement on held-out traces; `when` is what it was made for."""

    t: float
    step: float | None
    seen: float
    loss: float
    when: str
    agreement: float | None = None
    """With the teacher's most likely token."""


@dataclass(frozen=True)
class Change:
    """The last time that a training went on under other settings. `words` names them with their new values."""

    step: float | None
    seen: float
    words: str
    measured: Evaluation | None = None
    """The first evaluation under them, which is made before the next step."""

    def governs(self, one: Evaluation) -> bool:
        """Whether the evaluation counts from the change on: the one made for it does, an older one there does not."""
        return one.seen > self.seen or (one.seen == self.seen and one.when == CHANGED)

    def with_first(self, evaluations: Iterable[Evaluation]) -> "Change":
        """With the first of these that counts from it, if any."""
        return replace(self, measured=next(filter(self.governs, evaluations), None))


@dataclass(frozen=True)
class Vitals:
    """A frozen picture: the newest reports and evaluations in their order, and the newest of everything else.

    `before_flip` is the last evaluation before the first flip, `flip_at` the tokens seen then, `best_since_flip` the
    lowest evaluation since, and `budget` the tokens to see.
    `first` and `best` are of the whole training once its table at the end has told them, until then of this run;
    `begun` is when the first report or evaluation came.
    `alerts` has the newest alert of each code, and how many there were. `longest_gap` is the longest time between two
    events, in seconds. `gates` has the name and the result of each gate.
    """

    begins: Beginning | None = None
    told: bool = False
    """Whether it has told anything but messages, which may be those that it can't be read."""
    reports: tuple[Report, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    begun: float | None = None
    first: Evaluation | None = None
    best: Evaluation | None = None
    before_flip: Evaluation | None = None
    best_since_flip: Evaluation | None = None
    flip_at: float | None = None
    changed: Change | None = None
    commonest: float | None = None
    """The agreement of always answering the commonest token."""
    bits: float | None = None
    share: float | None = None
    """How much of the quantisers acts; below 1 the student is not ternary yet, and no evaluation counts."""
    budget: float | None = None
    epochs: float | None = None
    """How many times the budget goes over the traces."""
    starts_saved: bool = False
    """Whether the checkpoint of step 0 was saved, as that of a start from a model is."""
    cadence: Cadence = field(default_factory=Cadence)
    """When it measures besides at its checkpoints, its flip and its end."""
    refused: float = 0
    peak_memory: float | None = None
    checkpoint_bytes: float | None = None
    progress: Progress | None = None
    alerts: Mapping[str, tuple[Alert, int]] = field(default_factory=dict)
    longest_gap: float = 0.0
    collected: Metric | None = None
    tokens: float = 0
    kept: float = 0
    other: float | None = None
    """The mean share of the teacher's probability that is outside the candidates, over the tokens kept."""
    answers: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    upload: Upload | None = None
    gates: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a run was started with, as far as its record tells. A run decides itself what a budget in epochs is."""

    flip: FlipOptions | None = None
    steps: float | None = None
    limits: LimitOptions = field(default_factory=LimitOptions)
    evaluates_every: float | None = None
    """Steps between two checkpoints, with which an evaluation is made."""
    smallest: bool = False
    """Whether the student is the smallest preset with none of its sizes changed."""
    peak_rate: float | None = None
    """The learning rate of the settings, which the schedule rises to and falls from."""

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> "Plan":
        """From a run's recorded settings, which may hold anything; what can't be used is left out."""
        flip, steps = _group(FlipOptions, recorded), _group(_Steps, recorded)
        limits = _group(LimitOptions, recorded)
        with suppress(*_ODD):
            open_yet = flip is not None and flip.budget_tokens is None
            usable = flip is not None and (open_yet or (flip.budget > 0 and flip.threshold >= 0))
            return cls(
                flip if usable else None,
                finite(steps and steps.total),
                limits or LimitOptions(),
                finite(steps and steps.checkpoint_interval),
                _is_smallest(recorded),
                finite(steps and steps.peak_rate),
            )
        return cls()

    def decided(self, budget: float | None) -> "Plan":
        """With the budget that the run has told, if any; no `flip` while there is none."""
        flip = self.flip
        if flip is not None and budget is not None and budget >= 1:
            flip = replace(flip, budget_tokens=int(budget))
        return replace(self, flip=None if flip is None or flip.budget_tokens is None else flip)


def _is_smallest(recorded: Mapping[str, Any]) -> bool:
    shape = _group(_Shape, recorded)
    return shape is not None and shape.preset == TRAINED[0] and shape.is_preset


class _Shape(Group):
    preset: str = setting("MINI_PRESET")
    hidden_size: int | None = setting("MINI_DIM")
    layers: int | None = setting("MINI_LAYERS")
    source: str = setting("STUDENT_INIT")
    taken: str = setting("STUDENT_INIT_LAYERS")

    @property
    def is_preset(self) -> bool:
        """Whether the preset decides its size: a model whose layers are taken brings its own."""
        own = self.source == "random" or keeps_no_layers(self.taken)
        return own and self.hidden_size is None and self.layers is None


class _Steps(Group):
    total: int | None = setting("TOTAL_STEPS")
    checkpoint_interval: int = setting("CHECKPOINT_INTERVAL")
    peak_rate: float | None = setting("LR")


_ODD = (UsageError, TypeError, ValueError, AttributeError, ArithmeticError)


def _group(group: type[_Group], recorded: Mapping[str, Any]) -> _Group | None:
    with suppress(*_ODD):
        return group.of(Settings.from_record(recorded, {}))
    return None


@dataclass
class VitalSigns:
    """Feed it every event of one run, in order; `view` is a frozen picture."""

    _start: Start = field(default_factory=Start)
    _reports: deque[tuple[Metric, bool]] = field(default_factory=lambda: deque(maxlen=REPORTS))
    """The events, and whether one of their steps was refused: a `Report` is made of the few that are kept."""
    _evaluations: deque[Evaluation] = field(default_factory=lambda: deque(maxlen=EVALUATIONS))
    _known: dict[str, Any] = field(default_factory=dict)
    _alerts: dict[str, tuple[Alert, int]] = field(default_factory=dict)
    _rejected: dict[str, int] = field(default_factory=dict)
    _sums: list[float] = field(default_factory=lambda: [0, 0, 0])
    _other: list[float] = field(default_factory=lambda: [0, 0])
    """The sum over tokens, and how many tokens."""
    _newest: float | None = None
    _told: bool = False
    _longest_gap: float = 0.0

    def feed(self, event: Event) -> None:
        moment = finite(event.t) or 0.0
        if self._newest is not None:
            self._longest_gap = max(self._longest_gap, moment - self._newest)
        self._newest = moment
        self._told = self._told or not isinstance(event, Log)
        match event:
            case Metric():
                self._take_metric(event, moment)
            case Progress():
                self._known["progress"] = event
            case Trace():
                self._take_trace(event)
            case Flip() if "flip_at" not in self._known:
                self._known["flip_at"] = finite(event.seen_tokens)
                self._known["before_flip"] = self._evaluations[-1] if self._evaluations else None
            case SettingsChanged():
                self._start.feed(event)
                self._known["changed"] = Change(
                    finite(event.step), finite(event.seen_tokens) or 0.0, new_values(event.after)
                )
            case Budget():
                self._start.feed(event)
                self._known["budget"], self._known["epochs"] = finite(event.tokens), finite(event.epochs)
                self._known["cadence"] = Cadence(
                    natural(event.evaluates_early_steps) or None, natural(event.evaluates_every_steps) or None
                )
            case CheckpointSaved():
                self._known["checkpoint_bytes"] = finite(event.bytes)
                self._known["starts_saved"] = self._known.get("starts_saved", False) or event.step == 0
            case Alert():
                times = self._alerts.pop(event.code, (event, 0))[1]
                self._alerts[event.code] = event, times + 1
                while len(self._alerts) > _MOST_NAMES:
                    del self._alerts[next(iter(self._alerts))]
            case Table(name="gates"):
                rows = (row for row in event.rows[:_MOST_NAMES] if len(row) > 1)
                self._known["gates"] = tuple((str(row[0]), str(row[1])) for row in rows)
            case Table(name="training"):
                self._take_training(event, moment)
            case Upload():
                self._known["upload"] = event
            case _:
                pass

    def view(self) -> Vitals:
        tokens, kept, answers = self._sums
        return Vitals(
            begins=self._start.begins,
            told=self._told,
            reports=tuple(_report(*one) for one in self._reports),
            evaluations=tuple(self._evaluations),
            alerts=dict(self._alerts),
            longest_gap=self._longest_gap,
            tokens=tokens,
            kept=kept,
            other=self._other[0] / self._other[1] if self._other[1] else None,
            answers=int(answers),
            rejected=dict(self._rejected),
            **self._known,
        )

    def _take_metric(self, event: Metric, moment: float) -> None:
        known, step = self._known, finite(event.step)
        if self._start.begins is None:
            self._start.feed(event)
        if step is None:
            known["collected"] = event
            return
        known.setdefault("begun", moment)
        if (progress := known.get("progress")) and progress.label:
            known["progress"] = structs.replace(progress, label="")  # what it did meanwhile has ended
        ternary = event.quantized_share is UNSET or finite(event.quantized_share) == 1
        # Before that the loss rises as the student becomes ternary.
        if ternary and event.heldout_loss is not UNSET and (loss := finite(event.heldout_loss)) is not None:
            seen, when = finite(event.seen_tokens) or 0.0, event.when if isinstance(event.when, str) else ""
            made = Evaluation(moment, step, seen, loss, when, _told(event.heldout_agreement))
            self._evaluations.append(made)
            known.setdefault("first", made)
            if (change := known.get("changed")) and change.measured is None:
                known["changed"] = change.with_first([made])
            known["best"] = lowest(known.get("best"), made)
            if is_since_flip(made, known.get("flip_at")):
                known["best_since_flip"] = lowest(known.get("best_since_flip"), made)
        told = {
            "commonest": event.heldout_agreement_commonest_token,
            "bits": event.activation_bits,
            "share": event.quantized_share,
            "peak_memory": event.peak_rss_bytes,
        }
        for name, value in told.items():
            if value is not UNSET and (number := finite(value)) is not None:
                known[name] = number
        if event.loss is UNSET and event.grad_norm is UNSET:
            return
        refused = finite(event.nonfinite) or known.get("refused", 0)
        broken = refused > known.get("refused", 0) or event.loss is None or event.grad_norm is None
        known["refused"] = refused
        self._reports.append((event, broken))

    def _take_training(self, event: Table, moment: float) -> None:
        """The first and the lowest evaluation of all runs of the training; this run's own are the later ones."""
        for cells in event.rows[:_MOST_NAMES]:
            row = dict(zip(event.columns, cells, strict=False))
            if row.get("when") == COMMONEST and (agreement := finite(row.get("top-1 agreement"))) is not None:
                self._known["commonest"] = agreement
            when, step, loss = row.get("when"), finite(row.get("step")), finite(row.get("held-out loss"))
            if not isinstance(when, str) or when not in MEASURED or step is None or loss is None:
                continue
            made = Evaluation(moment, step, finite(row.get("seen tokens")) or 0.0, loss, when)
            first = self._known.get("first")
            if first is None or step < (first.step or 0.0):
                self._known["first"] = made
            self._known["best"] = lowest(self._known.get("best"), made)

    def _take_trace(self, event: Trace) -> None:
        for place, value in enumerate((event.tokens, event.kept, 1)):
            self._sums[place] += finite(value) or 0
        tokens = finite(event.kept) or 0
        if (mass := finite(event.other_mass_mean)) is not None:
            self._other[0] += mass * tokens
            self._other[1] += tokens
        for name in event.dropped:
            reason = name if name in self._rejected or len(self._rejected) < _MOST_NAMES else "other"
            self._rejected[reason] = self._rejected.get(reason, 0) + 1


def is_since_flip(one: Evaluation, flip_at: float | None) -> bool:
    """Whether it measured the student after the flip, which came at `flip_at` seen tokens."""
    return flip_at is not None and (one.seen > flip_at or one.when == "after flip")


def lowest(*evaluations: Evaluation | None) -> Evaluation | None:
    """The one with the lowest loss, of equal ones the first."""
    return min((one for one in evaluations if one is not None), key=lambda one: one.loss, default=None)


def _told(value: Any) -> float | None:
    return None if value is UNSET else finite(value)


def _report(event: Metric, refused: bool) -> Report:
    seen, norm, speed = finite(event.seen_tokens) or 0.0, finite(event.grad_norm), finite(event.tokens_per_s)
    return Report(finite(event.t) or 0.0, finite(event.step), seen, norm, speed, refused, _told(event.ce))
