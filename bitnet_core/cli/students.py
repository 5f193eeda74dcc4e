"""The student that a command means, and its answers. Heavy: imported by `bitnet generate` and `chat --student`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bitnet_core import files
from bitnet_core.cli.command import answer, json_line, resolution
from bitnet_core.cli.exporting import Source, open_source
from bitnet_core.cli.silence import doing
from bitnet_core.errors import UsageError
from bitnet_core.model.generation import generate_batch
from bitnet_core.model.precision import pick_device
from bitnet_core.model.sampling import Decoding
from bitnet_core.runs.experiment import is_experiment
from bitnet_core.settings.values import DeviceOptions, EvalOptions

_SEEDS = 1 << 32


def student_at(arguments: argparse.Namespace, path: Path | None) -> Source:
    """The student at `path`, a checkpoint or an experiment's folder; without one, this experiment's newest.

    A checkpoint's tokenizer is that of the experiment whose folder it is in, else of the command's. UsageError for no
    such path, BitnetError for a damaged checkpoint or one of another tokenizer.
    """
    if path is None:
        return open_source(_with(arguments, arguments.root, None))
    if path.is_dir():
        return open_source(_with(arguments, path, None))
    files.require_regular(path)
    if not path.is_file():
        raise UsageError(f"{path} does not exist; give a checkpoint or an experiment's folder.")
    own = path.resolve().parent.parent
    return open_source(_with(arguments, own if is_experiment(own) else arguments.root, path))


def _with(arguments: argparse.Namespace, root: Path | None, path: Path | None) -> argparse.Namespace:
    which = None if path is None else str(path.absolute())
    return argparse.Namespace(assignments=arguments.assignments, env=arguments.env, root=root, checkpoint=which)


def generate(arguments: argparse.Namespace, prompts: Sequence[str]) -> int:
    """Answer prompts: one is streamed, several are shown one after the other when all have their answers."""
    given = _given(arguments)  # before a student is loaded, which may take a minute
    source = student_at(arguments, arguments.student)
    options = EvalOptions.of(source.experiment.settings)
    own, seed = options.sampling, options.seed if arguments.seed is None else arguments.seed
    kept = {"max_tokens": own.max_tokens, "temperature": own.temperature, "top_p": own.top_p}
    decoding = Decoding(**kept | given)
    streams = len(prompts) == 1 and not arguments.json
    texts = answers_of(source, prompts, decoding, stop=arguments.stop, seed=seed, streams=streams)
    if arguments.json:
        for prompt, text in zip(prompts, texts, strict=True):
            sys.stdout.write(json_line({"prompt": prompt, "text": text}) + "\n")
    elif not streams:
        answer(arguments, {}, "\n\n".join(f"» {prompt}\n{text}" for prompt, text in zip(prompts, texts, strict=True)))
    return 0


def answers_of(
    source: Source, prompts: Sequence[str], decoding: Decoding, *, stop: Sequence[str] = (), seed: int, streams: bool
) -> list[str]:
    """The student's answers, computed on the device that the settings choose.

    With `streams`, they are written to stdout as they grow; an answer that is cut short ends its line, too.
    """
    doing("writing its answer" if len(prompts) == 1 else "writing its answers")
    source.student.to(pick_device(DeviceOptions.of(source.experiment.settings)))

    def on_text(_row: int, text: str) -> None:
        if streams:
            sys.stdout.write(text)
            sys.stdout.flush()

    try:
        return generate_batch(
            source.student,
            source.tokenizer,
            prompts,
            decoding,
            stop=stop,
            seeds=[seed + row for row in range(len(prompts))],
            on_text=on_text,
        )
    finally:
        if streams:
            sys.stdout.write("\n")
            sys.stdout.flush()


class Beside:
    """A student that answers the question that the teacher was asked, by the same rules. It is opened at once."""

    def __init__(self, arguments: argparse.Namespace, prompt: str) -> None:
        self._source = student_at(arguments, arguments.student)
        self._prompt = prompt
        self._streams = not arguments.json
        self._options = EvalOptions.of(resolution(arguments).settings)
        self.name = f"{self._source.name} (student)"

    def answer(self) -> dict[str, str]:
        """Its name and text, which is streamed to stdout unless JSON is asked for."""
        decoding = Decoding.of(self._options.sampling)
        (text,) = answers_of(self._source, [self._prompt], decoding, seed=self._options.seed, streams=self._streams)
        return {"name": self._source.name, "text": text}


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """How the command says to decode. UsageError for a value out of range, of the seed too."""
    names = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    Decoding(**{"max_tokens": 1} | given)
    if arguments.seed is not None and not 0 <= arguments.seed < _SEEDS:
        raise UsageError(f"--seed is {arguments.seed}; give a number from 0 to {_SEEDS - 1:,}.")
    return given
