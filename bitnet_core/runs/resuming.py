"""Which settings may change in the middle of a training, and what a start under other ones does with a checkpoint.

The trainer asks before it resumes, the app before it promises: both get the answer from here. It reads no file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bitnet_core.settings.flip import decide, kept_tokens
from bitnet_core.settings.kinds import as_written, with_thousands
from bitnet_core.settings.values import TrainOptions
from bitnet_core.text import flat, width

_LENGTH = ("TOTAL_STEPS",)
_BUDGET = ("BUDGET_TOKENS",)
MAY_CHANGE = (
    *("LR", "SCHEDULER_ETA_MIN", "LR_SCHEDULE", "SCHEDULER_TMAX", *_LENGTH),
    *("WEIGHT_DECAY", "GRAD_CLIP_NORM", "ADAM_EPS", "FORMAT_LOSS_WEIGHT", "ON_POLICY_FRACTION", "ON_POLICY_KL"),
    "ATTENTION_RELATION_WEIGHT",
)
"""They steer the steps to come: weights, moments, cursor and what was measured mean the same after a change."""

UNTIL_FLIP = ("A4_POLICY", "FLIP_FRACTION", "FLIP_POLICY", "FLIP_RAMP_FRACTION")
"""They may change while no layer has flipped, and none would have if they had been so from the start."""

STARTS_AGAIN = (
    # What a batch and a step is: the cursor counts batches, the schedule steps.
    *("TRAIN_BATCH_SIZE", "GRAD_ACCUM_STEPS", "MAX_SEQ_LEN", "PACK_SEQUENCES", "SEED"),
    # The moments that are kept are means with these decays.
    *("ADAM_BETA1", "ADAM_BETA2"),
    # The held-out loss consists of them, by which the best checkpoint and the flip are judged.
    *("KD_TAU", "KD_WEIGHT", "KD_CE_WEIGHT"),
    # What is quantised, and how much of that has acted so far.
    *("STUDENT_QUANTIZE", "QUANT_RAMP_FRACTION"),
)
"""After a change of one of these, what a checkpoint holds would mean something else."""

SUPERSEDED = "training_superseded"
"""The code of the alert that a training begins anew and its old checkpoints are set aside."""
TRACES = "traces"
"""Their hash is part of a recipe beside the settings."""
_LONGEST_VALUE = 24
_MOST_NAMED = 2
_OTHER_LOSS = ("FORMAT_LOSS_WEIGHT", "ON_POLICY_FRACTION", "ON_POLICY_KL")
RANDOM_START = {
    "STUDENT_INIT": "random",
    "STUDENT_INIT_LAYERS": "",
    "STUDENT_INIT_FIT_STEPS": 0,
    "STUDENT_INIT_EMBEDDING": "trained",
}
_BEFORE = {
    "A4_POLICY": "all",
    "TRAIN_ONLINE": "",
    "ON_POLICY_FRACTION": 0.0,
    "ON_POLICY_KL": "",
    "QUANT_RAMP_FRACTION": 0.0,
    "ATTENTION_RELATION_WEIGHT": 0.0,
    **RANDOM_START,
}
"""What checkpoints of versions without these settings were trained with."""

Changes = Mapping[str, tuple[Any, Any]]
"""By setting, its value until now and from now on."""


def recipe(options: TrainOptions) -> dict[str, Any]:
    """What decides the student besides its data and its first weights, by setting."""
    return {
        "TRAIN_BATCH_SIZE": options.batch_size,
        "GRAD_ACCUM_STEPS": options.accumulate,
        "MAX_SEQ_LEN": options.max_seq_len,
        "LR": options.rate.peak,
        "SCHEDULER_ETA_MIN": options.rate.floor,
        "SCHEDULER_TMAX": options.rate.steps,
        "TOTAL_STEPS": options.total_steps,
        "ADAM_BETA1": options.beta1,
        "ADAM_BETA2": options.beta2,
        "ADAM_EPS": options.eps,
        "WEIGHT_DECAY": options.weight_decay,
        "GRAD_CLIP_NORM": options.clip_norm,
        "LR_SCHEDULE": options.rate.shape,
        "FLIP_FRACTION": options.flip.fraction,
        "FLIP_POLICY": options.flip.policy,
        "QUANT_RAMP_FRACTION": options.flip.quant_ramp_fraction or 0.0,
        "FLIP_RAMP_FRACTION": options.flip.ramp_fraction if options.flip.policy == "ramp" else 0.0,
        "KD_TAU": options.loss.tau,
        "KD_WEIGHT": options.loss.kd,
        "KD_CE_WEIGHT": options.loss.ce,
        "FORMAT_LOSS_WEIGHT": options.loss.format,
        "ATTENTION_RELATION_WEIGHT": options.loss.relation,
        "SEED": options.seed,
        "PACK_SEQUENCES": options.pack,
        "STUDENT_QUANTIZE": options.quantize,
        "ON_POLICY_FRACTION": options.on_policy.fraction,
        "ON_POLICY_KL": options.on_policy.divergence if options.on_policy.fraction else "",
    }


@dataclass(frozen=True)
class Reached:
    """How far a training was at a checkpoint, and with which recipe. `budget` is the record of its `Budget`."""

    step: int
    seen_tokens: int
    recipe: Mapping[str, Any]
    flipped: bool = False
    """Whether any layer is at 4 bits."""
    budget: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a training does with a checkpoint: the steps to come have what is `changed`; it can't go on if `barred`.

    `finished` says that no step is to come; then only what would have to reach one is `changed`.
    """

    changed: Changes
    barred: Changes
    finished: bool
    flip: str = ""
    """When it flips now, as a clause, if what is changed moves the flip that is to come."""

    @property
    def in_vain(self) -> Changes:
        """Changes that would reach no step, so that the student would not be one of these settings."""
        return self.changed if self.finished else {}

    @property
    def goes_on(self) -> bool:
        return not self.barred and not self.in_vain

    @property
    def why_not(self) -> str:
        """Why the training can't go on from there, as a clause about it; empty if it can."""
        if self.barred:
            return f"what it was trained with has changed ({words(self.barred)})"
        return f"it is finished, and {words(self.in_vain)} would reach no step" if self.in_vain else ""


