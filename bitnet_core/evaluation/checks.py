"""What an evaluation checks before it measures: that checkpoint, traces, tokenizer and baseline belong together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.model.config import StudentConfig
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import EvalOptions
from bitnet_core.teachers.identity import Identity
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces.dataset import TraceSet
from bitnet_core.traces.places import tokenizer as tokenizer_folder
from bitnet_core.traces.schema import TOKENIZER_FIX

_Amount = Annotated[float, msgspec.Meta(ge=0, le=1e30)]


class _Memory(msgspec.Struct):
    bytes: _Amount | None = None
    origin: str | None = None


class _Speed(msgspec.Struct):
    end_to_end: _Amount | None = None
    decode: _Amount | None = None


class _Baseline(msgspec.Struct):
    """What an evaluation reads of a baseline, except for the verdicts on items: it leaves out odd ones."""

    provider: str | None = None
    model: str | None = None
    origin: str | None = None
    memory: _Memory | None = None
    tokens_per_s: _Speed | None = None


def load_baseline(path: Path) -> dict[str, Any]:
    """The teacher's baseline as the teacher stage wrote it; BitnetError without one."""
    if not path.exists():
        raise BitnetError(f"{path} does not exist, and QEI compares with it; run `bitnet teacher` first.")
    found: dict[str, Any] = files.read_json(path)
    try:
        msgspec.convert(found, _Baseline)
    except msgspec.ValidationError as error:
        raise BitnetError(f"{path} is not a teacher's baseline ({error}); run `bitnet teacher` again.") from None
    return found


def check_given_qualities(options: EvalOptions, reporter: Reporter) -> None:
    """UsageError for a given quality of 0; an alert if only one is given and the other is measured."""
    qualities = {"EVAL_STUDENT_QUALITY": options.student_quality, "EVAL_TEACHER_QUALITY": options.teacher_quality}
    given = [name for name, value in qualities.items() if value is not None]
    for name in given:
        if qualities[name] == 0:
            raise UsageError(f"{name} is 0; QEI is a ratio of qualities, so give a value above 0 or leave it empty.")
    if len(given) == 1:
        reporter.alert(
            "warning",
            "mixed_quality",
            f"{given[0]} is given, and the other side's quality is measured on items and fixed text.",
            "Give both on one scale, or neither.",
        )


def require_ternary(path: Path, activation_bits: int | None) -> None:
    """BitnetError for a full-precision twin."""
    if activation_bits is None:
        raise BitnetError(
            f"{path} is a full-precision twin (STUDENT_QUANTIZE=0), which only serves to compare training; "
            "train with STUDENT_QUANTIZE=1 to evaluate a ternary student."
        )


def own_tokenizer(path: Path, trained_with: str, config: StudentConfig, data: Path) -> StudentTokenizer:
    """The tokenizer of the traces in `data`. BitnetError unless the checkpoint at `path` was trained with it.

    `trained_with` is the hash that the checkpoint has.
    """
    folder = tokenizer_folder(data)
    tokenizer = load_tokenizer(folder, fix=TOKENIZER_FIX)
    if trained_with != tokenizer.hash or config.vocab_size != tokenizer.vocab_size:
        raise _another_tokenizer(path, folder)
    return tokenizer


def require_one_tokenizer(tokenizer: StudentTokenizer, traces: TraceSet, path: Path, data: Path) -> None:
    """BitnetError unless the traces in `data` were projected for the tokenizer of the checkpoint at `path`."""
    if traces.tokenizer_hash != tokenizer.hash or traces.vocab_size != tokenizer.vocab_size:
        raise _another_tokenizer(path, data)


def _another_tokenizer(path: Path, place: Path) -> BitnetError:
    return BitnetError(
        f"{path.name} was trained with another tokenizer than that in {place}; run `bitnet train` on these traces, "
        "or set KD_DATA_PATH to those that it was trained on."
    )


def warn_of_another_teacher(baseline: Mapping[str, Any], traces: TraceSet, reporter: Reporter) -> None:
    """An alert if the baseline was measured on another teacher than that of the traces."""
    if baseline.get("model") != traces.teacher:
        reporter.alert(
            "warning",
            "other_teacher",
            f"The baseline is of {baseline.get('model')}, the traces are of {traces.teacher}.",
            "Run `bitnet teacher` with the teacher of the traces; QEI compares with the baseline's speed and memory.",
        )


def require_teacher_of(baseline: Mapping[str, Any], identity: Identity) -> None:
    """BitnetError unless the teacher is the baseline's, whose answers to items stand beside its scores on text."""
    known = baseline.get("origin")
    if known is not None and known != identity.origin:
        raise BitnetError(
            f"the settings name {identity.model}, and the baseline is of {baseline.get('model')}; run "
            "`bitnet teacher`, or set TEACHER_PROVIDER and TEACHER_MODEL back."
        )
