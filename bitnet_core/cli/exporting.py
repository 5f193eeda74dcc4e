"""What `bitnet export` and `bitnet verify-export` do. Heavy: imported when such a command runs."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitnet_core import __version__, files
from bitnet_core.cli.command import answer, open_experiment, terminal_columns, warn
from bitnet_core.cli.silence import doing
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.evaluation.checks import own_tokenizer, require_ternary
from bitnet_core.evaluation.deployed import Deployed, run_deployed
from bitnet_core.export import card, gguf, gguf_read, hf, model_card, places
from bitnet_core.export import verify as verifying
from bitnet_core.export.running import LLAMACPP, TRANSFORMERS, RuntimeMissing
from bitnet_core.export.verify import RUNTIME_BITS, Answers, Verification
from bitnet_core.files import half_written
from bitnet_core.files.scratch import scratch_folder
from bitnet_core.model.packing import pack_student
from bitnet_core.model.student import Student
from bitnet_core.runs import exports
from bitnet_core.runs.catalog import EVALUATION_REPORT
from bitnet_core.runs.experiment import Experiment
from bitnet_core.settings.values import DataOptions, Sampling
from bitnet_core.tables import render_table
from bitnet_core.text import crop, flat
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.training import checkpoints
from bitnet_core.training.checkpoints import Checkpoint
from bitnet_core.training.reading import read_chosen

Tell = Callable[..., object]
"""Hears by name how far an export is: its `step`, what is `written`, whether that is `verified`, its `problems`."""
_SEED = 0
_NAME_CELLS = 80


@dataclass(frozen=True)
class Source:
    """The student to export, with what belongs to it."""

    experiment: Experiment
    path: Path
    checkpoint: Checkpoint
    sha256: str
    student: Student
    tokenizer: StudentTokenizer

    @property
    def name(self) -> str:
        return f"{half_written.short(self.experiment.name)}-step{self.checkpoint.step}"

    @property
    def words(self) -> str:
        trained = "" if self.checkpoint.step else ", which has not been trained"
        return f"Made from step {self.checkpoint.step} ({crop(flat(self.path.name), _NAME_CELLS)}){trained}:"

    @property
    def origin(self) -> dict[str, Any]:
        return {
            "program": f"bitnet-tui {__version__}",
            "checkpoint": self.path.name,
            "checkpoint_sha256": self.sha256,
            "tokenizer_sha256": self.tokenizer.hash,
            "step": self.checkpoint.step,
            "seen_tokens": self.checkpoint.seen_tokens,
        }


def export(arguments: argparse.Namespace, experiment: Experiment, path: Path, tell: Tell) -> int:
    """Write the formats asked for, verify them, and show the card; exit code 1 if one is not the student.

    `tell` hears how far it is.
    """
    source = _source(experiment, lambda: path if path.exists() else _checkpoint(experiment, arguments.checkpoint, {}))
    tell(step=source.checkpoint.step)
    outs = {kind: arguments.out or _default_path(source, kind, arguments.type) for kind in arguments.formats}
    if not arguments.out:  # else it was looked at before; a file of any name may be the checkpoint
        for kind, out in outs.items():
            places.require_free(out, folder=kind == exports.HF, force=arguments.force)
    if "gguf" in outs:
        gguf.require_computable(source.student, source.tokenizer)
    for place, (kind, out) in enumerate(outs.items(), 1):
        if kind == "gguf":
            gguf.write(
                source.student,
                source.tokenizer,
                out,
                arguments.type,
                embedding=arguments.embedding or "",
                name=source.name,
                origin=source.origin,
            )
        else:
            text = _model_card(source, [])
            hf.write(source.student, source.tokenizer, out, origin=source.origin, card=text)
        tell(written=[one.name for one in list(outs.values())[:place]])
    if arguments.no_verify:
        paths = [str(out) for out in outs.values()]
        text = "\n".join([source.words, *(f"{path} (not verified)" for path in paths)])
        answer(arguments, {"exported": paths, "step": source.checkpoint.step, "verified": False}, text)
        return 0
    return _verified(arguments, source, list(outs.values()), must=False, tell=tell)


def verify(arguments: argparse.Namespace) -> int:
    """Compare one export with the checkpoint that it was made from."""
    origin = _origin(arguments.path)
    room = hf if arguments.path.is_dir() else gguf_read
    room.require_as_written(arguments.path)  # its answers would not show every change
    source = open_source(arguments, origin)
    if origin.get("checkpoint_sha256") != source.sha256:
        made_from = crop(flat(str(origin.get("checkpoint"))), _NAME_CELLS)
        raise BitnetError(
            f"{arguments.path} was made from {made_from}, whose content differs from {source.path}; "
            "give --checkpoint WHICH, or export it again."
        )
    return _verified(arguments, source, [arguments.path], must=True)


def _verified(
    arguments: argparse.Namespace,
    source: Source,
    paths: list[Path],
    *,
    must: bool,
    tell: Tell = lambda **_: None,
) -> int:
    """Compare exports and show the card.

    With `must` they were there before: nothing in them is changed, and a runtime that is not installed is an error.
    """
    student, tokenizer = source.student, source.tokenizer
    doing("comparing it with the checkpoint" + ("" if must else "; --no-verify leaves that out"))
    prompts = verifying.choose_prompts(student, tokenizer, verifying.LONGER if must else "give --no-verify")
    deployed, answers = _in_process(source, prompts)
    found: dict[str, Verification] = {}
    missing: dict[str, RuntimeMissing] = {}
    for path in paths:
        check = verifying.verify_folder if path.is_dir() else verifying.verify_gguf
        try:
            one = check(path, student, tokenizer, answers)
        except RuntimeMissing as error:
            if must:
                raise
            missing[TRANSFORMERS] = error
            continue
        found[one.runtime] = one
        if path.is_dir() and not must:
            files.write_text(path / hf.CARD_FILE, _model_card(source, [one]))
    rows = [
        _own_row(source, deployed),
        *(_row(source, runtime, found, missing) for runtime in (TRANSFORMERS, LLAMACPP)),
    ]
    gap = verifying.four_bit_gap(student, answers)
    notes = card.notes(rows, gap, student.config.bits_words(student.layer_bits))
    problems = [str(problem) for one in found.values() for problem in one.problems()]
    text = "\n".join(
        [
            render_table(card.TITLE, card.COLUMNS, card.table(rows), terminal_columns()),
            *notes,
            source.words,
            *map(str, paths),
        ]
    )
    fields = {
        "exported": [str(path) for path in paths],
        "step": source.checkpoint.step,
        "verified": not (problems or missing),
        "problems": problems,
    }
    tell(verified=fields["verified"], problems=problems)
    answer(arguments, fields | {"rows": [row.record() for row in rows], "notes": notes}, text)
    for problem in problems:
        warn(problem, "error")
    return 1 if problems else 0


def open_source(arguments: argparse.Namespace, origin: dict[str, Any] | None = None) -> Source:
    """The experiment's student. BitnetError for a damaged checkpoint or one of another tokenizer."""
    experiment = open_experiment(arguments)
    return _source(experiment, lambda: _checkpoint(experiment, arguments.checkpoint, origin or {}))


