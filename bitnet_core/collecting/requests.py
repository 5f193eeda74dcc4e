"""What one collection consists of: its requests, and the way from an answer to a finished sequence and shards.

Between the journal (answers as they came) and the writer (Parquet). Asks nobody anything.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitnet_core.collecting.journal import Entry, Journal
from bitnet_core.errors import BitnetError
from bitnet_core.prompts.prompt import Prompt, canonical_json
from bitnet_core.settings.resolved import Settings
from bitnet_core.teachers.answers.errors import BadReply
from bitnet_core.teachers.answers.result import ChatResult
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.identity import Identity
from bitnet_core.teachers.opening import reader
from bitnet_core.teachers.probe import Verdict
from bitnet_core.tokenizer.steps import TokenTable
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import schema, writer
from bitnet_core.traces.answer import CheckedAnswer, Rejected, check_answer
from bitnet_core.traces.columns import FinishedSequence
from bitnet_core.traces.project import Projection, project
from bitnet_core.traces.vocabulary import Vocabulary

_UNREPORTED_END = 4
"""Tokens at the end that a server may count but not report: half a character, and the end of the text."""


@dataclass(frozen=True)
class Request:
    """One answer wanted. `key` is made of all that decides the answer, so a kept answer is found again."""

    prompt_idx: int
    prompt: Prompt
    seed: int
    key: str


@dataclass(frozen=True)
class Sampling:
    temperature: float
    top_p: float
    max_tokens: int
    top_logprobs: int

    def request(self, request: Request) -> ChatRequest:
        return ChatRequest(
            request.prompt.messages,
            self.max_tokens,
            self.temperature,
            self.top_p,
            self.top_logprobs,
            request.seed,
        )

    def record(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "top_logprobs": self.top_logprobs,
        }


class Collection:
    """The requests of one configuration, in order, and everything made from their answers."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        tokenizer: StudentTokenizer,
        prompts: Callable[[], Iterator[Prompt]],
        redact: Callable[[str], str] = str,
    ) -> None:
        """`prompts` gives all prompts from the first on, each time it is called; `redact` masks keys in metadata."""
        self._redact = redact
        self.identity = identity
        self.tokenizer = tokenizer
        self.sampling = Sampling(
            temperature=settings.float("KD_TEACHER_TEMPERATURE"),
            top_p=settings.float("KD_TEACHER_TOP_P"),
            max_tokens=settings.int("KD_MAX_TOKENS_PER_PROMPT"),
            top_logprobs=settings.int("TEACHER_TOP_LOGPROBS"),
        )
        self.teacher_hash = _hash([identity.provider.name, identity.origin, identity.model])
        self.config_hash = _hash(
            [
                self.teacher_hash,
                self.sampling.record(),
                tokenizer.hash,
                tokenizer.template_hash,
                schema.SCHEMA_VERSION,
            ]
        )
        self.table = TokenTable()
        self.vocabulary = Vocabulary(tokenizer, self.table)
        self.read = reader(identity.provider)
        self._prompts = prompts
        self._seed = settings.int("SEED")
        self.shard_size = settings.int("KD_SHARD_SEQUENCES")
        self.total = settings.int("KD_NUM_PROMPTS")
        self.prompts = 0
        """How many prompts there are, once `requests` has found fewer than answers are wanted."""
        if self.sampling.temperature == 0:
            # Asked again it would give the same answer again.
            self.total = min(self.total, sum(1 for _ in prompts()))

    def requests(self) -> Iterator[Request]:
        """Every answer wanted, in order; prompts are asked again, with other seeds, when more are wanted."""
        index = repeat = 0
        while index < self.total:
            for prompt in self._prompts():
                if index == self.total:
                    return
                yield self._request(index, prompt, repeat, self._seed)
                index += 1
            self.prompts = self.prompts or index
            repeat += 1

    def _request(self, index: int, prompt: Prompt, repeat: int, base_seed: int) -> Request:
        drawn = hashlib.sha256(f"{base_seed}:{prompt.hash}:{repeat}".encode()).digest()
        seed = int.from_bytes(drawn[:4], "big") >> 1
        # Where the provider takes no seed, the repeat alone tells two answers to one prompt apart.
        told_apart = seed if self.identity.provider.seeds else repeat
        key = _hash([self.teacher_hash, prompt.messages, self.sampling.record(), told_apart])
        return Request(index, prompt, seed, key)

    # -- answers -------------------------------------------------------------------------------------

    def finish(self, request: Request, entry: Entry, result: ChatResult | None = None) -> FinishedSequence:
        """Both layers of one answer, or the reason why it can't be used. `result`: the entry, where it is read."""
        rendered = self.tokenizer.render_prompt(request.prompt.messages)
        answer: CheckedAnswer | None = None
        projection: Projection | None = None
        repairs: dict[str, int] = {}
        rejected = "" if entry.status == "ok" else entry.status
        if not rejected:
            try:
                if result is None:
                    result = self.read(entry.body, self.table)
                repairs |= result.repairs
                answer = self._check(result, repairs)
                projection = project(answer, result.finish_reason, self.vocabulary)
            except (BadReply, Rejected) as error:
                rejected = error.reason
            except ValueError:
                rejected = "not_json"
        return FinishedSequence(
            prompt_idx=request.prompt_idx,
            sequence_hash=request.prompt.hash,
            request_key=request.key,
            messages_json=canonical_json(request.prompt.messages),
            rendered_prompt=rendered,
            prompt_ids=self.tokenizer.encode(rendered),
            completion_text=result.text if result else "",
            finish_reason=result.finish_reason if result else "",
            prompt_tokens=result.prompt_tokens if result else 0,
            completion_tokens=result.completion_tokens if result else 0,
            text_matches_bytes=bool(result and result.text_matches_bytes),
            answer=answer,
            projection=projection,
            rejected=rejected,
            repairs=repairs,
        )

    def _check(self, result: ChatResult, repairs: dict[str, int]) -> CheckedAnswer:
        """What was said, if it can be used; of more candidates than were asked for, the likeliest stay."""
        if not result.steps:
            raise Rejected("no_logprobs")
        if not result.text_matches_bytes:
            raise Rejected("text_differs")
        steps = result.steps.at_most(self.sampling.top_logprobs)
        if steps is not result.steps:
            repairs["surplus_candidates"] = int((result.steps.tops_NK >= 0).sum() - (steps.tops_NK >= 0).sum())
        answer = check_answer(steps, self.vocabulary)
        unexplained = result.completion_tokens - len(steps) - sum(map(len, answer.bytes_before.values()))
        if unexplained > _UNREPORTED_END:
            raise Rejected("logprobs_missing")
        return answer

    # -- shards --------------------------------------------------------------------------------------

    @property
    def shards(self) -> int:
        return -(-self.total // self.shard_size)

    def shard_of(self, request: Request) -> int:
        return request.prompt_idx // self.shard_size

    def in_shard(self, index: int) -> int:
        """How many requests belong to a shard."""
        return min(self.shard_size, self.total - index * self.shard_size)

    def write_shard(
        self,
        journal: Journal,
        data_dir: Path,
        requests: Sequence[Request],
        verdict: Verdict,
        check: Callable[[], None],
    ) -> None:
        """Write the shard of these requests, all of one, unless it is there already, from the same answers."""
        index = self.shard_of(requests[0])
        statuses = {request.key: journal.get_status(request.key) for request in requests}
        kept = [key for key, status in statuses.items() if status == "ok"]
        metadata = self._metadata(kept, verdict, _hash(statuses))
        if not writer.shard_is_current(data_dir, index, metadata):
            origin = {
                "provider": self.identity.provider.name,
                "teacher": self.identity.model,
                "sampling_json": canonical_json(self.sampling.record()),
                "logprob_mode": verdict.mode,
                "logprob_temperature": verdict.temperature(self.sampling.temperature),
            }
            writer.write_shard(data_dir, index, metadata, origin, self._finished(journal, requests, check))

    def publish(self, data_dir: Path, verdict: Verdict) -> "Summary":
        """Write `sequences.parquet` from what was written with each shard, and sum the shards up."""
        summary = Summary()
        for counts in writer.write_sequences(data_dir, self.shards, self._metadata([], verdict)):
            summary.add(counts)
        return summary

    def _metadata(self, keys: Sequence[str], verdict: Verdict, made_from: str = "") -> schema.TraceMetadata:
        return schema.TraceMetadata(
            schema_version=schema.SCHEMA_VERSION,
            tokenizer=self._redact(self.tokenizer.name),
            tokenizer_hash=self.tokenizer.hash,
            template_hash=self.tokenizer.template_hash,
            provider=self.identity.provider.name,
            teacher=self._redact(self.identity.model),
            sampling=self.sampling.record(),
            vocab_size=self.tokenizer.vocab_size,
            top_k=self.sampling.top_logprobs,
            config_hash=self.config_hash,
            keys=keys,
            counts={},
            projection=schema.PROJECTION_VERSION,
            made_from=made_from,
            # Not how quick it was: a shard depends on its answers alone.
            probe={
                name: self._redact(value) if isinstance(value, str) else value
                for name, value in verdict.record().items()
                if name != "latency_s"
            },
        )

    def _finished(
        self, journal: Journal, requests: Sequence[Request], check: Callable[[], None]
    ) -> Iterator[FinishedSequence]:
        """The sequences of answered requests, one at a time; `check` may raise between two."""
        for request in requests:
            check()
            entry = journal.get(request.key)
            if entry is not None:
                yield self.finish(request, entry)


class Summary:
    """Running sums over shards, from the counts that each was written with."""

    def __init__(self) -> None:
        self.rejected: Counter[str] = Counter()
        self.repairs: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self._other = 0.0

    def add(self, counts: Mapping[str, float]) -> None:
        for name, value in counts.items():
            kind, _, detail = name.partition(":")
            if name == "other_mass":
                self._other += value
            elif kind == "rejected":
                self.rejected[detail] += int(value)
            elif kind == "repaired":
                self.repairs[detail] += int(value)
            else:
                self._sums[name] += int(value)

    @property
    def sequences(self) -> int:
        return self._sums["sequences"]

    def record(self) -> dict[str, Any]:
        """For the run's summary: counts, and shares of them."""
        sums = self._sums
        return {
            "sequences": sums["sequences"],
            "tokens": sums["tokens"],
            "teacher_tokens": sums["steps"],
            "kd_rows": sums["rows"],
            "coverage": sums["rows"] / sums["tokens"] if sums["tokens"] else None,
            "other_mass_mean": self._other / sums["rows"] if sums["rows"] else None,
            "rejected": dict(self.rejected),
            "repaired": dict(self.repairs),
            "candidates_merged": sums["merged"],
            "candidates_unmapped": sums["unmapped"],
            "candidates_mean": sums["candidates"] / sums["rows"] if sums["rows"] else None,
            "steps_clamped": sums["clamped"],
            "rows_recut": sums["recut"],
            "unreported_bytes": sums["unreported"],
        }


def check_sampling(verdict: Verdict, sampling: Sampling, identity: Identity) -> None:
    """Refuse logprobs that were bent by the sampling: Other is a sum, and can't be unbent (DESIGN §7)."""
    if verdict.mode == "scaled" and (sampling.temperature != 1 or sampling.top_p != 1):
        raise BitnetError(
            f"{identity.provider.name} bends its logprobs by the temperature; collect with "
            "KD_TEACHER_TEMPERATURE=1 and KD_TEACHER_TOP_P=1, or use embedded or llamacpp."
        )


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
