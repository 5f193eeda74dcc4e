"""The collect stage: ask the teacher, keep each answer at once, then write both trace layers (DESIGN §6).

Every answer goes into `data/journal.sqlite` before anything else is done with it; the Parquet shards are
made from there, and can be made again. When the teacher, the sampling or the prompts changed, a trace set
that the new one would not contain is moved to `data/superseded/`, and the journal keeps the answers of
both: going back costs nothing.
"""

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.providers.embedded import ensure_files
from bitnet_core.providers.openai_chat import ContextExceeded
from bitnet_core.providers.probe import Verdict, probe
from bitnet_core.providers.replies import BadReply
from bitnet_core.providers.teacher import Teacher, fetch_progress, identify, open_teacher
from bitnet_core.stages.collection import Collection, Request, Summary, check_sampling
from bitnet_core.stages.context import StageContext
from bitnet_core.traces import schema, writer
from bitnet_core.traces.journal import JOURNAL_FILE, Entry, Journal
from bitnet_core.traces.project import require_empty_tokenizer_name
from bitnet_core.traces.prompts import load_prompts
from bitnet_core.traces.tokenizer import load_tokenizer

PACKAGED_PROMPTS = "collect.txt"
_POLL_SECONDS = 0.2
_TRIES = 2
"""An answer that can't be read is asked for once more: a gateway may have hiccuped."""
_LEAST_JUDGED = 8
"""After so many answers of which none can be used, going on would only cost."""


def run(ctx: StageContext) -> dict[str, Any]:
    """Collect what is missing, write what is not written; the summary counts the whole trace set."""
    settings = ctx.settings
    require_empty_tokenizer_name(settings.text("TOKENIZER_NAME"))
    identity = identify(settings)
    prompts = load_prompts(settings.maybe_path("KD_PROMPTS_FILE"), PACKAGED_PROMPTS)
    tokenizer = load_tokenizer(ensure_files(fetch_progress(ctx)).tokenizer_dir)
    if settings.text("TEMPLATE"):
        tokenizer = tokenizer.with_template(settings.text("TEMPLATE"))
    collection = Collection(settings, identity, tokenizer, prompts, ctx.redact)
    data = ctx.experiment.data
    with Journal(data / JOURNAL_FILE) as journal:
        answered = journal.keys()
        pending = [request for request in collection.requests if request.key not in answered]
        tally = _Tally(done=len(collection.requests) - len(pending), left=Counter(map(collection.shard_of, pending)))
        verdict = _known_verdict(journal, collection)
        if pending or verdict is None:
            verdict = asyncio.run(_ask(ctx, collection, journal, pending, tally))
        _make_room(ctx, collection)
        return _publish(ctx, collection, journal, verdict) | tally.record()


def _make_room(ctx: StageContext, collection: Collection) -> None:
    """Before the first file is written, and not before the teacher has proved that there will be one."""
    keys = {request.key for request in collection.requests}
    aside = writer.set_aside(ctx.experiment.data, collection.config_hash, keys)
    if aside is not None:
        ctx.alert(
            "info",
            "traces_superseded",
            f"The traces in {ctx.experiment.data} were made with another teacher, sampling or prompts; "
            f"they are kept in {aside}.",
            "Nothing to do; set the old values again to get them back without new requests.",
        )
    collection.tokenizer.save(ctx.experiment.data / schema.TOKENIZER_FOLDER)


# -- asking ------------------------------------------------------------------------------------------


@dataclass
class _Tally:
    """What this run has asked for so far; `done` counts kept answers of earlier runs too."""

    done: int = 0
    left: Counter[int] = field(default_factory=Counter)
    """Requests that each shard still waits for."""
    started: float = field(default_factory=time.monotonic)
    answers: int = 0
    kept: int = 0
    tokens: int = 0
    resent: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def tokens_per_s(self) -> float | None:
        return self.tokens / self.seconds if self.seconds > 0 and self.tokens else None

    def record(self) -> dict[str, Any]:
        return {
            "answers_this_run": self.answers,
            "tokens_per_s": self.tokens_per_s(),
            "requests_resent": self.resent,
        }


def _verdict_note(collection: Collection) -> str:
    return f"probe:{collection.teacher_hash}:{collection.sampling.top_logprobs}"


def _known_verdict(journal: Journal, collection: Collection) -> Verdict | None:
    text = journal.note(_verdict_note(collection))
    return None if text is None else Verdict(**json.loads(text))


async def _ask(
    ctx: StageContext, collection: Collection, journal: Journal, pending: list[Request], tally: _Tally
) -> Verdict:
    sampling = collection.sampling
    parallel = max(1, min(ctx.settings.int("KD_CONCURRENCY"), len(pending)))
    longest = max((_prompt_tokens(collection, request) for request in pending), default=256)
    context = parallel * (longest + sampling.max_tokens + 16)
    async with open_teacher(ctx, parallel=parallel, context=context) as teacher:
        ctx.log(f"Asking {teacher.model} ({teacher.name}) whether its logprobs can be used.")
        verdict = await probe(teacher, collection.tokenizer, sampling.top_logprobs)
        check_sampling(verdict, sampling, collection.identity)
        if verdict.candidates < sampling.top_logprobs:
            ctx.alert(
                "warning",
                "fewer_candidates",
                f"{teacher.name} gives {verdict.candidates} candidates a step, "
                f"not the {sampling.top_logprobs} of TEACHER_TOP_LOGPROBS.",
                f"Set TEACHER_TOP_LOGPROBS={verdict.candidates}, or choose a teacher that gives more.",
            )
        journal.write_note(_verdict_note(collection), json.dumps(asdict(verdict)))
        _make_room(ctx, collection)
        tally.started = time.monotonic()
        queue = iter(pending)
        workers = [
            asyncio.create_task(_work(ctx, collection, journal, teacher, queue, tally)) for _ in range(parallel)
        ]
        await _watch(ctx, workers)
        return verdict


