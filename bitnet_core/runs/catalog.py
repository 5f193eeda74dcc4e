"""The table of stages: their order, what each needs and leaves, and which settings change its result.

Light: the app reads it. To add a stage, add a row here and a module in `bitnet_core.stages`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from bitnet_core import files
from bitnet_core.files.regular import version
from bitnet_core.settings.registry import REGISTRY, in_sections
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.unused import unused
from bitnet_core.settings.values import tokenizer_name


@dataclass(frozen=True)
class Stage:
    """One stage. `needs` are the stages it reads from; `settings` decide its result.

    `outputs` are pairs of a folder of `Experiment` and a glob pattern in it.
    """

    name: str
    title: str
    about: str
    outputs: tuple[tuple[str, str], ...]
    needs: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    uses_teacher: bool = False
    resumes: bool = True
    """Whether a run that was stopped or has failed leaves work with which the next one goes on: a training only once
    it has a checkpoint, or a part of its start.
    """


EVALUATION_REPORT = "mini_evaluation_report.json"
HALF_MADE = (("checkpoints", ".start-*.pt"),)
"""What a training keeps of a start from a model while it makes it; as outputs of a stage."""
START_MADE = (("checkpoints", ".made-start-*.pt"),)
"""The fitted layers of a start that is made, for another training of the same start."""

_RESULT_UNCHANGED_BY = {
    "LOG_INTERVAL",
    "CHECKPOINT_INTERVAL",
    "RESUME_STEP",
    "NUM_WORKERS",
    "KD_CONCURRENCY",
    "KD_PRICES_FILE",
    "SAVE_SAMPLE_GENERATIONS",
}
"""Settings that change what a stage reports or how fast it is, but not what it makes."""

_MOST_HASHED = 1 << 32
"""Bytes of a file that are read to know it: some seconds. A sparse file may claim a terabyte."""


def _settings(*sections: str, extra: tuple[str, ...] = ()) -> tuple[str, ...]:
    return tuple(name for name in (*in_sections(*sections), *extra) if name not in _RESULT_UNCHANGED_BY)


_TEACHER = tuple(n for n in _settings("Chat provider", "Teacher") if not n.startswith("TEACHER_BASELINE"))

_SUITES = ("EVAL_SUITE", "EVAL_LIMIT", "EVAL_SUITE_MAX_TOKENS", "EVAL_ITEMS_FILE")
"""Teacher and student are asked the same items."""

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "teacher",
            "Teacher baseline",
            "Greedy answers of the teacher: text, tokens/s, latency, memory.",
            outputs=(("reports", "teacher_baseline.json"),),
            settings=_settings("Chat provider", "Teacher", extra=_SUITES),
            uses_teacher=True,
        ),
        Stage(
            "collect",
            "Collect traces",
            "Samples the teacher with top-k logprobs and keeps them as Parquet.",
            outputs=(("data", "kd_shard_*.parquet"),),
            settings=(
                *_TEACHER,
                *_settings("Collection", extra=("SEED", "TOKENIZER_NAME", "TEMPLATE", "TEMPLATE_SYSTEM")),
            ),
            uses_teacher=True,
        ),
        Stage(
            "train",
            "Train the student",
            "Distils the traces into a ternary student, with the A8→A4 flip.",
            needs=("collect",),
            outputs=(("checkpoints", "mini_bitnet_step_*.pt"),),
            settings=_settings("Student", "Data", "Optimiser", "Flip", "Loss", "Device", "Run"),
        ),
        Stage(
            "eval",
            "Evaluate",
            "Quality, imitation of the teacher, tokens/s, memory, QEI.",
            needs=("teacher", "train"),
            outputs=(("reports", EVALUATION_REPORT),),
            settings=_settings("Evaluation", extra=("TEACHER_MEMORY_GB", "SEED")),
            resumes=False,
        ),
        Stage(
            "dryrun",
            "7B dry run",
            "One forward pass of a 7B student at A8 and at A4, with its peak memory.",
            outputs=(("reports", "dryrun_7b_memory.json"),),
            settings=_settings("Dry run", extra=("SEED", "DEVICE_TYPE", "FORCE_CPU", "A4_POLICY")),
            resumes=False,
        ),
    )
}

PIPELINE = Stage(
    "pipeline",
    "Whole pipeline",
    "All five stages in order; what is done and unchanged is skipped.",
    outputs=(("reports", "pipeline_summary.json"),),
    uses_teacher=True,
)

UPLOAD = Stage("upload", "Copy to storage", "Brings the copy on the storage target up to date.", outputs=())
"""Runs beside the stages, started by them."""


def stage(name: str) -> Stage:
    return {PIPELINE.name: PIPELINE, UPLOAD.name: UPLOAD}.get(name) or STAGES[name]


def _with_content(name: str, value: Any, now: Any) -> Any:
    """A setting's value; for a file, its path and the hash of its content, which is `now` at another path perhaps.

    A huge file is known by its size and date.
    """
    if REGISTRY[name].kind != "path" or not value or not now or not files.is_file(Path(now)):
        return value
    try:
        status = Path(now).stat()
        if status.st_size > _MOST_HASHED:
            return [value, status.st_size, status.st_mtime_ns]
        return [value, _sha256_of(Path(now), version(status))]
    except OSError:  # the stage that reads it will say so
        return [value, None]


@lru_cache(maxsize=64)
def _sha256_of(path: Path, _version: tuple[int, ...]) -> str:
    """Each version of a file is read once: it may be large, and the app asks every second."""
    return files.sha256_file(path)


def fingerprint(
    name: str, settings: Settings, upstream: Mapping[str, str | None], made: Settings | None = None
) -> str:
    """Hash of what decides a stage's result: its settings, the files they name, and the runs that made its input.

    With the settings that an older run was `made` with, it is what that run would get now, see `deciding`.
    """
    now = settings.to_record()
    chosen = {key: _with_content(key, value, now.get(key)) for key, value in deciding(name, settings, made).items()}
    if not chosen.get("TOKENIZER_NAME", "-"):  # a student that starts from a model has that model's tokenizer
        chosen["TOKENIZER_NAME"] = tokenizer_name(settings) or chosen["TOKENIZER_NAME"]
    text = json.dumps([name, chosen, dict(upstream)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def deciding(name: str, settings: Settings, made: Settings | None = None) -> dict[str, Any]:
    """The settings that decide a stage's result, as a record has them.

    Another version's settings and defaults undo no result: what the older run did not know counts only when it is set
    now, and what was left to its default then and now counts as it was then. Nor does another name of the
    experiment's folder: a file at the same place in it counts under its path of then. Nor does what is
    `unused`, such as a model of a provider that is not the teacher's.
    """
    now = settings.to_record()
    if made is None:
        return {key: now.get(key) for key in stage(name).settings}
    then = made.to_record()
    idle = unused(now)
    known = [k for k in stage(name).settings if k in then or (k in settings.origins and k not in idle)]
    same = {k for k in known if k in idle or _left_to_defaults(k, settings, made) or _moved_along(k, now, then)}
    return {key: then[key] if key in same else now.get(key) for key in known}


def _moved_along(key: str, now: Mapping[str, Any], then: Mapping[str, Any]) -> bool:
    """Whether a path leads to the same place in the experiment's folder, which had another name then."""
    places = []
    for record in (now, then):
        path, root = record.get(key), record.get("DRIVE_ROOT")
        if REGISTRY[key].kind != "path" or not isinstance(path, str) or not isinstance(root, str) or not root:
            return False
        if not Path(path).is_relative_to(root):
            return False
        places.append(Path(path).relative_to(root))
    return places[0] == places[1]


def _left_to_defaults(key: str, settings: Settings, made: Settings) -> bool:
    """A default that refers to other settings follows them."""
    return key not in settings.origins and key not in made.origins and "${" not in REGISTRY[key].default
