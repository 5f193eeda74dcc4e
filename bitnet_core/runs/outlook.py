"""What a start of the training would do with the checkpoints that are there, before it is made.

It reads their health files and the runs' records, and asks `resuming.py`, as the trainer does. What only the traces
and the model's files tell, it takes as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs.history import Entry, History
from bitnet_core.runs.record import ACTIVE, RunRecord
from bitnet_core.runs.resuming import STARTS_AGAIN, TRACES, Changes, Reached, Verdict, changes, judge, recipe, words
from bitnet_core.runs.trend import is_worse
from bitnet_core.settings.registry import in_sections
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.unused import unused
from bitnet_core.settings.values import TrainOptions
from bitnet_core.text import finite, natural

_TRAIN, _COLLECT = "train", "collect"
_INIT = ("STUDENT_INIT", "STUDENT_INIT_LAYERS", "STUDENT_INIT_FIT_STEPS", "STUDENT_INIT_EMBEDDING")
_BESIDE = (*_INIT, "TRAIN_ONLINE", "MAX_TOPK", "KD_DATA_PATH")
"""Settings of what else a training starts from; a checkpoint has hashes of them."""
_OF_START = ("MAX_SEQ_LEN", "SEED", "A4_POLICY")
"""Besides those, what decides a start that is half made."""
_NO_SHAPE = ("TOKENIZER_NAME", "TEMPLATE", "TEMPLATE_SYSTEM", "STUDENT_QUANTIZE", *_BESIDE)


@dataclass(frozen=True)
class Outlook:
    """`step` is that of the checkpoint from which training goes on; None if it begins at its first step.

    The steps to come then have what is `changed`. `aside` are the steps whose checkpoints are moved to
    `checkpoints/superseded`, and `why_not` says why training can't go on from them. If it is only `finished`,
    it could from an earlier one, or with a larger budget; with a `step`, no further one comes.
    `refused` is the sentence with which the stage would end instead.
    If `doubtful`, it would end so where the traces, which were collected again since, are others now.
    """

    step: int | None = None
    changed: Changes = field(default_factory=dict)
    aside: tuple[int, ...] = ()
    why_not: str = ""
    finished: bool = False
    refused: str = ""
    doubtful: bool = False
    flip: str = ""
    """As `Verdict.flip`."""
    seen_tokens: int = 0
    """What had been seen at `step`."""
    worse: tuple[float, float] | None = None
    """The held-out losses before the first step and at `step`, if it is worse there and step 0 was saved too."""
    diverged: str = ""
    """How a training with these very settings has ended, if it diverged."""

    @property
    def starts_again(self) -> bool:
        """Whether checkpoints from which training could have gone on are put away."""
        return self.step is None and bool(self.aside)

    @property
    def changed_words(self) -> str:
        """`LR 6e-4 → 3e-4, BUDGET_TOKENS 130,000 → 60,000; its flip is at 54,000 tokens`."""
        return "; ".join(filter(None, (words(self.changed), self.flip)))

    @property
    def adds_no_step(self) -> bool:
        """Whether it goes on from its last step."""
        return self.step is not None and self.finished


def outlook(history: History, settings: Settings, *, collects_first: bool = False) -> Outlook:
    """What a training with `settings` would do, from the newest checkpoint or that of RESUME_STEP.

    With `collects_first`, it gets other traces. UsageError for settings that contradict each other.
    """
    options = TrainOptions.of(settings)
    there, step = _complete(history.experiment.checkpoints), options.resume_step
    steps = tuple(sorted(there))
    if not there:
        return Outlook()
    if step == 0:
        keeps_start = not collects_first and 0 in there and _is_same_start(history, *there[0], settings, options)
        return Outlook(aside=steps[1:] if keeps_start else steps)
    chosen = steps[-1] if step is None else step
    if chosen not in there:
        return Outlook(refused=f"There is no complete checkpoint of step {chosen}; choose another one.")
    path, health = there[chosen]
    made = _made(history, path)
    if shape := _others(made, settings, _shape_settings()):
        told = f"The checkpoints are of another student ({words(shape)})"
        return Outlook(refused=f"{told}; restore its shape, or duplicate the experiment.")
    verdict = _verdict(health, made, settings, options)
    barred = verdict.barred
    anew = collects_first or _collected_since(history, made)
    if verdict.goes_on and (step is not None or not anew):
        newer = tuple(one for one in steps if one > chosen)
        seen = natural(health.get("seen_tokens")) or 0
        kept = Outlook(chosen, verdict.changed, newer, flip=verdict.flip, seen_tokens=seen)
        return replace(kept, finished=verdict.finished, doubtful=anew, worse=_worse(there, chosen))
    verdict = replace(verdict, barred={**barred, **({TRACES: ("", "")} if anew else {})})
    if step is not None:
        how = "restore the old values" if verdict.barred else "choose an earlier step, or raise the budget"
        return Outlook(refused=f"Training can't go on from step {step}: {verdict.why_not}; {how}.")
    return Outlook(aside=steps, why_not=verdict.why_not, finished=not verdict.barred)


def _worse(there: Mapping[int, tuple[Path, Mapping[str, Any]]], step: int) -> tuple[float, float] | None:
    """As `Outlook.worse`. After the flip, which raises the loss, nothing is said."""
    health = there[step][1]
    found = [there[one][1].get("heldout") for one in (0, step) if one in there]
    first, *now = (finite(one.get("heldout_loss")) if isinstance(one, dict) else None for one in found)
    flipped = health.get("activation_bits") == 4 or health.get("layers_at_4_bits")
    if not step or not now or first is None or now[0] is None or flipped:
        return None
    return (first, now[0]) if is_worse(now[0], first, ended=False) else None


def _verdict(health: Mapping[str, Any], made: Entry | None, settings: Settings, options: TrainOptions) -> Verdict:
    """What a training with `settings` does with a checkpoint of this student."""
    kept = _kept(health, made)
    verdict = judge(_reached(health, kept), _wanted(options, settings, kept), options, _epoch_tokens(health))
    return replace(verdict, barred={**verdict.barred, **_others(made, settings, _BESIDE)})


def _is_same_start(
    history: History, path: Path, health: Mapping[str, Any], settings: Settings, options: TrainOptions
) -> bool:
    """Whether a training that begins anew has no other start than the checkpoint of step 0."""
    made = _made(history, path)
    if not health.get("origin") or _others(made, settings, _shape_settings()) or _collected_since(history, made):
        return False
    return _verdict(health, made, settings, options).goes_on


def continues(history: History, entry: Entry) -> bool:
    """Whether a training without figures of its own belongs to an earlier one.

    One that succeeded has added no step to it; one that was stopped or has failed has not begun.
    """
    return entry.state == "succeeded" or (entry.state in ACTIVE and resumes(history, entry))


def resumes(history: History, entry: Entry) -> bool:
    """Whether an active training that has no figures yet goes on with an earlier one, as far as can be foreseen."""
    return resumes_after(history, entry) is not None


def resumes_after(history: History, entry: Entry) -> int | None:
    """The seen tokens of the checkpoint that it goes on with; None if it begins anew. Found once for a history."""
    known = history.resumed_after
    if entry.run.id not in known:
        known[entry.run.id] = _resumes_after(history, entry.record)
    return known[entry.run.id]


def _resumes_after(history: History, record: RunRecord) -> int | None:
    try:
        found = outlook(history, Settings.from_record(record.settings, record.origins))
    except (UsageError, TypeError, ValueError):
        return None
    return None if found.step is None else found.seen_tokens


def would_use(history: History, entry: Entry, *, start_alone: bool = False) -> bool:
    """Whether a training with the settings of now goes on with what this one has saved, as far as they tell.

    `start_alone`: that is a part of its start and no step.
    """
    settings = history.experiment.settings
    deciding = (*_shape_settings(), *_BESIDE, *(_OF_START if start_alone else STARTS_AGAIN))
    return not _others(entry, settings, deciding) and not _collected_since(history, entry)


def best_kept(folder: Path) -> tuple[int, float] | None:
    """Step and held-out loss of the best checkpoint, as the newest one tells, if it is there."""
    there = _complete(folder)
    best = there[max(there)][1].get("best") if there else None
    if not isinstance(best, dict):
        return None
    step, loss = natural(best.get("step")), finite(best.get("heldout_loss"))
    return None if step is None or loss is None or step not in there else (step, loss)


def _complete(folder: Path) -> dict[int, tuple[Path, Mapping[str, Any]]]:
    """By step, the checkpoints whose health file tells of a file of that size."""
    found: dict[int, tuple[Path, Mapping[str, Any]]] = {}
    for path in folder.glob("mini_bitnet_step_*.pt"):
        try:
            health = files.read_json(path.with_name(f"{path.stem}_health.json"))
            whole = isinstance(health, dict) and health.get("bytes") == path.stat().st_size
        except (BitnetError, OSError):
            continue
        if whole and (step := natural(health.get("step"))) is not None:
            found[step] = path, health
    return found


def _made(history: History, path: Path) -> Entry | None:
    """The run that wrote a checkpoint, by the time; of a copied folder, whose files are all new, the newest."""
    try:
        written = path.stat().st_mtime
    except OSError:
        return None
    return history.latest(_TRAIN, lambda record: record.began.wall <= written)


def _kept(health: Mapping[str, Any], made: Entry | None) -> Mapping[str, Any]:
    """The recipe of a checkpoint. Versions whose health files have none leave it to the run's record."""
    kept = health.get("recipe")
    if isinstance(kept, dict):
        return kept
    policy = {"A4_POLICY": health.get("a4_policy", "all")}
    try:
        record = made.record if made else None
        return (
            recipe(TrainOptions.of(Settings.from_record(record.settings, record.origins))) | policy if record else {}
        )
    except (UsageError, TypeError, ValueError):
        return {}


