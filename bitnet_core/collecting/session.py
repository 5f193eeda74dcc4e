"""One run of a collection: find what is missing, probe the teacher, ask, write shards as they fill up, sum up.

Every answer is in the journal before anything else is done with it; shards are made from the journal. Traces that the
new set would not contain are moved to `data.superseded/`, and the journal keeps the answers of both sets. Requests
are walked over, never listed: memory grows by about 100 bytes a prompt, to recognise repeated ones.
Knows no settings and no stage: whatever belongs to the run's process is passed in.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bitnet_core.collecting.accounting import Accounts, MaskKeys
from bitnet_core.collecting.answers import AnswerReader
from bitnet_core.collecting.asking import Asker
from bitnet_core.collecting.budget import Budget, LimitReached
from bitnet_core.collecting.journal import Journal, StoredAnswer
from bitnet_core.collecting.outstanding import Outstanding, PromptLength, State, Survey
from bitnet_core.collecting.prompt_check import PromptCheck
from bitnet_core.collecting.recount import recount
from bitnet_core.collecting.repeats import Repeats
from bitnet_core.collecting.reporting import SessionReporter, Tally
from bitnet_core.collecting.requests import Collection, Request
from bitnet_core.collecting.shards import ShardMaker
from bitnet_core.errors import BitnetError
from bitnet_core.runs.reporter import Reporter
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.teachers.answers.result import ChatResult
from bitnet_core.teachers.opening import usual_requests
from bitnet_core.teachers.prices import FREE, Price
from bitnet_core.teachers.probe import Verdict, probe
from bitnet_core.teachers.refusals import QuotaSpent
from bitnet_core.teachers.teacher import Teacher
from bitnet_core.teachers.usage import is_absurd_overrun
from bitnet_core.tokenizer.steps import Completion
from bitnet_core.traces import schema, writer

_QUEUED_EMBEDDED = 4
"""How many requests wait in the embedded server's queue, so that it is never idle while an answer is stored."""
_TELLING_STEPS = 4
"""The steps of an answer whose candidates are counted; a shorter one may have few by chance."""
_MOST_NAMES = 20
"""How many names are kept: a server may give each answer another one."""

_T = TypeVar("_T")
OpenTeacher = Callable[..., contextlib.AbstractAsyncContextManager[Teacher]]
"""Opens the collection's teacher; takes `parallel`, `waiting`, `context` and `table` (see `opening.open_teacher`)."""


