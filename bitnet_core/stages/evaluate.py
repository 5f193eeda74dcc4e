"""Stage `eval`: measure the newest checkpoint: quality, imitation, tokens/s, memory, QEI. Wiring only."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from bitnet_core.evaluation import checks, gates, qei, suite_scores, summary
from bitnet_core.evaluation.answers import EvalPrompt, choose_prompts, sample_record
from bitnet_core.evaluation.as_deployed import measure_as_deployed, runtime_answers
from bitnet_core.evaluation.baseline_report import BASELINE_FILE
from bitnet_core.evaluation.deployed import Deployed, run_deployed
from bitnet_core.evaluation.imitation import measure_imitation
from bitnet_core.evaluation.in_transformers import row_in_transformers
from bitnet_core.evaluation.scored import longest, score_student, tasks_to_score
from bitnet_core.evaluation.scorers import teacher_scorer
from bitnet_core.evaluation.student_runtime import student_file, student_runtime
from bitnet_core.export import card
from bitnet_core.export.verify import RUNTIME_BITS
from bitnet_core.model.config import told_bits
from bitnet_core.model.decoding import Generation
from bitnet_core.model.packing import pack_student
from bitnet_core.model.precision import configure, pick_device
from bitnet_core.model.student import Student
from bitnet_core.runs import exports
from bitnet_core.runs.catalog import EVALUATION_REPORT
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.events import Sample
from bitnet_core.settings.values import (
    DataOptions,
    DeviceOptions,
    EvalOptions,
    GateOptions,
    SuiteOptions,
    TeacherOptions,
)
from bitnet_core.suites.asked import benchmarks_to_score, items_to_answer
from bitnet_core.suites.likelihood import TextScorer
from bitnet_core.suites.outside import OutsideScores, load_outside
from bitnet_core.suites.requests_file import load_task
from bitnet_core.teachers.identity import identify
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.stats import rejected_tokens
from bitnet_core.training import checkpoints
from bitnet_core.training.checkpoints import Checkpoint
from bitnet_core.training.flip import flip_report
from bitnet_core.training.reading import read_chosen


def run(ctx: StageContext) -> dict[str, Any]:
    """Measure, write `reports/mini_evaluation_report.json` and its tables."""
    options, data, asked = EvalOptions.of(ctx.settings), DataOptions.of(ctx.settings), SuiteOptions.of(ctx.settings)
    suites = items_to_answer(asked)
    tasks = tasks_to_score([load_task(name, asked.limit or None) for name in benchmarks_to_score(asked)], asked)
    outside = load_outside(asked.scores_file) if asked.scores_file else OutsideScores()
    checks.check_given_qualities(options, ctx)
    path, checkpoint = _newest_checkpoint(ctx)
    baseline = checks.load_baseline(ctx.experiment.reports / BASELINE_FILE)
    folder = data.path or ctx.experiment.data
    traces = load_traces(folder, data.top_k)
    tokenizer = checks.own_tokenizer(path, checkpoint.tokenizer_hash, checkpoint.config, folder)
    checks.require_one_tokenizer(tokenizer, traces, path, folder)
    checks.warn_of_another_teacher(baseline, traces, ctx)
    checks.require_ternary(path, checkpoint.activation_bits)

    hardware = DeviceOptions.of(ctx.settings)
    device = pick_device(hardware)
    configure(hardware)
    packed = pack_student(checkpoints.student_from(checkpoint)).to(device)
    imitation = measure_imitation(packed, traces, tokenizer, ctx, max_seq_len=data.max_seq_len, seed=options.seed)
    most_tokens = checkpoint.config.max_position_embeddings
    prompts = choose_prompts(folder, traces, tokenizer, options, most_tokens, ctx)
    embedded = baseline.get("provider") == "embedded"
    with student_file(packed, tokenizer, embedded=embedded, device=device, scratch=ctx.run_dir) as file:
        with student_runtime(file, packed, tokenizer, asked.max_tokens, ctx, device) as here:
            teacher = partial(_teacher, ctx, baseline, device, longest(tasks))
            scored = score_student(
                here, suites, tasks, asked, baseline, teacher, outside, ctx, keep_texts=options.keep_samples
            )
        deployed = _answer(ctx, packed.cpu(), prompts, tokenizer, options, device.type)
        answers = cache(partial(runtime_answers, packed, tokenizer, ctx))
        found = measure_as_deployed(
            packed, tokenizer, file, prompts, options.sampling.max_tokens, answers, ctx, embedded=embedded
        )
    there = row_in_transformers(packed, tokenizer, answers, ctx, ctx.run_dir)

    own = imitation.own if imitation else None
    # llama.cpp rounds inputs to 8 bits, and all figures of one table must belong to one program.
    at_bits = imitation.by_bits[RUNTIME_BITS] if imitation and found.measured else own
    result = summary.quality_efficiency(
        options, ctx.settings.origin, scored.found, deployed, baseline, found.measured
    )
    if imitation:
        figures = summary.imitation_table(imitation.by_bits, imitation.scores)
        ctx.table("imitation", summary.IMITATION_COLUMNS, figures)
    ctx.table("memory", summary.MEMORY_COLUMNS, summary.memory_table(deployed, found.measured))
    ctx.table("qei", qei.COLUMNS, qei.table(result, summary.imitation(at_bits)))
    in_use = summary.deployed_record(deployed, found)
    export = exports.default_path(ctx.experiment.root, ctx.experiment.name, checkpoint.step, exports.HF)
    rows = summary.card_rows(ctx.experiment.root, export, deployed, there, found)
    ctx.table(card.TITLE, card.COLUMNS, card.table(rows))
    for line in summary.remarks(found, rows, checkpoint.config.bits_words(checkpoint.layer_bits), scored.runtime):
        ctx.log(line)
    answered = zip(prompts, deployed.answers, strict=True) if options.keep_samples else []
    report = {
        "version": 1,
        "checkpoint": {
            "path": str(path),
            "step": checkpoint.step,
            "seen_tokens": checkpoint.seen_tokens,
            "activation_bits": told_bits(checkpoint.layer_bits),
            "a4_policy": checkpoint.config.a4_policy,
        },
        "student": checkpoint.config.to_dict(),
        "teacher": {"provider": baseline.get("provider"), "model": baseline.get("model")},
        "quality": scored.record(),
        "imitation": summary.imitation_record(imitation.by_bits, imitation.scores) if imitation else None,
        suite_scores.REPORT_KEY: scored.checks,
        "benchmarks": scored.benchmarks,
        "deployed": in_use,
        "runs_anywhere": [row.record() for row in rows],
        "qei": asdict(result),
        "evidence": gates.evidence(
            *rejected_tokens(folder), checkpoint.counters.get("refused"), flip_report(checkpoint.evaluations)
        ),
        "samples": [sample_record(prompt, answer, tokenizer) for prompt, answer in answered],
    }
    judged = gates.judge(GateOptions.of(ctx.settings), report)
    ctx.table("gates", gates.COLUMNS, gates.table(judged))
    ctx.report(EVALUATION_REPORT, report | {"gates": gates.record(judged)})
    return {
        "checkpoint": str(path),
        **{name: own[name].value if own else None for name in ("agreement", "majority_agreement", "coarse_kl")},
        "checks": suite_scores.whole(scored.checks),
        "tokens_per_s": in_use["tokens_per_s"]["decode"],
        "memory_bytes": in_use["memory"]["bytes"],
        "qei": result.qei.value,
        "qei_speed": result.qei_speed.value,
        "gates": gates.counts(judged),
    }


def _newest_checkpoint(ctx: StageContext) -> tuple[Path, Checkpoint]:
    skipped = partial(ctx.alert, "warning", "checkpoint_incomplete")
    newest = partial(checkpoints.require_latest, ctx.experiment.checkpoints, skipped)
    path, checkpoint = read_chosen(newest, checkpoints.load)
    checkpoints.say_if_untrained(path, checkpoint.step, partial(ctx.alert, "warning", "untrained"))
    return path, checkpoint


@contextlib.contextmanager
def _teacher(ctx: StageContext, baseline: dict[str, Any], device: torch.device, room: int) -> Iterator[TextScorer]:
    """What scores given text. BitnetError if the settings name another teacher than the baseline's."""
    options = TeacherOptions.of(ctx.settings)
    checks.require_teacher_of(baseline, identify(options))
    with teacher_scorer(ctx, options, lambda: device, room) as scorer:
        yield scorer


def _answer(
    ctx: StageContext,
    packed: Student,
    prompts: list[EvalPrompt],
    tokenizer: StudentTokenizer,
    options: EvalOptions,
    device: str,
) -> Deployed:
    """Let the student answer the prompts in a process of its own, and report each answer."""

    def on_answer(place: int, answer: Generation) -> None:
        ctx.emit(Sample(prompt=prompts[place].text, text=tokenizer.decode(answer.ids), source="student"))
        ctx.progress(place + 1, len(prompts), "prompts", "answers")

    ctx.progress(0, len(prompts), "prompts", "answers")
    return run_deployed(
        packed,
        [prompt.ids for prompt in prompts],
        options.sampling,
        eos_id=tokenizer.eos_id,
        seed=options.seed,
        device=device,
        scratch=ctx.run_dir,
        on_answer=on_answer,
        check_stop=ctx.check_stop,
    )
