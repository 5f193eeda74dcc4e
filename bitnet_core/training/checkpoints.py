"""Checkpoints: written whole or not at all, read without running code from them. It knows no training loop.

What only looks for one and checks it against its health file needs no torch, so that it is told at once.

`mini_bitnet_step_00000200.pt` is written first, then `mini_bitnet_step_00000200_health.json` with its sha256. A
checkpoint whose health file is missing or doesn't match was not written completely, and is skipped.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitnet_core import files
from bitnet_core.errors import NEWER, BitnetError, UsageError, explained, raise_if_not_the_file
from bitnet_core.model.config import StudentConfig
from bitnet_core.runs.events import CheckpointSaved
from bitnet_core.runs.strict_json import strict
from bitnet_core.training.ramp import FIELD

if TYPE_CHECKING:
    from torch import Tensor

    from bitnet_core.model.student import Student
    from bitnet_core.runs.reporter import Reporter

_FORMAT = "bitnet-core student"
_VERSION = 1
_NAME = re.compile(r"mini_bitnet_step_(\d{8,})\.pt")
_KEEP_LAST = 3
_LONGEST_STEP = 19


class Missing(BitnetError):
    """A checkpoint's file does not exist."""


@dataclass
class Checkpoint:
    """A student, and everything that training needs to go on as if it had never stopped."""

    step: int
    seen_tokens: int
    activation_bits: int | None
    """Of the first layer, which flips first (see `layer_bits`); None for a full-precision twin."""
    config: StudentConfig
    tokenizer_hash: str
    model: "dict[str, Tensor]"
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    rng: dict[str, Any] = field(default_factory=dict)
    sampler: dict[str, Any] = field(default_factory=dict)
    counters: dict[str, Any] = field(default_factory=dict)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    """What the student was trained on and how. Training does not resume from another recipe."""

    @property
    def quantized_share(self) -> float:
        """As of the student; below 1 it is not ternary yet. BitnetError for what is no share."""
        share = self.counters.get(FIELD, 1.0)
        if type(share) is not float or not 0 <= share <= 1:
            raise self._damaged(FIELD)
        return share

    @property
    def layer_bits(self) -> tuple[int | None, ...]:
        """Activation bits of each layer, which differ in the middle of a flip. BitnetError for what can't be."""
        bits = self.counters.get("layer_bits", [self.activation_bits] * self.config.num_hidden_layers)
        if not self.config.takes_layer_bits(bits) or bits[0] != self.activation_bits:
            raise self._damaged("layer_bits")
        return tuple(bits)

    def _damaged(self, name: str) -> BitnetError:
        return BitnetError(
            f"The checkpoint of step {self.step} has a damaged {name}; move it away to use the one before it."
        )


def path_of(folder: Path, step: int) -> Path:
    return folder / f"mini_bitnet_step_{step:08d}.pt"


def health_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}_health.json")


def save(folder: Path, checkpoint: Checkpoint, health: dict[str, Any]) -> CheckpointSaved:
    """Write the checkpoint, then its health file, and return the event that announces it.

    BitnetError when the disk is full or can't be written.
    """
    from bitnet_core.model.tensor_file import save_tensors

    path = path_of(folder, checkpoint.step)
    payload = {item.name: getattr(checkpoint, item.name) for item in dataclasses.fields(checkpoint)}
    payload |= {"format": _FORMAT, "version": _VERSION, "config": checkpoint.config.to_dict()}
    try:
        with files.atomic_path(path) as temp:
            save_tensors(payload, temp)
            # Before it has its name: until the health file is there, too, it looks incomplete.
            size, digest = temp.stat().st_size, files.sha256_file(temp)
    except OSError as error:
        raise BitnetError(
            f"{path} can't be written {explained(error, 'check its permissions')}; what was saved before stays."
        ) from error
    files.write_json(health_of(path), {"checkpoint": path.name, "sha256": digest, "bytes": size} | health)
    return CheckpointSaved(step=checkpoint.step, path=str(path), bytes=size, sha256=digest)


