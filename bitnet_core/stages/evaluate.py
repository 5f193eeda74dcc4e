"""Stage `eval`: what the newest checkpoint is worth: quality, answers, tokens/s, memory, QEI. Thin."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.evaluation import qei, summary
from bitnet_core.evaluation.deployed import Deployed, run_deployed
from bitnet_core.evaluation.quality import Estimate, Scores, figures, majority_token, score
from bitnet_core.model.decoding import Generation
from bitnet_core.model.packing import pack_student
from bitnet_core.model.precision import configure, pick_device
from bitnet_core.model.student import Student
from bitnet_core.prompts.prompt import load_prompts
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.events import Sample
from bitnet_core.settings.values import DeviceOptions, EvalOptions
from bitnet_core.tokenizer.load import WRITTEN_AGAIN, load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces.dataset import TraceSet, load_traces
from bitnet_core.traces.examples import prepare
from bitnet_core.traces.schema import SEQUENCES_FILE, TOKENIZER_FOLDER
from bitnet_core.training import checkpoints
from bitnet_core.training.checkpoints import Checkpoint

REPORT = "mini_evaluation_report.json"
BASELINE = "teacher_baseline.json"
PACKAGED_PROMPTS = "baseline.txt"


@dataclass(frozen=True)
class _Prompt:
    text: str
    ids: list[int]


@dataclass(frozen=True)
class _Quality:
    """Figures by activation bits, the student's own first; `scores` are those at its own bits."""

    by_bits: dict[int, dict[str, Estimate]]
    scores: Scores

    @property
    def own(self) -> dict[str, Estimate]:
        return next(iter(self.by_bits.values()))


def run(ctx: StageContext) -> dict[str, Any]:
    """Measure, write `reports/mini_evaluation_report.json` and the tables quality, memory and qei."""
    settings = ctx.settings
    summary.require_positive_qualities(settings)
    path, checkpoint = _checkpoint(ctx)
    baseline = _baseline(ctx)
    data = settings.maybe_path("KD_DATA_PATH") or ctx.experiment.data
    traces = load_traces(data, settings.int("MAX_TOPK"))
    tokenizer = load_tokenizer(data / TOKENIZER_FOLDER, fix=WRITTEN_AGAIN)
    _require_one_tokenizer(path, checkpoint, traces, tokenizer)
    _warn_of_mixed_scales(ctx)
    if baseline.get("model") != traces.teacher:
        ctx.alert(
            "warning",
            "other_teacher",
            f"The baseline is of {baseline.get('model')}, the traces are of {traces.teacher}.",
            "Run `bitnet teacher` with the teacher of the traces; QEI compares with the baseline's speed and memory.",
        )
    if checkpoint.activation_bits is None:
        raise BitnetError(
            f"{path} is a full-precision twin (STUDENT_QUANTIZE=0), which is there to compare training with; "
            "train with STUDENT_QUANTIZE=1 to evaluate a ternary student."
        )
    options = DeviceOptions.of(settings)
    device = pick_device(options)
    configure(options)
    packed = pack_student(checkpoints.student_from(checkpoint))
    quality = _measure_quality(ctx, packed.to(device), checkpoint.activation_bits, traces, tokenizer)
    prompts = _prompts(ctx, data, packed, traces, tokenizer)
    deployed = _answer(ctx, packed.cpu(), prompts, tokenizer, device.type)
    decode = summary.compares_decoding(baseline, deployed)
    own = quality.own if quality else None
    result = qei.index(
        summary.student_side(settings, own, deployed, decode=decode),
        summary.teacher_side(settings, own, baseline, decode=decode),
    )
    if quality:
        ctx.table("quality", summary.QUALITY_COLUMNS, summary.quality_table(quality.by_bits, quality.scores))
    ctx.table("memory", summary.MEMORY_COLUMNS, summary.memory_table(deployed))
    ctx.table("qei", qei.COLUMNS, qei.table(result))
    report: dict[str, Any] = {
        "version": 1,
        "checkpoint": {
            "path": str(path),
            "step": checkpoint.step,
            "seen_tokens": checkpoint.seen_tokens,
            "activation_bits": checkpoint.activation_bits,
        },
        "student": checkpoint.config.to_dict(),
        "teacher": {"provider": baseline.get("provider"), "model": baseline.get("model")},
        "quality": summary.quality_record(quality.by_bits, quality.scores) if quality else None,
        "deployed": summary.deployed_record(deployed),
        "qei": result.to_dict(),
        "samples": [],
    }
    if settings.bool("SAVE_SAMPLE_GENERATIONS"):
        report["samples"] = [
            _sample(prompt, answer, tokenizer) for prompt, answer in zip(prompts, deployed.answers, strict=True)
        ]
    ctx.report(REPORT, report)
    return {
        "checkpoint": str(path),
        "agreement": own["agreement"].value if own else None,
        "majority_agreement": own["majority_agreement"].value if own else None,
        "coarse_kl": own["coarse_kl"].value if own else None,
        "tokens_per_s": report["deployed"]["tokens_per_s"]["decode"],
        "memory_bytes": deployed.memory_bytes,
        "qei": result.qei.value,
        "qei_speed": result.qei_speed.value,
    }