def _wanted(options: TrainOptions, settings: Settings, kept: Mapping[str, Any]) -> dict[str, Any]:
    """What the settings ask for; as it was where they don't tell, or where nothing tells what it was."""
    wanted = recipe(options) | {"A4_POLICY": settings.values.get("A4_POLICY") or "all"}
    if "A4_POLICY" not in settings.origins:  # as the stage does it
        wanted["A4_POLICY"] = kept.get("A4_POLICY", "all")
    return {**kept, **wanted} if kept else {}


def _reached(health: Mapping[str, Any], kept: Mapping[str, Any]) -> Reached:
    flipped = health.get("activation_bits") == 4 or bool(health.get("layers_at_4_bits"))
    step, seen = natural(health.get("step")) or 0, natural(health.get("seen_tokens")) or 0
    return Reached(step, seen, kept, flipped, _budget(health))


def _budget(health: Mapping[str, Any]) -> Mapping[str, Any]:
    budget = health.get("budget")
    return budget if isinstance(budget, dict) else {"tokens": health.get("budget_tokens")}


def _epoch_tokens(health: Mapping[str, Any]) -> int:
    return natural(_budget(health).get("epoch_tokens")) or 1


def _others(made: Entry | None, settings: Settings, names: tuple[str, ...]) -> Changes:
    """Of these settings, those that have an effect and another value now than the run had."""
    if made is None:
        return {}
    then, now = made.record.settings, settings.to_record()
    idle = unused(now)
    known = [name for name in names if name in then and name not in idle]
    return changes({name: then[name] for name in known}, {name: now.get(name) for name in known})


def _shape_settings() -> tuple[str, ...]:
    return tuple(name for name in in_sections("Student") if name not in _NO_SHAPE)


def _collected_since(history: History, made: Entry | None) -> bool:
    later = history.latest(_COLLECT)
    return made is not None and later is not None and later.place > made.place and history.has_written(later)