_MEASURED_AT = ("step", "activation_bits", "layers_at_4_bits", FIELD)


def tell_measured(path: Path | None, evaluation: dict[str, Any], reporter: "Reporter") -> None:
    """Write an evaluation into the health file of the checkpoint if it is of it, and the first one of its step."""
    health = read_health(path) if path else {}
    kept = health.get("heldout")
    same = bool(health) and all(health.get(name) == evaluation.get(name) for name in _MEASURED_AT)
    if path and same and not (isinstance(kept, dict) and kept.get("step") == evaluation["step"]):
        files.write_json(health_of(path), {**health, "heldout": strict(evaluation)})
        reporter.artifact(health_of(path), "health")


def found(folder: Path) -> list[Path]:
    """All files named like checkpoints, newest step first; some may be incomplete."""
    steps = {int(match[1]): path for path in files.matching(folder, "*.pt") if (match := _NAME.fullmatch(path.name))}
    return [steps[step] for step in sorted(steps, reverse=True)]


def is_complete(path: Path) -> bool:
    """Whether there is a health file with the sha256 that this file has. OSError if it is out of reach."""
    health = read_health(path)
    told = health.get("sha256")
    try:
        # Its size first: a file that was cut, or one of a terabyte, need not be read.
        is_as_long = health.get("bytes") in (None, path.stat().st_size)
        return told is not None and is_as_long and told == files.sha256_file(path)
    except OSError as error:
        raise_if_not_the_file(error, path)
        return False


def require_told(path: Path, sha256: str) -> None:
    """BitnetError if the health file of the checkpoint at `path` tells of another file than one with this sha256."""
    if read_health(path).get("sha256", sha256) != sha256:
        raise BitnetError(
            f"{path} is damaged: it is not the file that {health_of(path).name} tells of; choose another checkpoint."
        )


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint."""
    return next((path for path in found(folder) if is_complete(path)), None)


def newest_health(folder: Path) -> dict[str, Any]:
    """What the newest checkpoint's health file says, which may be anything; empty if none can be read."""
    return next(filter(None, map(read_health, found(folder))), {})


def read_health(path: Path) -> dict[str, Any]:
    """What the health file of the checkpoint at `path` says, which may be anything; empty if it can't be read."""
    try:
        health = files.read_json(health_of(path))
    except BitnetError:
        return {}
    return health if isinstance(health, dict) else {}


def require_latest(folder: Path, on_skipped: Callable[[str], object] = lambda _: None) -> Path:
    """The newest complete checkpoint. BitnetError if there is none.

    `on_skipped` is told, in a sentence, of a newer file that is not complete.
    """
    there = found(folder)
    path = next(filter(is_complete, there), None)
    if path is None and there != (now := found(folder)):  # a training has replaced all of them meanwhile
        there, path = now, next(filter(is_complete, now), None)
    if path is None:
        why = f" ({there[0].name} {fault(there[0])})" if there else ""
        raise BitnetError(f"There is no complete checkpoint in {folder}{why}; run `bitnet train` first.")
    if there and there[0] != path:
        fix = "unless a training is writing it, move it away or copy it again"
        on_skipped(f"{there[0]} {fault(there[0])}, so {path.name} is used; {fix}.")
    return path


def say_if_untrained(path: Path, step: int, say: Callable[[str], object]) -> None:
    """Tell `say` in a sentence if the checkpoint at `path` is that of a start from a model, before its first step."""
    if step == 0:
        say(f"{path.name} has not been trained: it has the weights that training starts from.")


def fault(path: Path) -> str:
    """What is wrong with a file that is not a complete checkpoint, in words that follow its name."""
    if not files.is_file(path):
        return "is not a regular file"
    if "sha256" not in read_health(path):
        return f"is incomplete or still being written: {health_of(path).name} does not tell of it"
    return f"is damaged: it is not the file that {health_of(path).name} tells of"


