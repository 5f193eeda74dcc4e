"""What a run has collected so far, and what it reports: events, alerts with their advice, the final table.

Asks no teacher and writes no file. It ends a run only if none of its answers can be used.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import UNSET

from bitnet_core.collecting.accounting import Accounts
from bitnet_core.collecting.answers import ReadAnswer
from bitnet_core.collecting.asking import NO_ANSWER, Asker
from bitnet_core.collecting.budget import LimitReached
from bitnet_core.collecting.journal import Journal
from bitnet_core.collecting.newest import Newest
from bitnet_core.collecting.outstanding import Survey
from bitnet_core.collecting.prompt_check import PromptCheck
from bitnet_core.collecting.repeats import IN_A_ROW
from bitnet_core.collecting.requests import Collection, Request
from bitnet_core.collecting.shards import Summary
from bitnet_core.errors import BitnetError
from bitnet_core.runs.events import Metric, Trace
from bitnet_core.runs.reporter import Reporter
from bitnet_core.teachers.refusals import ContextExceeded, PromptRefused
from bitnet_core.teachers.teacher import Teacher
from bitnet_core.text import capital, rejection

_MIN_JUDGED = 8
"""A teacher that has given this many answers, and no usable one, is not asked any more."""
_TOLD_SECONDS = 1.0
_NOT_ANSWERS = (PromptRefused.status, ContextExceeded.status, NO_ANSWER)
"""Statuses that don't count as answers; how many of them are too many is decided while asking."""


class Tally:
    """Counts of one run. `done` and the judgement include answers of earlier runs."""

    def __init__(self) -> None:
        self.done = 0
        self.answers = 0
        self.tokens = 0
        self.usable = 0
        self._rejected: Counter[str] = Counter()
        self._started = time.monotonic()
        self._seconds = 0.0

    def start_clock(self) -> None:
        self._started = time.monotonic()

    def add(self, answer: ReadAnswer) -> None:
        """Count an answer that has just arrived."""
        self._seconds = time.monotonic() - self._started
        self.done += 1
        self.answers += 1
        self.tokens += answer.completion_tokens
        self.judge(answer)

    def judge(self, answer: ReadAnswer) -> None:
        if not answer.rejected:
            self.usable += 1
        elif answer.rejected not in _NOT_ANSWERS:
            self._rejected[answer.rejected] += 1

    def tokens_per_s(self) -> float | None:
        return self.tokens / self._seconds if self._seconds > 0 and self.tokens else None

    def require_usable(self, model: str, in_flight: int = 0) -> None:
        """BitnetError if no answer so far can be used; `in_flight` answers get the benefit of the doubt."""
        judged = self._rejected.total()
        if not self.usable and judged >= _MIN_JUDGED + in_flight:
            reason = rejection(self._rejected.most_common(1)[0][0])
            raise BitnetError(
                f"None of the first {judged} answers of {model} can be used ({reason}); choose another model or "
                "TEACHER_PROVIDER=embedded."
            )