def _source(experiment: Experiment, choose: Callable[[], Path]) -> Source:
    """The student of the checkpoint that is chosen. BitnetError as `open_source`."""
    path, (checkpoint, sha256) = read_chosen(choose, checkpoints.load_hashed)
    require_ternary(path, checkpoint.activation_bits)
    data = DataOptions.of(experiment.settings).path or experiment.data
    tokenizer = own_tokenizer(path, checkpoint.tokenizer_hash, checkpoint.config, data)
    student = pack_student(checkpoints.student_from(checkpoint))
    checkpoints.say_if_untrained(path, checkpoint.step, warn)
    return Source(experiment, path, checkpoint, sha256, student, tokenizer)


def _checkpoint(experiment: Experiment, asked: str | None, origin: dict[str, Any]) -> Path:
    """The one that was asked for; else the one that an export names if it is there, or the newest."""
    named = origin.get("step")
    if asked is None and type(named) is int:
        path = checkpoints.path_of(experiment.checkpoints, named)
        if path.is_file():
            return path
    return checkpoints.chosen(experiment.checkpoints, "latest" if asked is None else asked, warn)


def _origin(path: Path) -> dict[str, Any]:
    """What an export says of its checkpoint. UsageError for no such path, BitnetError for a damaged export."""
    if path.is_dir():
        try:
            config = files.read_json(path / hf.CONFIG_FILE)
        except BitnetError as error:
            reason = str(error).rstrip(".").partition(";")[0]
            raise BitnetError(f"{reason}; export it again, or give a GGUF file.") from error
        origin = config.get(exports.MARK) if isinstance(config, dict) else None
        if not isinstance(origin, dict):
            raise BitnetError(f"{path} is not a folder of `bitnet export hf`; give one, or a GGUF file.")
        return origin
    files.require_regular(path)
    if not path.is_file():
        raise UsageError(f"{path} does not exist; give a folder of `bitnet export hf` or a GGUF file.")
    return gguf_read.look(path).origin


