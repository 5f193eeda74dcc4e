"""From measurements to QEI's inputs, tables and the parts of the report. It measures nothing and reads no files.

The teacher's baseline is `reports/teacher_baseline.json` as the teacher stage writes it: `memory` {bytes, origin},
`tokens_per_s` {end_to_end, decode}. An `Origin` says where a setting's value came from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from bitnet_core.evaluation import qei
from bitnet_core.evaluation.as_deployed import AsDeployed
from bitnet_core.evaluation.deployed import Deployed
from bitnet_core.evaluation.deployment import Measured, Side
from bitnet_core.evaluation.imitation import Scores
from bitnet_core.evaluation.qei import Index, Model, Quantity
from bitnet_core.evaluation.quality import Quality
from bitnet_core.evaluation.turns import notable
from bitnet_core.export import card
from bitnet_core.export.card import IN_PROCESS
from bitnet_core.export.running import LLAMACPP
from bitnet_core.export.verify import RUNTIME_BITS
from bitnet_core.results import paired
from bitnet_core.runs import exports
from bitnet_core.settings.values import EvalOptions
from bitnet_core.suites.intervals import Estimate
from bitnet_core.text import significant, size

Figures = Mapping[str, Estimate]
Origin = Callable[[str], str]
SideName = Literal["student", "teacher"]

_IN_LLAMACPP = f"{LLAMACPP}, see the table memory"


def quality_efficiency(
    options: EvalOptions,
    origin: Origin,
    quality: Quality | None,
    deployed: Deployed,
    baseline: Mapping[str, Any],
    measured: Measured | None = None,
) -> Index:
    """QEI of the deployed student against the baseline's teacher.

    `measured` is the student in llama.cpp, with the teacher if it is embedded; None if it ran in this program.
    """
    student_speed, teacher_speed = _speeds(deployed, baseline.get("tokens_per_s") or {}, measured)
    memory = qei.measured(deployed.memory_bytes, deployed.memory_how)
    if measured is not None:
        memory = qei.measured(measured.student.memory.deployed, _IN_LLAMACPP)
    student = Model(
        quality=_quality(options.student_quality, "EVAL_STUDENT_QUALITY", origin, quality, "student"),
        memory=memory,
        speed=student_speed,
    )
    teacher = Model(
        quality=_quality(options.teacher_quality, "EVAL_TEACHER_QUALITY", origin, quality, "teacher"),
        memory=_teacher_memory(options.teacher_memory_gb, origin, baseline, measured),
        speed=teacher_speed,
    )
    return qei.index(student, teacher)


def _quality(given: float | None, name: str, origin: Origin, quality: Quality | None, side: SideName) -> Quantity:
    if given is not None:
        return qei.given(given, f"{name} ({origin(name)})")
    if quality is None:
        return qei.placeholder(
            "no item and no text is scored for both: name suites in EVAL_SUITE and run `bitnet teacher`"
        )
    found: Estimate = getattr(quality.whole, side)
    return qei.measured(found.value, quality.how)


def imitation(figures: Figures | None) -> tuple[Quantity, Quantity] | None:
    """Student's and teacher's score on text that the teacher wrote; None without held-out prompts."""
    if figures is None:
        return None
    how = "teacher's text, not in QEI"
    student, teacher = (figures[f"{side}_imitation"].value for side in ("student", "teacher"))
    return qei.measured(student, how), qei.measured(teacher, how)


def _speeds(
    deployed: Deployed, baseline: Mapping[str, float | None], measured: Measured | None
) -> tuple[Quantity, Quantity]:
    """Tokens/s of student and teacher: of decoding if both are known, otherwise both end to end."""
    where = f"{LLAMACPP}, {measured.hardware}" if measured else ""
    if measured is not None and measured.compared is not None:
        both = (measured.compared.student, measured.compared.teacher)
        where = f"{LLAMACPP}, {measured.compared_how}"
        student, teacher = (qei.measured(one.speed, where, notable(one.spread), sure=one.sure) for one in both)
        return student, teacher
    if decode := baseline.get("decode"):
        told = qei.measured(decode, "decoding, when the baseline was made")
        if measured is not None:
            alone = measured.student.speed
            return qei.measured(alone.median, where, alone.notable), told
        if deployed.decode_tokens_per_s is not None:
            return qei.measured(deployed.decode_tokens_per_s, f"decoding, {deployed.hardware}"), told
    student = qei.measured(deployed.end_to_end_tokens_per_s, f"prefill and decoding, {deployed.hardware}")
    if end_to_end := baseline.get("end_to_end"):
        return student, qei.measured(end_to_end, "end to end, one request at a time")
    return student, qei.placeholder("the baseline has no tokens/s: run `bitnet teacher` again")


def _teacher_memory(
    given_gb: float | None, origin: Origin, baseline: Mapping[str, Any], measured: Measured | None
) -> Quantity:
    if given_gb is not None:
        return qei.given(given_gb * 1e9, f"TEACHER_MEMORY_GB ({origin('TEACHER_MEMORY_GB')})")
    if measured is not None and measured.teacher is not None:
        return qei.measured(measured.teacher.memory.deployed, _IN_LLAMACPP)
    memory = baseline.get("memory") or {}
    if not memory.get("bytes"):
        return qei.placeholder("this teacher's memory can't be measured from here: set TEACHER_MEMORY_GB")
    if memory.get("origin") == "given":
        return qei.given(memory["bytes"], "TEACHER_MEMORY_GB when the baseline was made")
    return qei.measured(memory["bytes"], "resident, added by loading and running")


_OF_EACH = ("tokens", "nats", "kd_tokens", "kd_kl", "shared_teacher_nats")
"""What `paired.COLUMNS` are among the sums of an answer."""
IMITATION_COLUMNS = ["figure", "of", "value", "95 % from", "95 % to", "unit"]


def imitation_table(figures: Mapping[int | str | None, Figures], scores: Scores) -> list[list[Any]]:
    """Rows under IMITATION_COLUMNS; `figures` by activation bits, the student's own bits first."""
    own = next(iter(figures.values()))
    rows: list[list[Any]] = []
    sequences = len(scores.sums_SM)

    def add(title: str, name: str, unit: str, *others: tuple[str, str]) -> None:
        for bits, found in figures.items():
            rows.append(_row(title, f"student A{bits}", found[name], unit, sequences))
        rows.extend(_row(title, who, own[other], unit, sequences) for who, other in others)

    commonest = ("always the commonest token", "majority_agreement")
    sampled = ("teacher's own sample", "teacher_self_agreement")
    add("top-1 agreement", "agreement", "share", commonest, sampled)
    rows.append(["top-1 agreement", "chance", 1 / scores.vocab_size, None, None, "share"])
    add("coarse KL", "coarse_kl", "nats/token")
    add("cross-entropy, all tokens", "ce", "nats/token")
    add("cross-entropy, shared tokens", "student_ce", "nats/token", ("teacher", "teacher_ce"))
    add("shared tokens", "student_bits_per_byte", "bits/byte", ("teacher", "teacher_bits_per_byte"))
    add("imitation", "student_imitation", "2^(-bits/byte)", ("teacher", "teacher_imitation"))
    return rows