def _checkpoint(ctx: StageContext) -> tuple[Path, Checkpoint]:
    path = checkpoints.latest(ctx.experiment.checkpoints)
    if path is None:
        raise BitnetError(
            f"There is no complete checkpoint in {ctx.experiment.checkpoints}; run `bitnet train` first."
        )
    return path, checkpoints.load(path)


def _baseline(ctx: StageContext) -> dict[str, Any]:
    path = ctx.experiment.reports / BASELINE
    if not path.exists():
        raise BitnetError(f"{path} does not exist, and QEI compares with it; run `bitnet teacher` first.")
    found = files.read_json(path)
    if not isinstance(found, dict):
        raise BitnetError(f"{path} is not a teacher's baseline; run `bitnet teacher` again.")
    return found


def _require_one_tokenizer(path: Path, checkpoint: Checkpoint, traces: TraceSet, tokenizer: StudentTokenizer) -> None:
    hashes = {checkpoint.tokenizer_hash, traces.tokenizer_hash, tokenizer.hash}
    if len(hashes) > 1 or checkpoint.config.vocab_size != traces.vocab_size:
        raise BitnetError(
            f"{path.name} was trained with another tokenizer than the traces and the tokenizer folder hold; "
            "run `bitnet train` on these traces, or set KD_DATA_PATH to those that it was trained on."
        )


def _warn_of_mixed_scales(ctx: StageContext) -> None:
    names = ("EVAL_STUDENT_QUALITY", "EVAL_TEACHER_QUALITY")
    one = [name for name in names if ctx.settings.maybe_float(name) is not None]
    if len(one) == 1:
        ctx.alert(
            "warning",
            "mixed_quality",
            f"{one[0]} is given and the other side's quality is measured as 2^(-bits/byte).",
            "Give both, on one scale, or neither.",
        )


def _measure_quality(
    ctx: StageContext, packed: Student, own_bits: int, traces: TraceSet, tokenizer: StudentTokenizer
) -> _Quality | None:
    """At the checkpoint's activation bits and at the other width; None when no prompt is held out."""
    train, held_out = traces.split()
    if not held_out:
        ctx.alert(
            "warning",
            "no_heldout",
            "The traces hold one prompt only, so quality can't be measured on held-out ones.",
            "Collect more prompts (KD_NUM_PROMPTS).",
        )
        return None
    max_len = min(ctx.settings.int("MAX_SEQ_LEN"), packed.config.max_position_embeddings)
    examples, cuts = prepare(held_out, max_len)
    if cuts.completion_tokens:
        ctx.log(f"MAX_SEQ_LEN={max_len} cut {cuts.completion_tokens} held-out tokens off, as in training.")
    lengths = [len(tokenizer.text_bytes(index)) for index in range(traces.vocab_size)]
    majority = majority_token(train, traces.vocab_size)
    by_bits: dict[int, dict[str, Estimate]] = {}
    scores: dict[int, Scores] = {}
    for bits in (own_bits, 4 if own_bits == 8 else 8):
        packed.activation_bits = bits
        scores[bits] = score(
            packed, examples, lengths, majority, _progress(ctx, len(examples), f"quality at A{bits}")
        )
        by_bits[bits] = figures(scores[bits], ctx.settings.int("SEED"))
    packed.activation_bits = own_bits
    return _Quality(by_bits, scores[own_bits])