def _default_path(source: Source, kind: str, type_name: str) -> Path:
    experiment = source.experiment
    return exports.default_path(experiment.root, experiment.name, source.checkpoint.step, kind, type_name)


def _in_process(source: Source, prompts: list[list[int]]) -> tuple[Deployed, Answers]:
    """The greedy answers of the packed student at the runtimes' bits, in a process of its own."""
    own = source.student.layer_bits
    source.student.activation_bits = RUNTIME_BITS
    try:
        with scratch_folder("export") as folder:
            scratch = folder / "run"
            scratch.mkdir()
            sampling = Sampling(max_tokens=verifying.NEW_TOKENS)
            deployed = run_deployed(
                source.student,
                prompts,
                sampling,
                eos_id=source.tokenizer.eos_id,
                seed=_SEED,
                device="cpu",
                scratch=scratch,
            )
    finally:
        source.student.set_layer_bits(own)
    return deployed, Answers(prompts, [made.ids for made in deployed.answers])


def _own_row(source: Source, deployed: Deployed) -> card.Row:
    return card.Row(
        card.IN_PROCESS,
        "yes",
        f"bitnet generate --root {source.experiment.root}",
        tokens_per_s=deployed.decode_tokens_per_s,
        memory_bytes=deployed.memory_bytes,
        file_bytes=deployed.weights["total"],
    )


def _row(
    source: Source, runtime: str, found: dict[str, Verification], missing: dict[str, RuntimeMissing]
) -> card.Row:
    if runtime in found:
        return card.row_of(found[runtime])
    if runtime in missing:
        return card.unverified(runtime, str(missing[runtime]))
    room = {TRANSFORMERS: hf, LLAMACPP: gguf}[runtime]
    try:
        room.require_computable(source.student, source.tokenizer)
    except BitnetError as error:
        return card.refused(runtime, str(error))
    return card.not_exported(runtime)


def _model_card(source: Source, found: list[Verification]) -> str:
    report = source.experiment.reports / EVALUATION_REPORT
    evaluated = files.read_json(report) if report.is_file() else {}
    about = evaluated.get("checkpoint") if isinstance(evaluated, dict) else None
    same = isinstance(about, dict) and about.get("step") == source.checkpoint.step
    return model_card.text(
        source.name,
        source.student.config.to_dict(),
        source.origin | {"activation_bits": source.student.config.bits_words(source.student.layer_bits)},
        source.checkpoint.recipe,
        evaluated if same else {},
        found,
    )