def _row(title: str, who: str, estimate: Estimate, unit: str, sequences: int) -> list[Any]:
    """A single sequence has no interval: nothing shows how others would vary."""
    interval = [round(estimate.low, 5), round(estimate.high, 5)] if sequences > 1 else [None, None]
    return [title, who, round(estimate.value, 5), *interval, unit]


def imitation_record(figures: Mapping[int | str | None, Figures], scores: Scores) -> dict[str, Any]:
    """The report's `imitation`: every estimate at both widths, and what it was measured on."""
    shared, tokens = scores.total("shared_tokens"), scores.total("tokens")
    return {
        "origin": "measured",
        "interval": "95 % bootstrap over sequences",
        "sequences": len(scores.sums_SM),
        "tokens": int(tokens),
        "kd_tokens": int(scores.total("kd_tokens")),
        "shared_tokens": int(shared),
        "shared_share": shared / tokens,
        "text_bytes": int(scores.total("bytes")),
        "chance_agreement": 1 / scores.vocab_size,
        "answers": {"columns": list(paired.COLUMNS), "rows": scores.of_each(_OF_EACH).round(6).tolist()},
        "by_activation_bits": {
            str(bits): {name: asdict(estimate) for name, estimate in found.items()} for bits, found in figures.items()
        },
    }


MEMORY_COLUMNS = ["memory", "bytes", "origin", "how"]


def memory_table(deployed: Deployed, measured: Measured | None = None) -> list[list[Any]]:
    """Rows under MEMORY_COLUMNS: what QEI counts, its parts and both other ways; then the student in this program."""
    origin, exact = "measured", "bytes of the tensors"
    rows: list[list[Any]] = []
    if measured is not None:
        sides = [("student", measured.student), *([("teacher", measured.teacher)] if measured.teacher else [])]
        for who, side in sides:
            rows += [[f"{who}, {part}", size, origin, how] for part, size, how in _parts(side, measured.context)]
    here = "student in this program"
    return [
        *rows,
        [f"{here}, loaded and run", deployed.memory_bytes, origin, deployed.memory_how],
        [f"{here}, after loading", deployed.rss_loaded_bytes, origin, "resident bytes added"],
        [f"{here}, peak", deployed.rss_peak_bytes, origin, f"resident bytes added; {deployed.peak_how}"],
        ["this program without a student", deployed.program_bytes, origin, "Python, torch and this program"],
        *([f"weights: {part}", size, origin, exact] for part, size in deployed.weights.items()),
    ]


def _parts(side: Side, context: int) -> list[tuple[str, int, str]]:
    memory = side.memory
    kv_cache = [("KV cache", memory.kv_cache, f"computed, {context} tokens")] if memory.kv_cache else []
    return [
        ("deployed", memory.deployed, memory.how),
        ("file as mapped", memory.file, "llama.cpp"),
        *kv_cache,
        ("added by the runtime", memory.runtime, "private memory of llama.cpp"),
        ("weights alone", memory.weights, "the file on disk"),
        ("whole process", memory.process, "resident, Python and the library included"),
    ]


