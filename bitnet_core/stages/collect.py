"""The collect stage: ask the teacher, keep each answer at once, then write both trace layers (DESIGN §6).

Every answer goes into `data/journal.sqlite` before anything else is done with it; the Parquet shards are
made from there, and can be made again. When the teacher, the sampling or the prompts changed, a trace set
that the new one would not contain is moved to `data/superseded/`, and the journal keeps the answers of
both: going back costs nothing. Requests are walked, never listed: memory grows by some 50 bytes a prompt, which is
what it takes to know a repeated one.
"""

import asyncio
import contextlib
import json
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from bitnet_core.collecting.asking import NO_ANSWER, Asking, Ledger
from bitnet_core.collecting.budget import Budget, LimitReached, Limits
from bitnet_core.collecting.journal import Entry, Journal
from bitnet_core.collecting.outstanding import Outstanding, State
from bitnet_core.collecting.requests import Collection, Request, check_sampling
from bitnet_core.errors import BitnetError
from bitnet_core.model.precision import pick_device
from bitnet_core.prompts.prompt import iter_prompts
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.events import Metric, Trace
from bitnet_core.secrets import Redactor, is_distinctive
from bitnet_core.settings.values import DeviceOptions, TeacherOptions
from bitnet_core.teachers.chat import ChatResult, ContextExceeded, PromptRefused, QuotaSpent
from bitnet_core.teachers.embedded.files import ensure_files
from bitnet_core.teachers.identity import identify
from bitnet_core.teachers.opening import fetch_model, fetch_progress, open_teacher
from bitnet_core.teachers.prices import price_of
from bitnet_core.teachers.probe import Verdict, probe
from bitnet_core.teachers.refusals import no_logprobs
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.traces import schema, writer
from bitnet_core.traces.columns import FinishedSequence
from bitnet_core.traces.schema import JOURNAL_FILE

PACKAGED_PROMPTS = "collect.txt"
_LEAST_JUDGED = 8
"""After so many answers of which none can be used, going on would only cost."""
_NO_ANSWERS = (PromptRefused.status, ContextExceeded.status, NO_ANSWER)
"""What is no answer says nothing of answers; how many are too many, `asking` knows."""
_AT_ONCE = {"embedded": 4, "hf": 8}
_AT_ONCE_ELSEWHERE = 32
_IN_ITS_QUEUE = 4


def run(ctx: StageContext) -> dict[str, Any]:
    """Collect what is missing, write what is not written; the summary counts the whole trace set."""
    settings = ctx.settings
    identity = identify(TeacherOptions.of(settings))
    if identity.provider.logprobs == "no":
        raise no_logprobs(identity.provider.name, identity.model)
    fetch_model(ctx, identity)
    prompts_file = settings.maybe_path("KD_PROMPTS_FILE")
    named, template = settings.text("TOKENIZER_NAME"), settings.text("TEMPLATE")
    tokenizer = load_tokenizer(named or ensure_files(fetch_progress(ctx)).tokenizer_dir, template)
    collection = Collection(
        settings, identity, tokenizer, lambda: iter_prompts(prompts_file, PACKAGED_PROMPTS), ctx.redact
    )
    with Journal(ctx.experiment.data / JOURNAL_FILE) as journal:
        return _Collecting(ctx, collection, journal).run()


@dataclass
class _Plan:
    """What a walk over all requests found before anything was asked."""

    pending: int = 0
    kept: int = 0
    """Those that were answered in earlier runs."""
    longest: int = 1
    """Prompt tokens of the longest pending one, where the teacher's memory depends on it."""
    foreign: bool = False
    """Whether there are traces that the new set would not contain."""


@dataclass
class _Tally:
    """What this run has asked for so far; `done`, `usable` and `reasons` count kept answers of earlier runs too."""

    done: int = 0
    started: float = field(default_factory=time.monotonic)
    answers: int = 0
    usable: int = 0
    tokens: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def tokens_per_s(self) -> float | None:
        return self.tokens / self.seconds if self.seconds > 0 and self.tokens else None