def _progress(ctx: StageContext, total: int, label: str) -> Callable[[int], None]:
    def between(done: int) -> None:
        ctx.check_stop()
        ctx.progress(done, total, "sequences", label)

    return between


def _prompts(
    ctx: StageContext, data: Path, student: Student, traces: TraceSet, tokenizer: StudentTokenizer
) -> list[_Prompt]:
    """The user's prompts, else held-out ones, else packaged ones; those that fit into the student."""
    path = ctx.settings.maybe_path("EVAL_PROMPTS_FILE")
    _, held_out = traces.split()
    if path is None and held_out:
        said = _said(data)
        found = [
            _Prompt(said.get(sequence.prompt_idx, sequence.prompt_text), sequence.prompt_ids_P.tolist())
            for sequence in held_out
        ]
    else:
        found = [
            _Prompt(prompt.text, tokenizer.encode(tokenizer.render_prompt(prompt.messages)))
            for prompt in load_prompts(path, PACKAGED_PROMPTS)
        ]
    found = found[: ctx.settings.int("EVAL_MAX_PROMPTS")]
    limit = student.config.max_position_embeddings
    fitting = [prompt for prompt in found if len(prompt.ids) <= limit]
    if len(fitting) < len(found):
        ctx.alert(
            "warning",
            "prompts_too_long",
            f"{len(found) - len(fitting)} of {len(found)} prompts are longer than the student's {limit} positions "
            "and are left out.",
            "Shorten them.",
        )
    if not fitting:
        raise BitnetError(f"No prompt fits into the student's {limit} positions; shorten those of {path}.")
    return fitting


def _said(data: Path) -> dict[int, str]:
    """What the user says last in each prompt of a trace set; the stream holds the rendered template only."""
    path = data / SEQUENCES_FILE
    if not path.exists():
        return {}
    rows = pq.read_table(path, columns=["prompt_idx", "messages_json"]).to_pylist()
    return {row["prompt_idx"]: json.loads(row["messages_json"])[-1]["content"] for row in rows}


def _answer(
    ctx: StageContext, packed: Student, prompts: list[_Prompt], tokenizer: StudentTokenizer, device: str
) -> Deployed:
    def on_answer(place: int, answer: Generation) -> None:
        ctx.emit(Sample(prompt=prompts[place].text, text=tokenizer.decode(answer.ids), source="student"))
        ctx.progress(place + 1, len(prompts), "prompts", "answers")

    ctx.progress(0, len(prompts), "prompts", "answers")
    return run_deployed(
        packed,
        [prompt.ids for prompt in prompts],
        EvalOptions.of(ctx.settings).sampling,
        eos_id=tokenizer.eos_id,
        seed=ctx.settings.int("SEED"),
        device=device,
        scratch=ctx.run_dir,
        on_answer=on_answer,
        between=ctx.check_stop,
    )


def _sample(prompt: _Prompt, answer: Generation, tokenizer: StudentTokenizer) -> dict[str, Any]:
    return {
        "prompt": prompt.text,
        "text": tokenizer.decode(answer.ids),
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "tokens": len(answer.ids),
        "prefill_s": answer.prefill_s,
        "decode_s": answer.decode_s,
    }