def deployed_record(deployed: Deployed, found: AsDeployed) -> dict[str, Any]:
    """The report's `deployed`: memory and speed of the student as QEI counts them, where, and in this program."""
    here = {
        "memory": {
            "bytes": deployed.memory_bytes,
            "origin": "measured",
            "how": deployed.memory_how,
            "program_bytes": deployed.program_bytes,
            "rss_loaded_bytes": deployed.rss_loaded_bytes,
            "rss_peak_bytes": deployed.rss_peak_bytes,
            "weights": deployed.weights,
        },
        "tokens_per_s": {
            "decode": deployed.decode_tokens_per_s,
            "end_to_end": deployed.end_to_end_tokens_per_s,
            "origin": "measured",
            "hardware": deployed.hardware,
        },
    }
    measured = found.measured
    if measured is None:
        return {"runtime": IN_PROCESS, "why": found.why, **here}
    teacher = measured.teacher
    return {
        "runtime": LLAMACPP,
        "why": f"the student can be exported ({found.gguf_type})",
        "by_turns": teacher is not None,
        "hardware": measured.hardware,
        "context": measured.context,
        "load": asdict(measured.load),
        **_side_record(measured.student),
        "teacher": teacher and _side_record(teacher),
        "student_to_teacher": teacher
        and measured.compared
        and {
            "speed": {"ratio": measured.compared.ratio, **asdict(measured.compared)},
            "memory": measured.student.memory.deployed / teacher.memory.deployed,
            "weights_alone": measured.student.memory.weights / teacher.memory.weights,
            "whole_process": measured.student.memory.process / teacher.memory.process,
        },
        "in_process": here,
    }


def _side_record(side: Side) -> dict[str, Any]:
    return {
        "tokens_per_s": {"decode": side.speed.median, "origin": "measured", "turns": asdict(side.speed)},
        "memory": asdict(side.memory) | {"bytes": side.memory.deployed, "origin": "measured"},
    }


def card_rows(
    root: Path, export: Path, deployed: Deployed, transformers: card.Row, found: AsDeployed
) -> list[card.Row]:
    """The rows of "runs anywhere": this program, transformers, llama.cpp.

    What was exported for them was there for this evaluation only; `export` is where `bitnet export hf` writes.
    """
    own = card.Row(
        IN_PROCESS,
        "yes",
        f"bitnet generate --root {quote(str(root))}",
        tokens_per_s=deployed.decode_tokens_per_s,
        memory_bytes=deployed.memory_bytes,
        file_bytes=deployed.weights.get("total"),
    )
    if transformers.found is not None:
        first = "" if export.is_dir() else f"bitnet --root {quote(str(root))} export hf && "
        transformers = replace(transformers, line=first + exports.serve_line(exports.HF, str(export)))
    if found.measured is None:
        return [own, transformers, card.refused(LLAMACPP, found.why)]
    # It is speed and memory by turns that count.
    theirs = replace(
        card.row_of(found.verified) if found.verified else card.Row(LLAMACPP, "yes, not compared", ""),
        line=f"bitnet --root {quote(str(root))} serve",
        tokens_per_s=found.measured.student.speed.median,
        memory_bytes=found.measured.student.memory.deployed,
    )
    return [own, transformers, theirs]


def remarks(found: AsDeployed, rows: Sequence[card.Row], bits: str, answered_by: str) -> list[str]:
    """Sentences below the tables: where the student was measured, how busy the machine was, and the card's notes.

    `answered_by` is the runtime of its answers to items and of its scores on given text.
    """
    measured = found.measured
    if measured is None:
        lines = [f"Speed and memory are those of this program, because {found.why}."]
    else:
        load, teacher = measured.load, measured.teacher
        lines = [
            f"Speed and memory are those of the student's GGUF ({found.gguf_type}) in llama.cpp, inputs rounded to "
            f"{RUNTIME_BITS} bits"
            + (", by turns with the teacher." if teacher else "; the teacher's were taken at another time.")
        ]
        if teacher is not None:
            ours, theirs = measured.student.speed, teacher.speed
            lines.append(
                f"With {measured.hardware}, by the wall clock: {ours.median:.1f} tokens/s{ours.remark}, "
                f"the teacher's {theirs.median:.1f}{theirs.remark}."
            )
            file, whole = measured.student.memory.weights, teacher.memory.weights
            part = f"{significant(file / whole)} of the teacher's {size(whole)}"
            lines.append(f"The student's file has {size(file)}, {part}.")
        if load.before is not None and load.after is not None:
            lines.append(
                f"While they were taken {load.before:g} to {load.after:g} processes wanted to run on "
                f"{load.processors} processors."
            )
        if found.verified is None:
            lines.append(f"{LLAMACPP} was not compared with the student: {found.why}.")
    where = f"the student's GGUF in {LLAMACPP}" if answered_by == LLAMACPP else "the student in this program"
    lines.append(f"Items and given text were answered and scored by {where}.")
    return [*lines, *card.notes(rows, None, bits)]
