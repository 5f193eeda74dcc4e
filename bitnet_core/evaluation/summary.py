"""From measurements to QEI's inputs, tables and the parts of the report. It measures nothing and reads no files.

The teacher's baseline is `reports/teacher_baseline.json` as the teacher stage writes it: `memory` {bytes, origin},
`tokens_per_s` {end_to_end, decode}. An `Origin` says where a setting's value came from.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from bitnet_core.evaluation import qei
from bitnet_core.evaluation.deployed import Deployed
from bitnet_core.evaluation.qei import Index, Model, Quantity
from bitnet_core.evaluation.quality import Scores
from bitnet_core.settings.values import EvalOptions
from bitnet_core.suites.intervals import Estimate

Figures = Mapping[str, Estimate]
Origin = Callable[[str], str]


def quality_efficiency(
    options: EvalOptions, origin: Origin, figures: Figures | None, deployed: Deployed, baseline: Mapping[str, Any]
) -> Index:
    """QEI of the deployed student against the baseline's teacher; `figures` are None without held-out prompts."""
    student_speed, teacher_speed = _speeds(deployed, baseline.get("tokens_per_s") or {})
    student = Model(
        quality=_quality(options.student_quality, "EVAL_STUDENT_QUALITY", origin, figures, "student"),
        memory=qei.measured(deployed.memory_bytes, deployed.memory_how),
        speed=student_speed,
    )
    teacher = Model(
        quality=_quality(options.teacher_quality, "EVAL_TEACHER_QUALITY", origin, figures, "teacher"),
        memory=_teacher_memory(options.teacher_memory_gb, origin, baseline),
        speed=teacher_speed,
    )
    return qei.index(student, teacher)


def _quality(given: float | None, name: str, origin: Origin, figures: Figures | None, side: str) -> Quantity:
    if given is not None:
        return qei.given(given, f"{name} ({origin(name)})")
    if figures is None:
        more = "collect traces of more prompts (KD_NUM_PROMPTS), so that some are held out"
        return qei.placeholder(f"{more}, or set {name}")
    return qei.measured(figures[f"{side}_quality"].value, "on the teacher's held-out text")


def _speeds(deployed: Deployed, baseline: Mapping[str, float | None]) -> tuple[Quantity, Quantity]:
    """Tokens/s of student and teacher: of decoding if both are known, otherwise both end to end."""
    threads = f"{deployed.threads} threads"
    if deployed.decode_tokens_per_s is not None and (decode := baseline.get("decode")):
        student = qei.measured(deployed.decode_tokens_per_s, f"decoding, {threads}")
        return student, qei.measured(decode, "decoding")
    student = qei.measured(deployed.end_to_end_tokens_per_s, f"prefill and decoding, {threads}")
    if end_to_end := baseline.get("end_to_end"):
        return student, qei.measured(end_to_end, "end to end, one request at a time")
    return student, qei.placeholder("the baseline has no tokens/s: run `bitnet teacher` again")


def _teacher_memory(given_gb: float | None, origin: Origin, baseline: Mapping[str, Any]) -> Quantity:
    if given_gb is not None:
        return qei.given(given_gb * 1e9, f"TEACHER_MEMORY_GB ({origin('TEACHER_MEMORY_GB')})")
    memory = baseline.get("memory") or {}
    if not memory.get("bytes"):
        return qei.placeholder("this teacher's memory can't be measured from here: set TEACHER_MEMORY_GB")
    if memory.get("origin") == "given":
        return qei.given(memory["bytes"], "TEACHER_MEMORY_GB when the baseline was made")
    return qei.measured(memory["bytes"], "resident, added by loading and running")


QUALITY_COLUMNS = ["figure", "of", "value", "95 % from", "95 % to", "unit"]


def quality_table(figures: Mapping[int, Figures], scores: Scores) -> list[list[Any]]:
    """Rows under QUALITY_COLUMNS; `figures` by activation bits, the student's own bits first."""
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
    add("quality", "student_quality", "2^(-bits/byte)", ("teacher", "teacher_quality"))
    return rows


def _row(title: str, who: str, estimate: Estimate, unit: str, sequences: int) -> list[Any]:
    """One sequence says nothing of how others would do: there is no interval."""
    interval = [round(estimate.low, 5), round(estimate.high, 5)] if sequences > 1 else [None, None]
    return [title, who, round(estimate.value, 5), *interval, unit]


def quality_record(figures: Mapping[int, Figures], scores: Scores) -> dict[str, Any]:
    """The report's `quality`: every estimate at both widths, and what it was measured on."""
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
        "by_activation_bits": {
            str(bits): {name: asdict(estimate) for name, estimate in found.items()} for bits, found in figures.items()
        },
    }


MEMORY_COLUMNS = ["memory", "bytes", "origin", "how"]


def memory_table(deployed: Deployed) -> list[list[Any]]:
    """Rows under MEMORY_COLUMNS."""
    measured, exact = "measured", "bytes of the tensors"
    return [
        ["student, loaded and run", deployed.memory_bytes, measured, deployed.memory_how],
        ["student, after loading", deployed.rss_loaded_bytes, measured, "resident bytes added"],
        ["student, peak", deployed.rss_peak_bytes, measured, f"resident bytes added; {deployed.peak_how}"],
        ["program without a student", deployed.program_bytes, measured, "Python, torch and this program"],
        *([f"weights: {part}", size, measured, exact] for part, size in deployed.weights.items()),
    ]


def deployed_record(deployed: Deployed) -> dict[str, Any]:
    """The report's `deployed`: memory and speed of the packed student, without its answers."""
    return {
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
            "threads": deployed.threads,
        },
    }