@dataclass
class CollectSession:
    """One run of a collection."""

    collection: Collection
    journal: Journal
    data: Path
    """The folder of the traces."""
    reporter: Reporter
    open_teacher: OpenTeacher
    price: Price | None
    prompt_length: PromptLength | None
    """Measures prompts, where the teacher's memory depends on the longest one."""
    redact: Redactor
    """Masks keys in metadata and notes."""
    mask_answers: MaskKeys

    def __post_init__(self) -> None:
        collection, journal, reporter = self.collection, self.journal, self.reporter
        self._check = check = PromptCheck(collection)
        self._report = SessionReporter(reporter, collection, check, self.redact)
        self._answers = AnswerReader(collection)
        self._shards = ShardMaker(
            collection, self._answers, journal, check, self.data, self.redact, reporter.check_stop
        )
        self._writing = asyncio.Lock()
        self._tally = Tally()
        self._survey = Survey()
        self._outstanding = Outstanding(collection, journal, check)
        self._verdict_note = f"probe:{collection.teacher_hash}:{collection.options.top_logprobs}"
        self._sent_note = f"sent:{collection.config_hash}"
        self._overrun_note = f"beyond:{collection.teacher_hash}"
        self._verdict = self._known_verdict()
        self._shards.sampling_sent = self._sampling_sent()
        self._served_note = f"served:{collection.teacher_hash}"
        self._shards.also_served = self._names_in(self._served_note)
        self._fingerprints_note = f"fingerprints:{collection.teacher_hash}"
        self._shards.fingerprints = self._names_in(self._fingerprints_note)
        self._limit: LimitReached | None = None
        self._told_fewer = False
        self._repeats = Repeats()
        self._report_figures: Callable[[], None] = lambda: None
        self._parallel = 1
        self._lost_requests = journal.close_lost()
        self._recounted = recount(journal, collection, self.price)
        self._budget = Budget(collection.options.limits, self.price, journal.spent(), self._known_overrun())

    def run(self) -> dict[str, Any]:
        """Collect what is missing, write what is not written; the summary counts the whole trace set."""
        self._report.journal(self.journal)
        writer.require_none_newer(self.data)
        self._require_journal_of_traces()
        if self._lost_requests:
            self._report.lost_requests(self._lost_requests, free=self.price == FREE)
        if self._recounted:
            self._report.recounted(self._recounted)
        summary = self._ask_and_publish()
        if self.journal.damaged:
            self._report.damaged_answers(self.journal)
            summary = self._ask_and_publish()
        return summary

    def _ask_and_publish(self) -> dict[str, Any]:
        self._outstanding = Outstanding(self.collection, self.journal, self._check)
        self._survey = self._outstanding.survey(self.data, self.prompt_length, self.reporter.check_stop)
        self._check.require_one(self.reporter.check_stop)
        if self._survey.refused:
            self._report.refused_prompts(self._survey)
        self._tally.done = self.collection.total - self._survey.pending
        if self._survey.pending:
            if 0 < self.collection.distinct_prompts < self.collection.total:
                self._report.repeated_prompts()
            self._judge_kept_answers()
        if self._survey.pending or self._verdict is None:
            asyncio.run(self._ask())
        self._prepare_folder()
        given_up = self._write_all_shards()
        return self._sum_up(given_up)

    def _require_journal_of_traces(self) -> None:
        """BitnetError if the traces were made from another journal: all answers would be paid for again."""
        if self.journal.is_empty() and writer.has_answers(self.data, self.collection.config_hash):
            raise BitnetError(
                f"{self.data} holds answers of this collection, and their journal is not at {self.journal.path}; "
                f"move the journal there, or move {self.data} away to ask for all of them again."
            )

    # -- before asking -----------------------------------------------------------------------------------

    def _judge_kept_answers(self) -> None:
        """Before paying for more, find a usable answer among those kept. BitnetError if none of many is usable."""
        for request in self.collection.requests() if self._survey.kept else ():
            self.reporter.check_stop()
            entry = self.journal.get(request.key) if self._outstanding.state(request) is State.KEPT else None
            if entry is not None:
                self._tally.judge(self._answers.check_arrival(entry))
            if self._tally.usable:
                return
        self._tally.require_usable(self.collection.identity.model)

    def _kept(self, note: str, kind: type[_T]) -> _T | None:
        """What an earlier run has kept in a note; None if there is none, or none that this version can read."""
        with contextlib.suppress(msgspec.MsgspecError, RecursionError):
            return msgspec.json.decode(self.journal.read_note(note) or "", type=kind)
        return None

    def _known_verdict(self) -> Verdict | None:
        """The verdict of an earlier run's probe."""
        return self._kept(self._verdict_note, Verdict)

    def _names_in(self, note: str) -> list[str]:
        """The names that earlier runs have kept in a note, in the order of the answers."""
        return self._kept(note, list[str]) or []

    def _note_model(self, served: str) -> None:
        """Say once, and keep, that a model of another name answers than the one that was probed."""
        probed, served = self._proven().served_model, self.redact(served)
        others = self._shards.also_served
        if not probed or not served or served == probed or served in others or len(others) >= _MOST_NAMES:
            return
        if not others:
            self._report.another_model(probed, served)
        others.append(served)
        self.journal.write_note(self._served_note, json.dumps(others))

    def _note_fingerprint(self, found: str) -> None:
        """Keep each fingerprint under which the model answers, and say once that there is a second."""
        found, known = self.redact(found), self._shards.fingerprints
        if not found or found in known or len(known) >= _MOST_NAMES:
            return
        known.append(found)
        self.journal.write_note(self._fingerprints_note, json.dumps(known))
        if len(known) == 2:
            self._report.another_fingerprint(*known)

    def _note_candidates(self, steps: Completion) -> None:
        """Say once that an answer has at most half of the candidates that the probe found."""
        draws = self.collection.options.rows == "sampled"  # equal draws are one candidate
        if self._told_fewer or draws or len(steps) < _TELLING_STEPS:
            return
        promised = min(self._verdict.candidates if self._verdict else 0, self.collection.options.top_logprobs)
        if 2 * (most := int((steps.tops_NK >= 0).sum(axis=1).max())) <= promised:
            self._told_fewer = True
            self._report.fewer_than_probed(most, promised)

    def _sampling_sent(self) -> dict[str, Any]:
        """The sampling fields as they were sent in this collection's last run that asked; empty if none did."""
        return self._kept(self._sent_note, dict[str, Any]) or {}

    def _known_overrun(self) -> tuple[int, int]:
        with contextlib.suppress(ValueError):  # a journal may hold anything
            prompt, completion = map(int, (self.journal.read_note(self._overrun_note) or "").split())
            if min(prompt, completion) >= 0 and not is_absurd_overrun(prompt, completion):
                return prompt, completion
        return 0, 0

    def _prepare_folder(self) -> None:
        """Move foreign traces away. Called only once the teacher has proved that there will be new ones."""
        if self._survey.foreign:
            aside = writer.set_aside(self.data)
            self._report.superseded_traces(self.data, aside)
            self._survey.foreign = False
        writer.save_tokenizer(self.data, self.collection.tokenizer)

    # -- asking ------------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        collection, options = self.collection, self.collection.options
        provider = collection.identity.provider.name
        most = options.concurrency or usual_requests(provider)
        self._parallel = max(1, min(most, self._survey.pending))
        # A model in this process scores a batch at a time: the next one waits meanwhile.
        queued = _QUEUED_EMBEDDED if provider == "embedded" else self._parallel if collection.given else 0
        context = self._parallel * (self._survey.longest_prompt + options.sampling.max_tokens + 16)
        async with self.open_teacher(
            parallel=self._parallel, waiting=queued, context=context, table=self._answers.table
        ) as teacher:
            accounts = Accounts(self.journal, self._budget, self.mask_answers, self._overrun_note)
            accounts.at_once = self._parallel if queued else None
            teacher.guard = accounts.open
            if not await self._probe(teacher):
                return
            self._prepare_folder()
            self._tally.start_clock()
            self._report_figures = partial(self._report.figures, self._tally, teacher, accounts)
            asker = Asker(teacher, options, accounts, self._on_answer)
            requests = self._outstanding.requests(lambda: accounts.closed)
            try:
                await asker.run(requests, self._parallel + queued, lambda: self._on_poll(teacher, accounts))
            except QuotaSpent as error:
                self.reporter.alert("error", "quota_spent", str(error), "Everything answered so far is kept.")
                raise
            finally:
                self._report.asking(teacher, asker, accounts)
                if sorted(teacher.left_out) != list(self._proven().refused):  # a field was refused after the probe
                    self._record_sampling(teacher)
            self._limit = asker.limit

    def _on_poll(self, teacher: Teacher, accounts: Accounts) -> None:
        self.reporter.check_stop()
        self._report.waiting(self._tally, teacher, accounts)

    async def _probe(self, teacher: Teacher) -> bool:
        """Make sure that the teacher's logprobs can be used. False if a limit forbids to ask, and there is a verdict
        of an earlier run. BitnetError if they can't be used."""
        collection, options = self.collection, self.collection.options
        self.reporter.log(f"Asking {teacher.model} ({teacher.name}) whether its logprobs can be used.")
        try:
            verdict = await probe(teacher, options.top_logprobs, self._verdict, options.sampling)
        except LimitReached as reached:
            if self._verdict is None:
                raise
            self._limit = reached
            return False
        _require_unscaled(verdict, collection)
        if verdict.candidates < options.top_logprobs:
            self._report.fewer_candidates(verdict.candidates)
        if verdict.thinking_tokens:
            self._report.thinks_first(verdict.thinking_tokens)
        if verdict.mode == "unmeasured":
            self._report.unmeasured_scale()
        if self._verdict is not None:
            self._note_model(verdict.served_model)
        self._verdict = verdict
        self.journal.write_note(self._verdict_note, json.dumps(self.redact.tree(verdict.record())))
        self._record_sampling(teacher)
        return True

    def _record_sampling(self, teacher: Teacher) -> None:
        """Keep what is really sent for the traces' metadata, and say which setting has no effect."""
        first = replace(next(self.collection.requests()), plain=False)  # that side is recorded by `heldout`
        request = first.chat_request(self.collection.options)
        sent = {name: value for name, value in teacher.requested_sampling(request).items() if name != "seed"}
        fixed = [name for name, value in sent.items() if value is None]
        if fixed:
            self._report.fixed_sampling(fixed)
        self.journal.write_note(self._sent_note, json.dumps(sent))
        self._shards.sampling_sent = sent

    async def _on_answer(self, request: Request, entry: StoredAnswer, result: ChatResult | None) -> None:
        """Count and report an answer that is in the journal; write its shard if it was the last one missing."""
        answer = await asyncio.to_thread(self._answers.check_arrival, entry, result)
        self._tally.add(answer)
        self._report.answer(request, answer, self._tally)
        self._report_figures()
        if answer.result is not None:
            self._note_model(answer.result.model)
            self._note_fingerprint(answer.result.fingerprint)
        if answer.answer is not None:
            self._note_candidates(answer.answer.steps)
            if self._repeats.noticed(request.prompt.hash, answer.answer.text, answer.steps):
                self._report.one_answer_for_many()
        complete = self._outstanding.settle(request)
        if complete is not None:
            async with self._writing:
                await asyncio.to_thread(self._shards.write, complete, self._proven())
        self._tally.require_usable(self.collection.identity.model, in_flight=self._parallel - 1)

    # -- writing -----------------------------------------------------------------------------------------

    def _write_all_shards(self) -> int:
        """Write every shard that has answers and is not current. Returns the number of requests given up."""
        given_up = 0
        for index, requests in self.collection.requests_by_shard():
            self._report.shard_progress(index)
            self._outstanding.require_as_surveyed(index, requests)
            given_up += sum(self._outstanding.state(request) is State.GIVEN_UP for request in requests)
            if any(self._shards.status(request) is not None for request in requests):
                self._shards.write(requests, self._proven())
                for name in (schema.teacher_shard, schema.kd_stream, schema.kd_shard):
                    self.reporter.artifact(self.data / name(index), "traces")
        return given_up

    def _sum_up(self, given_up: int) -> dict[str, Any]:
        collection, verdict, budget = self.collection, self._proven(), self._budget
        summary = self._shards.write_sequences(verdict)
        self.reporter.artifact(self.data / schema.SEQUENCES_FILE, "traces")
        self._report.shard_progress(collection.shards)
        self._report.summary(summary, self._limit, given_up, self._tally.answers)
        return summary.record() | {
            "logprob_mode": verdict.mode,
            "config_hash": collection.config_hash,
            "shards": collection.shards,
            "answers_this_run": self._tally.answers,
            "tokens_per_s": self._tally.tokens_per_s(),
            "requests_resent": self._lost_requests,
            "given_up": given_up,
            "limit_reached": self._limit.name if self._limit else None,
            "spent": {
                "requests": budget.requests,
                "tokens": budget.tokens,
                "usd": budget.usd if budget.priced else None,
            },
        }

    def _proven(self) -> Verdict:
        if self._verdict is None:
            raise AssertionError("nothing is written before the teacher's logprobs have been proved usable")
        return self._verdict


def _require_unscaled(verdict: Verdict, collection: Collection) -> None:
    """BitnetError for logprobs that the sampling changes, or may change: Other is a sum, which can't be unscaled."""
    sampling = collection.options.sampling
    if verdict.mode == "raw" or (sampling.temperature == 1 and sampling.top_p == 1):
        return
    if verdict.mode == "unmeasured":
        raise BitnetError(
            f"{collection.identity.model} accepts no temperature, so it can't be measured whether that scales its "
            "logprobs; choose another model, or, if you know that it samples at temperature 1, collect with "
            "KD_TEACHER_TEMPERATURE=1 and KD_TEACHER_TOP_P=1."
        )
    raise BitnetError(
        f"The logprobs of {collection.identity.provider.name} depend on the sampling (temperature and top_p), or it "
        "takes only one temperature; collect with KD_TEACHER_TEMPERATURE=1 and KD_TEACHER_TOP_P=1, or use embedded "
        "or llamacpp."
    )