@dataclass
class SessionReporter:
    """Puts what happens in a session into words and events."""

    reporter: Reporter
    collection: Collection
    check: PromptCheck
    redact: Callable[[str], str] = str
    """Masks keys in a text."""
    _told: tuple[str, float] = field(default=("", 0.0))
    """What requests waited for when that was last reported, and when."""

    def __post_init__(self) -> None:
        self._newest = Newest(self.redact)

    # -- before asking -----------------------------------------------------------------------------------

    def lost_requests(self, lost: int, *, free: bool) -> None:
        """`free`: the teacher is on the user's own machine, so that nobody bills them."""
        billed = "" if free else ", and may be billed"
        self.reporter.alert(
            "info",
            "requests_lost",
            f"{lost} requests were in flight when an earlier run ended; they are sent again{billed}.",
            "Nothing to do.",
        )

    def recounted(self, requests: int) -> None:
        self.reporter.alert(
            "warning",
            "absurd_counts",
            f"{requests} requests of earlier runs were charged with more tokens than they can have cost; now "
            "they count with the most that they can have cost.",
            "If the provider's bill says otherwise, set the limits (KD_MAX_…) by the bill.",
        )

    def journal(self, journal: Journal) -> None:
        for one in journal.repaired:
            lost = f"; what {one.lost_sendings} requests cost is lost, so limits count too little"
            self.reporter.alert(
                "warning",
                "journal_damaged",
                f"{one.path} is damaged ({one.why}). Its {one.answers} answers that can be read are in a new "
                f"file{lost if one.lost_sendings else ''}; the damaged one is kept as {one.kept.name}.",
                "Check that disk. Missing answers are asked for again; a backup of the file would save their cost.",
            )
        for copy in journal.taken_in:
            self.reporter.log(f"The answers in {copy} were added to {journal.path}.")
        if not journal.has_record_locks:
            self.reporter.log(
                f"The file system of {journal.path} has no record locks; a lock file beside it is used instead.",
                "warning",
            )

    def damaged_answers(self, journal: Journal) -> None:
        self.reporter.alert(
            "warning",
            "answers_damaged",
            f"{journal.damaged} answers in {journal.path} are damaged on the disk; they are asked for again.",
            "Check that disk; all other answers are intact.",
        )

    def repeated_prompts(self) -> None:
        prompts, total = self.collection.distinct_prompts, self.collection.total
        self.reporter.log(
            f"{prompts} prompts for KD_NUM_PROMPTS={total} answers: "
            f"each is asked up to {-(-total // prompts)} times, with other seeds."
        )

    def refused_prompts(self, survey: Survey) -> None:
        advice = self.check.advice()
        self.reporter.alert(
            "warning",
            "prompts_refused",
            f"{self.check.refuser()} refuses {survey.refused} of "
            f"{self.collection.total} prompts (the first is {self.check.first}); they are not asked.",
            f"{capital(advice)}.",
        )

    def superseded_traces(self, data: Path, aside: Path) -> None:
        self.reporter.alert(
            "info",
            "traces_superseded",
            f"The traces in {data} were made with another teacher, sampling or prompts; they are kept in {aside}.",
            "Nothing to do; set the old values again to get them back without new requests.",
        )

    def fewer_candidates(self, candidates: int) -> None:
        self.reporter.alert(
            "warning",
            "fewer_candidates",
            f"{self.collection.identity.provider.name} gives {candidates} candidates a step, not the "
            f"{self.collection.options.top_logprobs} of TEACHER_TOP_LOGPROBS.",
            f"Set TEACHER_TOP_LOGPROBS={candidates}, or choose a teacher that gives more.",
        )

    def fewer_than_probed(self, candidates: int, probed: int) -> None:
        model = self.collection.identity.model
        self.reporter.alert(
            "warning",
            "fewer_candidates",
            f"{model} gives {candidates} candidates a step in an answer, and gave {probed} when it was probed: "
            "several servers may take turns to answer for it.",
            "The rest of their mass goes to Other. Stop and keep to one server (or provider) if that matters.",
        )

    def thinks_first(self, tokens: int) -> None:
        self.reporter.alert(
            "warning",
            "thinks_first",
            f"The first tokens of {self.collection.identity.model} are thinking: there was no text until {tokens} "
            "were asked for. Thinking is billed, and counts towards KD_MAX_TOKENS_PER_PROMPT.",
            "Switch its thinking off on the server, or choose a model that does not think.",
        )

    def fixed_sampling(self, fields: list[str]) -> None:
        settings = {"temperature": "KD_TEACHER_TEMPERATURE", "top_p": "KD_TEACHER_TOP_P"}
        named = " and ".join(settings.get(name, name) for name in fields)
        self.reporter.alert(
            "warning",
            "sampling_fixed",
            f"{self.collection.identity.model} accepts no {' and no '.join(fields)}: {named} is not sent.",
            "The server uses its own sampling; the traces record that. Choose another model if that matters.",
        )

    def unmeasured_scale(self) -> None:
        self.reporter.alert(
            "warning",
            "scale_unmeasured",
            f"{self.collection.identity.model} accepts no temperature, so it is unknown which one it samples at, and "
            "whether that scales its logprobs.",
            "The traces are right only if it samples at temperature 1; they say that this was not measured.",
        )

    def another_model(self, probed: str, served: str) -> None:
        self.reporter.alert(
            "warning",
            "another_model",
            f"{self.collection.identity.provider.name} answers with the model {served}, but {probed} was probed.",
            "If that is not the same model, stop, choose one by its exact name and collect again; traces name both.",
        )

    def another_fingerprint(self, first: str, second: str) -> None:
        self.reporter.alert(
            "warning",
            "another_fingerprint",
            f"{self.collection.identity.model} answers with the fingerprint {second}, where {first} answered before: "
            "it was changed in between, or servers of different builds take turns to answer.",
            "Traces name all fingerprints; for answers of one build, collect again once the server keeps to it.",
        )

    def one_answer_for_many(self) -> None:
        self.reporter.alert(
            "warning",
            "one_answer",
            f"{self.collection.identity.model} gave the same answer to {IN_A_ROW} different prompts in a row: "
            "its server, or a cache before it, may no longer read what it is asked.",
            "Look at the answers; if they are wrong, stop, mend the server, and collect again with another DATA_DIR.",
        )

    # -- while asking ------------------------------------------------------------------------------------

    def waiting(self, tally: Tally, teacher: Teacher, accounts: Accounts) -> None:
        """Report that requests wait for something else than before, at most once a second."""
        now, waits_for = time.monotonic(), _waits_for(teacher)
        if waits_for != self._told[0] and now - self._told[1] >= _TOLD_SECONDS:
            self._told = waits_for, now
            self.figures(tally, teacher, accounts)

    def figures(self, tally: Tally, teacher: Teacher, accounts: Accounts) -> None:
        budget, waits_for = accounts.budget, _waits_for(teacher)
        self.reporter.emit(
            Metric(
                answers=tally.done,
                tokens=tally.tokens,
                tokens_per_s=tally.tokens_per_s(),
                requests=budget.requests,
                requests_at_once=accounts.under_way,
                spent_tokens=budget.tokens,
                spent_usd=budget.usd if budget.priced else None,
                waits_for=waits_for,
            )
        )

    def answer(self, request: Request, answer: ReadAnswer, tally: Tally) -> None:
        event = Trace(
            prompt_idx=request.prompt_idx,
            tokens=answer.completion_tokens,
            kept=answer.steps,
            dropped={answer.rejected: answer.completion_tokens} if answer.rejected else {},
            other_mass_mean=answer.other_mass_mean(),
            repaired=dict(answer.repairs) if answer.repairs and not answer.rejected else UNSET,
        )
        self.reporter.emit(self._newest.added_to(event, request, answer))
        self.reporter.progress(tally.done, self.collection.total, "sequences", "collecting")

    def asking(self, teacher: Teacher, asker: Asker, accounts: Accounts) -> None:
        """What was noticed while asking, once it is over."""
        if teacher.pace is not None and teacher.pace.refusals:
            self.reporter.log(
                f"{teacher.name} refused {teacher.pace.refusals} requests because of its rate limit; all were resent."
            )
        if accounts.masked:
            self.reporter.alert(
                "warning",
                "key_in_answers",
                f"{teacher.name} sent a key back in {accounts.masked} of its answers; it is not kept.",
                "Use another gateway, and change that key.",
            )
        if teacher.absurd_counts:
            self.reporter.alert(
                "warning",
                "absurd_counts",
                f"{teacher.name} counted more tokens than a request can cost in {teacher.absurd_counts} of its "
                "answers; the most that was expected is charged instead.",
                "Compare its bill with what is said to be spent.",
            )
        if asker.last_error is not None:
            self.reporter.alert(
                "warning",
                "prompts_without_answer",
                f"Some prompts got no answer; the last error was: {asker.last_error}",
                "Other prompts that failed before are left for the next run." if asker.left_failing else "",
            )

    # -- after asking ------------------------------------------------------------------------------------

    def shard_progress(self, done: int) -> None:
        self.reporter.progress(done, self.collection.shards, "shards", "writing")

    def summary(self, summary: Summary, limit: LimitReached | None, given_up: int, asked: int) -> None:
        """Alerts and a table about the whole trace set. BitnetError if it holds no usable answer.

        `asked`: how many answers this run got itself. Earlier or copied ones need no new warning.
        """
        rejected = summary.rejected.total()
        reasons = ", ".join(f"{n} {rejection(reason)}" for reason, n in summary.rejected.most_common())
        if not summary.sequences:
            model = self.collection.identity.model
            raise BitnetError(
                str(limit) if limit else f"No answer of {model} can be used ({reasons}); choose another model."
            )
        if limit is not None:
            self.reporter.alert(
                "warning",
                "limit_reached",
                f"{limit} {summary.sequences} of {self.collection.total} answers can be used.",
                "They are written and usable.",
            )
        if rejected:
            harmless = not asked or rejected <= (self.collection.options.most_invalid or 0.0) * self.collection.total
            self.reporter.alert(
                "info" if harmless else "warning",
                "sequences_rejected",
                f"{rejected} of {self.collection.total} answers can't be used: {reasons}.",
                self._advice(summary.rejected, given_up),
            )
        record = summary.record()
        shares = [record["coverage"], record["other_mass_mean"]]
        self.reporter.table(
            "traces",
            ["sequences", "tokens", "KD rows", "rows a token", "mean Other", "rejected"],
            [[summary.sequences, record["tokens"], record["kd_rows"], *map(_rounded, shares), rejected]],
        )

    def _advice(self, rejected: Counter[str], given_up: int) -> str:
        if rejected.most_common(1)[0][0] == "sentinel_logprob":
            return (
                "The teacher sampled tokens outside its own list of candidates; lower KD_TEACHER_TOP_P or "
                "KD_TEACHER_TEMPERATURE to lose fewer."
            )
        attempts = self.collection.options.max_attempts
        given = f" {given_up} of the rest failed in {attempts} runs; they are not asked again (KD_MAX_ATTEMPTS)."
        return f"All other answers can be used; raise KD_NUM_PROMPTS to collect more.{given if given_up else ''}"


def _waits_for(teacher: Teacher) -> str:
    if not teacher.answering:
        return "the teacher does not answer"
    return teacher.pace.holds() if teacher.pace is not None else ""


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
