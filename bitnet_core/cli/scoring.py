"""What `bitnet traces score` does: the newest student on traces, token by token. Heavy: it imports torch."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from bitnet_core.cli.command import answer, json_line, open_experiment, warn
from bitnet_core.cli.silence import doing
from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.checks import own_tokenizer, require_one_tokenizer
from bitnet_core.evaluation.token_scores import token_scores
from bitnet_core.files.writable import require_writable
from bitnet_core.model.config import told_bits
from bitnet_core.model.precision import configure, pick_device
from bitnet_core.settings.values import DataOptions, DeviceOptions
from bitnet_core.terminal import safe
from bitnet_core.traces.dataset import MappedSequences, load_traces
from bitnet_core.traces.examples import Examples
from bitnet_core.traces.scores import FILE, About, ScoreFile, write
from bitnet_core.training import checkpoints
from bitnet_core.training.reading import read_chosen


def score(arguments: argparse.Namespace) -> int:
    """Score held-out traces, or all; the file of scores is as it was if that fails or is stopped."""
    experiment = open_experiment(arguments)
    require_writable(out := experiment.reports / FILE)
    options, hardware = DataOptions.of(experiment.settings), DeviceOptions.of(experiment.settings)
    newest = partial(checkpoints.require_latest, experiment.checkpoints, warn)
    path, (checkpoint, sha256) = read_chosen(newest, checkpoints.load_hashed)
    checkpoints.say_if_untrained(path, checkpoint.step, warn)
    data = options.path or experiment.data
    traces = load_traces(data, options.top_k)
    tokenizer = own_tokenizer(path, checkpoint.tokenizer_hash, checkpoint.config, data)
    require_one_tokenizer(tokenizer, traces, path, data)
    chosen = traces.sequences if arguments.all else traces.split()[1]
    if not len(chosen):
        raise BitnetError("No prompt is held out; collect more prompts (KD_NUM_PROMPTS), or give --all.")
    if not isinstance(traces.sequences, MappedSequences):
        raise AssertionError("traces were loaded from shards")
    examples = Examples(chosen, min(options.max_seq_len, checkpoint.config.max_position_embeddings))
    device = pick_device(hardware)
    configure(hardware)
    about = About(
        checkpoint=path.name,
        sha256=sha256,
        step=checkpoint.step,
        activation_bits=told_bits(checkpoint.layer_bits),
        traces=traces.sequences.content_hash,
        top_k=traces.top_k,
        scope="all" if arguments.all else "held-out",
    )
    student = checkpoints.student_from(checkpoint).to(device)
    with _progress(len(examples), as_json=arguments.json) as on_progress:
        write(out, about, token_scores(student, examples, on_progress))
    made = ScoreFile(out)
    mean, known = made.mean_kl(), made.kl.values
    fields = {"path": str(out), "step": about.step, "sequences": len(chosen), "tokens": len(known), "mean_kl": mean}
    kl = "" if mean is None else f", mean KL {mean:.3f}"
    answer(arguments, fields, f"{len(chosen)} traces, {len(known):,} tokens{kl}: {out}")
    return 0


@contextmanager
def _progress(total: int, *, as_json: bool) -> Iterator[Callable[[int], None]]:
    """A line redrawn on a terminal, or JSON lines."""
    live = sys.stderr.isatty() and not as_json
    doing(f"scoring {total} traces")

    def on_progress(done: int) -> None:
        if as_json:
            sys.stdout.write(json_line({"done": done, "total": total}) + "\n")
            sys.stdout.flush()
        elif live:
            safe(sys.stderr).redraw(f"{done}/{total} traces")

    on_progress(0)  # the student is loaded by now
    try:
        yield on_progress
    finally:
        if live:
            safe(sys.stderr).redraw("")