def of_step(folder: Path, step: int) -> Path:
    """The complete checkpoint of a step. BitnetError if there is none."""
    path = path_of(folder, step)
    if not is_complete(path):
        others = [one for one in reversed(found(folder)) if one != path and health_of(one).exists()]
        there = ", ".join(str(step_of(one)) for one in others) or "none"
        if path.exists():
            raise BitnetError(
                f"{path} is damaged: it is not the file that {health_of(path).name} tells of; "
                f"other steps that are there: {there}."
            )
        raise BitnetError(
            f"There is no complete checkpoint of step {step} in {folder}; steps that are there: {there}."
        )
    return path


def chosen(folder: Path, which: str, on_skipped: Callable[[str], object] = lambda _: None) -> Path:
    """The checkpoint that `best`, `latest`, a step, the name of a file in `folder`, or a path names.

    BitnetError if there is none, UsageError for an empty name. `on_skipped` is as of `require_latest`.
    """
    if not which:
        raise UsageError("The name of the checkpoint is empty; give latest, best, a step or a file.")
    if which == "latest":
        return require_latest(folder, on_skipped)
    if which == "best":
        best = newest_health(folder).get("best")
        step = best.get("step") if isinstance(best, dict) else None
        if type(step) is not int:
            raise BitnetError(f"No health file in {folder} names a best checkpoint; choose one by its step.")
        return of_step(folder, step)
    if which.isdecimal() and len(which) < _LONGEST_STEP:
        return of_step(folder, int(which))
    if (path := Path(which)).exists() or not (folder / which).exists():
        return path
    return folder / which


def newer_than(folder: Path, path: Path) -> list[Path]:
    """The files of later steps, newest first."""
    return [one for one in found(folder) if step_of(one) > step_of(path)]


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint; 0 for a file of another name, too."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def set_aside(folder: Path, paths: Iterable[Path]) -> Path:
    """Move these checkpoints into a new folder below `folder`, and return that."""
    aside = files.new_dated_folder(folder / "superseded")
    for path in paths:
        # The checkpoint first: if this is killed in between, a complete pair is still in one of the two folders.
        for part in (path, health_of(path)):
            if part.exists():
                part.rename(aside / part.name)
    return aside


def prune(folder: Path, best_step: int | None) -> list[Path]:
    """Remove all but the newest three and the best one; return what was removed."""
    # One without a health file is incomplete and must not displace a good one.
    whole = [path for path in found(folder) if health_of(path).exists()]
    gone = [path for path in whole[_KEEP_LAST:] if best_step is None or path != path_of(folder, best_step)]
    for path in gone:
        # In this order: a health file alone is harmless, a checkpoint alone looks incomplete.
        path.unlink(missing_ok=True)
        health_of(path).unlink(missing_ok=True)
    return gone


def load(path: Path) -> Checkpoint:
    """Read a checkpoint into CPU memory; BitnetError for a missing, truncated, changed or foreign file.

    Missing if there is none; FileReplaced if a training removes or replaces it meanwhile.
    """
    return _load(path, lambda _: "")[0]


def load_hashed(path: Path) -> tuple[Checkpoint, str]:
    """As `load`, with the SHA-256 of the very file that was read. BitnetError if its health file tells of another."""

    def told(path: Path) -> str:
        require_told(path, sha256 := files.sha256_file(path))
        return sha256

    return _load(path, told)