def _prompt_tokens(collection: Collection, request: Request) -> int:
    tokenizer = collection.tokenizer
    return len(tokenizer.encode(tokenizer.render_prompt(request.prompt.messages)))


async def _watch(ctx: StageContext, workers: list[asyncio.Task[None]]) -> None:
    """Wait for all, for the first that fails, or for a stop; then nobody is left at work."""
    try:
        waiting = set(workers)
        while waiting:
            ctx.check_stop()
            done, waiting = await asyncio.wait(waiting, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _work(
    ctx: StageContext,
    collection: Collection,
    journal: Journal,
    teacher: Teacher,
    queue: Iterator[Request],
    tally: _Tally,
) -> None:
    for request in queue:
        if await asyncio.to_thread(journal.sending, request.key) > 1:
            tally.resent += 1
        entry = await _answer(collection, teacher, request)
        await asyncio.to_thread(journal.put, request.key, entry)
        sequence = await asyncio.to_thread(collection.finish, request, entry)
        tally.seconds = time.monotonic() - tally.started
        tally.done += 1
        tally.answers += 1
        tally.tokens += sequence.completion_tokens
        single = Summary()
        single.add(sequence)
        tally.kept += single.sequences
        tally.reasons += single.rejected
        lost = {sequence.rejected: sequence.completion_tokens} if sequence.rejected else {}
        told = single.record()
        ctx.emit(
            "trace",
            prompt_idx=request.prompt_idx,
            tokens=sequence.completion_tokens,
            kept=single.rows,
            dropped=lost,
            other_mass_mean=told["other_mass_mean"],
        )
        ctx.metric(answers=tally.done, tokens=tally.tokens, tokens_per_s=tally.tokens_per_s())
        ctx.progress(tally.done, len(collection.requests), "sequences", "collecting")
        shard = collection.shard_of(request)
        tally.left[shard] -= 1
        if not tally.left[shard]:
            await asyncio.to_thread(collection.write_shard, journal, ctx.experiment.data, shard, ctx.check_stop)
        if tally.kept == 0 and tally.answers >= _LEAST_JUDGED:
            reason = tally.reasons.most_common(1)[0][0].replace("_", " ")
            raise BitnetError(
                f"None of the first {tally.answers} answers of {teacher.model} can be used ({reason}); "
                "choose another model or TEACHER_PROVIDER=embedded."
            )


async def _answer(collection: Collection, teacher: Teacher, request: Request) -> Entry:
    """One request's entry for the journal; what can't be used is kept with its reason."""
    sampling = collection.sampling
    status = ""
    for _ in range(_TRIES):
        try:
            result = await teacher.chat(
                request.prompt.messages,
                sampling.max_tokens,
                sampling.temperature,
                sampling.top_p,
                sampling.top_logprobs,
                request.seed,
            )
        except ContextExceeded:
            return Entry("context_exceeded", b"")
        except BadReply as error:
            status = error.reason
            continue
        if result.steps is not None:
            return Entry("ok", result.body)
        status = "no_logprobs"
    return Entry(status, b"")


# -- writing -----------------------------------------------------------------------------------------


def _publish(ctx: StageContext, collection: Collection, journal: Journal, verdict: Verdict) -> dict[str, Any]:
    data = ctx.experiment.data
    shards = len(collection.shards())
    for index in range(shards):
        ctx.progress(index, shards, "shards", "writing")
        for path in collection.write_shard(journal, data, index, ctx.check_stop):
            ctx.artifact(path, "traces")
    summary = collection.write_sequences(journal, data, verdict, ctx.check_stop)
    ctx.artifact(data / schema.SEQUENCES_FILE, "traces")
    ctx.progress(shards, shards, "shards", "writing")
    told = summary.record()
    if not summary.sequences:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.rejected.most_common())
        raise BitnetError(f"No answer of {collection.identity.model} can be used ({reasons}); choose another model.")
    if summary.rejected:
        ctx.alert(
            "warning",
            "sequences_rejected",
            f"{sum(summary.rejected.values())} of {len(collection.requests)} answers can't be used: "
            + ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in summary.rejected.most_common())
            + ".",
            "The rest is unharmed; raise KD_NUM_PROMPTS to collect more.",
        )
    ctx.table(
        "traces",
        ["sequences", "tokens", "KD rows", "coverage", "mean Other", "rejected"],
        [
            [
                summary.sequences,
                summary.tokens,
                summary.rows,
                _rounded(told["coverage"]),
                _rounded(told["other_mass_mean"]),
                sum(summary.rejected.values()),
            ]
        ],
    )
    return told | {"logprob_mode": verdict.mode, "config_hash": collection.config_hash, "shards": shards}


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)
