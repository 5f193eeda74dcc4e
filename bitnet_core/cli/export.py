"""`bitnet export` and `bitnet verify-export`: the student for other programs, and whether it is the same there."""

import argparse
import functools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitnet_core.cli.command import (
    CHECKPOINT_HELP,
    Commands,
    answer,
    answer_table,
    failure,
    open_experiment,
    warn,
)
from bitnet_core.errors import UsageError
from bitnet_core.files.typed import typed_path

if TYPE_CHECKING:
    from bitnet_core.runs.experiment import Experiment

FORMATS = ("hf", "gguf")
TYPES = ("TQ2_0", "TQ1_0", "Q2_0", "Q4_0", "F16")
EMBEDDINGS = ("Q8_0", "F16", "Q6_K", "Q5_0", "Q4_0")


def add_to(commands: Commands) -> None:
    export = commands.add(
        "export", "write the student for transformers (hf) or llama.cpp (gguf), and verify it", _export
    )
    export.add_argument("formats", nargs="*", type=_format, metavar="FORMAT", help="hf, gguf, or both")
    export.add_argument("--list", action="store_true", help="list what is in exports/, and write nothing")
    export.add_argument(
        "--type", choices=TYPES, default=TYPES[0], help="gguf: type of the linears (default: TQ2_0, for CPUs)"
    )
    export.add_argument(
        "--embedding",
        choices=EMBEDDINGS,
        help="gguf: type of the embedding (default: the one in which it is kept, Q8_0 if it was trained)",
    )
    _add_checkpoint(export)
    export.add_argument(
        "--out", type=typed_path, metavar="PATH", help="folder or file to write (default: in exports/)"
    )
    export.add_argument("--force", action="store_true", help="replace an export that is there")
    export.add_argument("--no-verify", action="store_true", help="don't load it and compare")
    verify = commands.add(
        "verify-export", "load an export in its runtime and compare it with its checkpoint", _verify
    )
    verify.add_argument("path", type=typed_path, metavar="FOLDER|FILE")
    _add_checkpoint(verify)


def _format(text: str) -> str:
    if text not in FORMATS:  # with `choices`, argparse refuses an empty list as well
        raise argparse.ArgumentTypeError(f"{text!r} is not a format; give {' or '.join(FORMATS)}")
    return text


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", metavar="WHICH", help=CHECKPOINT_HELP)


def _export(arguments: argparse.Namespace) -> int:
    if arguments.list:
        return _list(arguments)
    if not arguments.formats:
        raise UsageError("No format is named; give hf, gguf or both.")
    if arguments.out is not None and len(arguments.formats) > 1:
        raise UsageError("--out is one path, and two formats are asked for; export them one after the other.")
    if "gguf" not in arguments.formats and (arguments.embedding or arguments.type != TYPES[0]):
        raise UsageError("--type and --embedding belong to `bitnet export gguf`; leave them out.")
    from bitnet_core.runs import export_run

    experiment = open_experiment(arguments)

    @functools.cache
    def waiting() -> None:
        warn(f"Another export of {experiment.root} is running; this one waits for it.")
        _source(arguments, experiment)  # what can be refused is refused before that

    with (
        export_run.export_lock(experiment, on_wait=waiting),
        export_run.recorded(
            experiment, arguments.formats, ["bitnet", "export", *arguments.formats], _why
        ) as recording,
    ):
        path = _source(arguments, experiment)
        recording.tell(step=_step_of(path))
        patient_threads()
        from bitnet_core.cli import exporting

        return exporting.export(arguments, experiment, path, recording.tell)


def _step_of(path: Path) -> int | None:
    """The step that a checkpoint is of, if its name tells it."""
    from bitnet_core.training import checkpoints

    step = checkpoints.step_of(path)
    return step if path.name == checkpoints.path_of(path.parent, step).name else None


def _why(error: Exception) -> str:
    """Why an export failed, in a sentence with every key masked."""
    from bitnet_core.secrets.known import redactor

    bug = f"bitnet-tui has a bug here ({type(error).__name__}: {error}); exporting in a terminal shows its traceback."
    return redactor()(failure(error) or bug)


def _list(arguments: argparse.Namespace) -> int:
    """Show which exports are in the experiment, the newest first; one that can't be used is named with the reason."""
    from bitnet_core.runs import exports
    from bitnet_core.text import BYTES, ago

    damaged: dict[Path, str] = {}
    experiment = open_experiment(arguments)
    found = exports.of(experiment.root, damaged)
    records = [
        {"path": str(one.path), "format": one.kind, "step": one.step, "bytes": one.bytes, "problem": None}
        for one in found
    ]
    records += [{"path": str(path), "problem": why} for path, why in damaged.items()]
    if not arguments.json:
        for path, why in damaged.items():
            warn(exports.unusable_words(path, why))
    if not found and not arguments.json:
        none = "no export that can be used" if damaged else "no export; `bitnet export hf gguf` writes two"
        answer(arguments, {}, f"{experiment.root / exports.FOLDER} holds {none}")
        return 0
    now = time.time()
    rows: list[list[Any]] = [[one.path.name, one.kind, one.step, one.bytes, ago(one.written, now)] for one in found]
    answer_table(arguments, "exports", ["export", "format", "step", BYTES, "written"], rows, records)
    return 0


def _source(arguments: argparse.Namespace, experiment: "Experiment") -> Path:
    """The checkpoint to export. What can be refused is refused here, before torch is imported.

    BitnetError for a checkpoint that is not there or is damaged, UsageError for a place that is taken.
    """
    from bitnet_core.export import places
    from bitnet_core.runs import exports
    from bitnet_core.training import checkpoints

    if arguments.out:  # it is given for one kind only
        places.require_free(arguments.out, folder=arguments.formats[0] == exports.HF, force=arguments.force)
    which = "latest" if arguments.checkpoint is None else arguments.checkpoint
    path = checkpoints.chosen(experiment.checkpoints, which, warn)
    step = _step_of(path)
    if not arguments.out and step is not None:
        for kind in arguments.formats:
            out = exports.default_path(experiment.root, experiment.name, step, kind, arguments.type)
            places.require_replaceable(out, folder=kind == exports.HF, force=arguments.force)
    return path


def _verify(arguments: argparse.Namespace) -> int:
    patient_threads()
    from bitnet_core.cli import exporting

    return exporting.verify(arguments)


def patient_threads() -> None:
    """OpenMP reads this when torch is imported."""
    from bitnet_core.process import PATIENT_THREADS

    for name, value in PATIENT_THREADS.items():
        os.environ.setdefault(name, value)
