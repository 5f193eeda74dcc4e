"""Which student a command means: a checkpoint, or the newest one of an experiment. Heavy: it reads checkpoints."""

import argparse
from pathlib import Path

from bitnet_core.cli.exporting import Source, open_source
from bitnet_core.errors import UsageError
from bitnet_core.runs.experiment import is_experiment


def student_at(arguments: argparse.Namespace, path: Path | None) -> Source:
    """The student at `path`, a checkpoint or an experiment's folder; without one, this experiment's newest.

    A checkpoint's tokenizer is that of the experiment whose folder it is in, else of the command's. UsageError for no
    such path, BitnetError for a damaged checkpoint or one of another tokenizer.
    """
    if path is None:
        return open_source(_with(arguments, arguments.root, None))
    if path.is_dir():
        return open_source(_with(arguments, path, None))
    if not path.is_file():
        raise UsageError(f"{path} does not exist; give a checkpoint or an experiment's folder.")
    own = path.resolve().parent.parent
    return open_source(_with(arguments, own if is_experiment(own) else arguments.root, path))


def _with(arguments: argparse.Namespace, root: Path | None, checkpoint: Path | None) -> argparse.Namespace:
    return argparse.Namespace(assignments=arguments.assignments, env=arguments.env, root=root, checkpoint=checkpoint)