def _load(path: Path, hash_of: Callable[[Path], str]) -> tuple[Checkpoint, str]:
    from bitnet_core.model.tensor_file import Changed, load_tensors
    from bitnet_core.training.kept import odd_field

    advice = "move it away to use the checkpoint before it"
    try:
        with files.file_watched(path):
            payload, sha256 = load_tensors(path), hash_of(path)
    except FileNotFoundError as error:
        raise Missing(f"{path} does not exist; run `bitnet train` first.") from error
    except BitnetError:
        raise
    except Exception as error:  # for a damaged file zipfile, torch and pickle each raise their own errors
        raise_if_not_the_file(error, path)
        why = f"damaged: {error}" if isinstance(error, Changed) else "truncated or not a checkpoint of this program"
        raise BitnetError(f"{path} is {why}; {advice}.") from error
    if not isinstance(payload, dict) or payload.get("format") != _FORMAT:
        raise BitnetError(f"{path} is not a checkpoint of this program; {advice}.")
    version = payload.get("version")
    if type(version) is int and version > _VERSION:
        raise BitnetError(f"{path} was {NEWER}.")
    if version != _VERSION:
        raise BitnetError(f"{path} has checkpoint format {version} and this program reads {_VERSION}; {advice}.")
    names = [item.name for item in dataclasses.fields(Checkpoint)]
    if missing := [name for name in names if name not in payload]:
        raise BitnetError(f"{path} has no {missing[0]}; {advice}.")
    values = {name: payload[name] for name in names}
    if odd := odd_field(values):
        raise BitnetError(f"{path} has a damaged {odd}; {advice}.")
    try:
        config = StudentConfig.from_dict(payload["config"])
        config.require_tensors(payload["model"])
    except BitnetError as error:
        raise BitnetError(f"{path} does not hold a student ({str(error).rstrip('.')}); {advice}.") from error
    return Checkpoint(**values | {"config": config}), sha256


def require_same_student(path: Path, checkpoint: Checkpoint, config: StudentConfig, tokenizer_hash: str) -> None:
    """Raise BitnetError, naming both sides, unless the checkpoint is of the student that is to be trained."""
    fix = "use another experiment (--root), or move the checkpoints away; they are left as they are"
    theirs, ours = checkpoint.config.to_dict(), config.to_dict()
    # A longer context changes no tensor, so it may change between runs; the others are part of the recipe.
    free = ("max_position_embeddings", "a4_policy", "embedding_type")
    other = [name for name in ours if name not in free and theirs.get(name) != ours[name]]
    if other:
        there = ", ".join(f"{name}={theirs.get(name)}" for name in other)
        here = ", ".join(f"{name}={ours[name]}" for name in other)
        raise BitnetError(f"{path} is a student with {there}, and the settings ask for {here}; {fix}.")
    if checkpoint.tokenizer_hash != tokenizer_hash:
        raise BitnetError(
            f"{path} was trained with tokenizer {checkpoint.tokenizer_hash[:12]}, and the traces have "
            f"{tokenizer_hash[:12]}; {fix}."
        )


def student_from(checkpoint: Checkpoint) -> "Student":
    """The student in evaluation mode, with the bits of each layer and the tensors of the checkpoint, not copies.

    BitnetError for one that is not ternary yet: its figures and files would be those of another student than was
    trained. And for weights that are not finite, which no answer could be made of.
    """
    import torch

    from bitnet_core.model.student import Student

    if checkpoint.quantized_share < 1:
        raise BitnetError(
            f"The student of step {checkpoint.step} is not ternary yet: its quantisation is at "
            f"{checkpoint.quantized_share:.2f} of 1 (QUANT_RAMP_FRACTION); train on (bitnet train)."
        )
    with torch.device("meta"):
        student = Student(checkpoint.config)
    tensors = {name: tensor.float() for name, tensor in checkpoint.model.items()}
    try:
        student.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise BitnetError(
            f"The checkpoint of step {checkpoint.step} does not hold the student that it describes; "
            "move it away to use the one before it."
        ) from error
    if not all(bool(torch.stack(tensor.aminmax()).isfinite().all()) for tensor in tensors.values()):
        raise BitnetError(
            f"The checkpoint of step {checkpoint.step} has weights that are not finite; move it away to use the one "
            "before it."
        )
    student.set_layer_bits(checkpoint.layer_bits)
    return student.eval()