class _Collecting:
    """One run of the stage."""

    def __init__(self, ctx: StageContext, collection: Collection, journal: Journal) -> None:
        self._ctx = ctx
        self._collection = collection
        self._journal = journal
        self._data = ctx.experiment.data
        settings = ctx.settings
        self._tally = _Tally()
        self._plan = _Plan()
        self._attempts = settings.int("KD_MAX_ATTEMPTS")
        self._outstanding = Outstanding(collection, journal, self._attempts)
        self._writing = asyncio.Lock()
        self._verdict = self._known_verdict()
        self._limit: LimitReached | None = None
        self._parallel = 1
        limits = Limits(
            tokens=settings.maybe_int("KD_MAX_TOKENS_TOTAL"),
            requests=settings.maybe_int("KD_MAX_REQUESTS"),
            usd=settings.maybe_float("KD_MAX_USD"),
        )
        identity = collection.identity
        price = price_of(
            identity.provider, identity.model, settings.maybe_path("KD_PRICES_FILE"), address=identity.base_url
        )
        self._lost = journal.lost()
        self._budget = Budget(limits, price, journal.spent(), self._known_beyond())

    def run(self) -> dict[str, Any]:
        if self._lost:
            self._ctx.alert(
                "info",
                "requests_lost",
                f"{self._lost} requests were under way when an earlier run ended; they are sent again, and may have "
                "been paid for.",
                "Nothing to do.",
            )
        summary = self._round()
        if self._journal.damaged:
            self._ctx.alert(
                "warning",
                "answers_damaged",
                f"{self._journal.damaged} answers in {self._journal.path} were spoilt on the disk; they are asked "
                "for again.",
                "Look after that disk; all other answers are whole.",
            )
            summary = self._round()
        return summary

    def _round(self) -> dict[str, Any]:
        """Ask for what is missing, and write it."""
        self._outstanding = Outstanding(self._collection, self._journal, self._attempts)
        self._plan = self._walked()
        self._tally.done = self._collection.total - self._plan.pending
        if self._plan.pending:
            self._judge_kept()
        if self._plan.pending or self._verdict is None:
            asyncio.run(self._ask())
        self._make_room()
        return self._publish()

    # -- before ------------------------------------------------------------------------------------------

    def _walked(self) -> _Plan:
        """Walk over all requests once: what is missing, and does what is there belong to it."""
        collection, plan = self._collection, _Plan()
        embedded = collection.identity.provider.name == "embedded"
        reader = collection.tokenizer
        if embedded and self._ctx.settings.text("TOKENIZER_NAME"):
            reader = load_tokenizer(ensure_files(fetch_progress(self._ctx)).tokenizer_dir)
        keys: list[str] = []
        for request in collection.requests():
            self._ctx.check_stop()
            state = self._outstanding.state(request)
            plan.kept += state is State.KEPT
            if state in (State.NEW, State.AGAIN):
                plan.pending += 1
                if embedded:
                    rendered = reader.render_prompt(request.prompt.messages)
                    plan.longest = max(plan.longest, len(reader.encode(rendered)))
            keys.append(request.key)
            index = collection.shard_of(request)
            if len(keys) == collection.in_shard(index):
                plan.foreign |= not writer.belongs_to_collection(self._data, index, collection.config_hash, keys)
                keys = []
        plan.foreign |= writer.next_shard_index(self._data) > collection.shards
        if plan.pending and 0 < collection.prompts < collection.total:
            self._ctx.log(
                f"{collection.prompts} prompts for KD_NUM_PROMPTS={collection.total} answers: each is asked up to "
                f"{-(-collection.total // collection.prompts)} times, with other seeds."
            )
        return plan

    def _make_room(self) -> None:
        """Before the first file is written, and not before the teacher has proved that there will be one."""
        tokenizer = self._data / schema.TOKENIZER_FOLDER
        if self._plan.foreign:
            aside = writer.set_aside(self._data)
            if tokenizer.is_dir():
                tokenizer.replace(aside / schema.TOKENIZER_FOLDER)
            self._ctx.alert(
                "info",
                "traces_superseded",
                f"The traces in {self._data} were made with another teacher, sampling or prompts; they are kept in "
                f"{aside}.",
                "Nothing to do; set the old values again to get them back without new requests.",
            )
            self._plan.foreign = False
        self._collection.tokenizer.save(tokenizer)

    def _note(self) -> str:
        return f"probe:{self._collection.teacher_hash}:{self._collection.sampling.top_logprobs}"

    def _known_verdict(self) -> Verdict | None:
        """None also for one that this version can't read: the teacher is asked again."""
        text = self._journal.note(self._note())
        with contextlib.suppress(ValueError, TypeError):
            return None if text is None else Verdict(**json.loads(text))
        return None

    def _known_beyond(self) -> tuple[int, int]:
        """What the teacher counts beyond the worst case, as earlier requests have shown."""
        text = self._journal.note(self._beyond_note()) or "0 0"
        prompt, completion = map(int, text.split())
        return prompt, completion

    def _beyond_note(self) -> str:
        return f"beyond:{self._collection.teacher_hash}"

    # -- asking ------------------------------------------------------------------------------------------

    def _judge_kept(self) -> None:
        """Before another answer is paid for: was there one to use among those that are there?"""
        for request in self._collection.requests() if self._plan.kept else ():
            self._ctx.check_stop()
            entry = self._journal.get(request.key) if self._outstanding.state(request) is State.KEPT else None
            if entry is not None:
                self._judge(self._collection.finish(request, entry))
            if self._tally.usable:
                return
        self._require_usable()

    def _judge(self, sequence: FinishedSequence) -> None:
        if sequence.projection is not None:
            self._tally.usable += 1
        elif sequence.rejected not in _NO_ANSWERS:
            self._tally.reasons[sequence.rejected] += 1

    def _require_usable(self, under_way: int = 0) -> None:
        """`under_way`: of the others it is not known yet."""
        tally = self._tally
        if not tally.usable and tally.reasons.total() >= _LEAST_JUDGED + under_way:
            reason = tally.reasons.most_common(1)[0][0].replace("_", " ")
            raise BitnetError(
                f"None of the first {tally.reasons.total()} answers of {self._collection.identity.model} can be used "
                f"({reason}); choose another model or TEACHER_PROVIDER=embedded."
            )

    async def _ask(self) -> None:
        ctx, collection, plan = self._ctx, self._collection, self._plan
        sampling = collection.sampling
        most = ctx.settings.maybe_int("KD_CONCURRENCY")
        most = _AT_ONCE.get(collection.identity.provider.name, _AT_ONCE_ELSEWHERE) if most is None else most
        self._parallel = parallel = max(1, min(most, plan.pending))
        context = parallel * (plan.longest + sampling.max_tokens + 16)
        # Our own server's places are never empty while an answer is being kept: the next one waits at its door.
        waiting = _IN_ITS_QUEUE if collection.identity.provider.name == "embedded" else 0
        async with open_teacher(
            ctx,
            TeacherOptions.of(ctx.settings),
            device=partial(pick_device, DeviceOptions.of(ctx.settings)),
            parallel=parallel,
            waiting=waiting,
            context=context,
            table=collection.table,
        ) as teacher:
            mask = Redactor(filter(is_distinctive, ctx.secrets.values())).mask_body
            ledger = Ledger(self._journal, self._budget, mask, beyond_note=self._beyond_note())
            teacher.guard = ledger.watch
            ctx.log(f"Asking {teacher.model} ({teacher.name}) whether its logprobs can be used.")
            try:
                upstream = self._verdict.upstream if self._verdict else ""
                verdict = await probe(teacher, sampling.top_logprobs, upstream)
            except LimitReached as reached:
                if self._verdict is None:
                    raise
                self._limit = reached
                return
            check_sampling(verdict, sampling, collection.identity)
            if verdict.candidates < sampling.top_logprobs:
                ctx.alert(
                    "warning",
                    "fewer_candidates",
                    f"{teacher.name} gives {verdict.candidates} candidates a step, "
                    f"not the {sampling.top_logprobs} of TEACHER_TOP_LOGPROBS.",
                    f"Set TEACHER_TOP_LOGPROBS={verdict.candidates}, or choose a teacher that gives more.",
                )
            self._verdict = verdict
            self._journal.write_note(self._note(), json.dumps(ctx.redact.tree(verdict.record())))
            self._make_room()
            self._tally.started = time.monotonic()
            asking = Asking(teacher, sampling, ledger, self._answered)
            try:
                await asking.run(
                    self._outstanding.requests(lambda: ledger.closed), parallel + waiting, ctx.check_stop
                )
            except QuotaSpent as error:
                ctx.alert("error", "quota_spent", str(error), "Everything answered so far is kept.")
                raise
            finally:
                if teacher.pace is not None and teacher.pace.refusals:
                    ctx.log(
                        f"{teacher.name} refused {teacher.pace.refusals} requests for their rate; all were resent."
                    )
                if ledger.masked:
                    ctx.alert(
                        "warning",
                        "key_in_answers",
                        f"{teacher.name} sent a key back in {ledger.masked} of its answers; it is not kept.",
                        "Use another gateway, and change that key.",
                    )
                if asking.complaint is not None:
                    ctx.alert(
                        "warning",
                        "prompts_without_answer",
                        f"Some prompts were not answered; of the last one was said: {asking.complaint}",
                        "More of those that failed before are left for the next run." if asking.left else "",
                    )
            self._limit = asking.limit

    async def _answered(self, request: Request, entry: Entry, result: ChatResult | None) -> None:
        ctx, tally = self._ctx, self._tally
        sequence = await asyncio.to_thread(self._collection.finish, request, entry, result)
        tally.seconds = time.monotonic() - tally.started
        tally.done += 1
        tally.answers += 1
        tally.tokens += sequence.completion_tokens
        self._judge(sequence)
        projection = sequence.projection
        other_R = projection.other_R if projection else np.zeros(0)
        ctx.emit(
            Trace(
                prompt_idx=request.prompt_idx,
                tokens=sequence.completion_tokens,
                kept=len(other_R),
                dropped={sequence.rejected: sequence.completion_tokens} if sequence.rejected else {},
                other_mass_mean=float(np.exp(other_R).mean()) if len(other_R) else None,
            )
        )
        ctx.emit(Metric(answers=tally.done, tokens=tally.tokens, tokens_per_s=tally.tokens_per_s()))
        ctx.progress(tally.done, self._collection.total, "sequences", "collecting")
        complete = self._outstanding.settled(request)
        if complete is not None:
            async with self._writing:
                await asyncio.to_thread(self._write, complete)
        self._require_usable(self._parallel - 1)

    # -- writing -----------------------------------------------------------------------------------------

    def _write(self, requests: list[Request]) -> None:
        if self._verdict is None:
            raise AssertionError("nothing is written before the teacher has proved itself")
        damaged = -1
        while damaged != self._journal.damaged:  # a shard that named an answer that is none is written again
            damaged = self._journal.damaged
            self._collection.write_shard(self._journal, self._data, requests, self._verdict, self._ctx.check_stop)

    def _publish(self) -> dict[str, Any]:
        ctx, collection, data = self._ctx, self._collection, self._data
        if self._verdict is None:
            raise AssertionError("nothing is published before the teacher has proved itself")
        waiting: list[Request] = []
        given_up = 0
        for request in collection.requests():
            waiting.append(request)
            given_up += self._outstanding.state(request) is State.GIVEN_UP
            index = collection.shard_of(request)
            if len(waiting) < collection.in_shard(index):
                continue
            ctx.progress(index, collection.shards, "shards", "writing")
            if any(self._journal.get_status(one.key) is not None for one in waiting):
                self._write(waiting)
                for name in (schema.teacher_shard, schema.kd_stream, schema.kd_shard):
                    ctx.artifact(data / name(index), "traces")
            waiting = []
        summary = collection.publish(data, self._verdict)
        ctx.artifact(data / schema.SEQUENCES_FILE, "traces")
        ctx.progress(collection.shards, collection.shards, "shards", "writing")
        told = summary.record()
        rejected = sum(summary.rejected.values())
        reasons = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in summary.rejected.most_common())
        if not summary.sequences:
            if self._limit is not None:
                raise BitnetError(str(self._limit))
            raise BitnetError(
                f"No answer of {collection.identity.model} can be used ({reasons}); choose another model."
            )
        if self._limit is not None:
            ctx.alert(
                "warning",
                "limit_reached",
                f"{self._limit} There are {summary.sequences} of {collection.total} answers to use.",
                "They are written and usable.",
            )
        if rejected:
            ctx.alert(
                "warning",
                "sequences_rejected",
                f"{rejected} of {collection.total} answers can't be used: {reasons}.",
                _advice(summary.rejected, given_up, self._attempts),
            )
        ctx.table(
            "traces",
            ["sequences", "tokens", "KD rows", "rows a token", "mean Other", "rejected"],
            [
                [
                    summary.sequences,
                    told["tokens"],
                    told["kd_rows"],
                    _rounded(told["coverage"]),
                    _rounded(told["other_mass_mean"]),
                    rejected,
                ]
            ],
        )
        return told | {
            "logprob_mode": self._verdict.mode,
            "config_hash": collection.config_hash,
            "shards": collection.shards,
            "answers_this_run": self._tally.answers,
            "tokens_per_s": self._tally.tokens_per_s(),
            "requests_resent": self._lost,
            "given_up": given_up,
            "limit_reached": self._limit.name if self._limit else None,
            "spent": {
                "requests": self._budget.requests,
                "tokens": self._budget.tokens,
                "usd": self._budget.usd if self._budget.priced else None,
            },
        }


def _advice(rejected: Counter[str], given_up: int, attempts: int) -> str:
    if rejected.most_common(1)[0][0] == "sentinel_logprob":
        return (
            "The teacher sampled tokens outside its own list of candidates; lower KD_TEACHER_TOP_P or "
            "KD_TEACHER_TEMPERATURE to lose fewer."
        )
    given = f" {given_up} are given up after {attempts} runs (KD_MAX_ATTEMPTS)." if given_up else ""
    return f"The rest is unharmed; raise KD_NUM_PROMPTS to collect more.{given}"


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)