def judge(reached: Reached, wanted: Mapping[str, Any], options: TrainOptions, epoch_tokens: int) -> Verdict:
    """What a training of the recipe `wanted` does with the checkpoint. `options` have the budget that is asked for.

    How long it trains may change. A setting that may change counts as unchanged where an older version did not keep
    it.
    """
    budget = decide(options.flip, epoch_tokens, reached.budget).tokens
    found = {**changes(reached.recipe, wanted), **budget_change(reached.budget, budget)}
    free = {*MAY_CHANGE, *_BUDGET}
    flip_at = replace(options.flip, budget_tokens=budget).threshold
    if not reached.flipped:
        ahead = reached.seen_tokens <= flip_at
        free |= {*UNTIL_FLIP} if ahead else {"A4_POLICY"}
    most = options.total_steps
    finished = reached.seen_tokens >= budget or (most is not None and reached.step >= most)
    told = {*MAY_CHANGE} - {*_LENGTH} if finished else free
    changed = {name: two for name, two in found.items() if name in told}
    moved = not reached.flipped and flip_at < budget and bool(changed.keys() & {"FLIP_FRACTION", *_BUDGET})
    barred = {name: two for name, two in found.items() if name not in free}
    at_once = reached.seen_tokens >= flip_at
    flip = "it flips at once" if at_once else f"its flip is at {flip_at:,} tokens"
    return Verdict(changed, barred, finished, flip if moved else "")


def budget_change(kept: Mapping[str, Any], tokens: int) -> Changes:
    """The change to a budget of `tokens`, if the kept record has another one."""
    before = kept_tokens(kept)
    return {} if before in (None, tokens) else {_BUDGET[0]: (before, tokens)}


def changes(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings whose wanted value differs from the kept recipe's."""
    known = (name for name in wanted if name not in MAY_CHANGE or name in kept or name in _BEFORE)
    pairs = {name: (kept.get(name, _BEFORE.get(name)), wanted[name]) for name in known}
    return {name: two for name, two in pairs.items() if two[0] != two[1]}


def words(changed: Changes) -> str:
    """`LR 6e-4 → 3e-4, WEIGHT_DECAY 0.1 → 0.05`."""
    return ", ".join(change_words(name, *two) for name, two in changed.items())


def new_values(after: Mapping[str, Any]) -> str:
    """`LR 3e-4`, `LR 3e-4 and WEIGHT_DECAY 0.05`; `other settings` where naming them would take a line."""
    told = [f"{flat(name)} {_value(value)}" for name, value in after.items()]
    brief = 0 < len(told) <= _MOST_NAMED and all(width(one) <= 2 * _LONGEST_VALUE for one in told)
    return " and ".join(told) if brief else "other settings"


def change_words(name: str, before: Any, after: Any) -> str:
    """`LR 6e-4 → 3e-4`; of long values only that they changed, of traces only what they are."""
    values = _value(before), _value(after)
    if name == TRACES:
        return "the traces"
    if any(width(value) > _LONGEST_VALUE for value in values):
        return f"{name} changed"
    return f"{name} {values[0]} → {values[1]}"


def _value(value: Any) -> str:
    if value is None or value == "":
        return "unset"
    return flat(with_thousands(as_written(value)))


def loss_differs(changed: Changes) -> bool:
    """Whether losses before and after the change can't be compared."""
    return any(name in changed for name in _OTHER_LOSS)
