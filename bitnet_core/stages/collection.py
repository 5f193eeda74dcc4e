"""What one collection consists of: its requests, and the way from an answer to a finished sequence and shards.

Between the journal (answers as they came) and the writer (Parquet). Asks nobody anything.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitnet_core.config import Settings
from bitnet_core.errors import BitnetError
from bitnet_core.providers.probe import Verdict
from bitnet_core.providers.replies import BadReply, ChatResult, parse_chat
from bitnet_core.providers.teacher import Identity
from bitnet_core.traces import schema, writer
from bitnet_core.traces.journal import Entry, Journal
from bitnet_core.traces.project import Projection, Rejected, project
from bitnet_core.traces.prompts import Prompt, canonical_json
from bitnet_core.traces.tokenizer import StudentTokenizer
from bitnet_core.traces.writer import FinishedSequence

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
        prompts: Sequence[Prompt],
        redact: Callable[[str], str] = str,
    ) -> None:
        """`redact` masks keys in what goes into the metadata of files."""
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
        self.requests = [
            self._request(index, prompts[index % len(prompts)], index // len(prompts), settings.int("SEED"))
            for index in range(_how_many(settings.int("KD_NUM_PROMPTS"), len(prompts), self.sampling))
        ]

    def _request(self, index: int, prompt: Prompt, repeat: int, base_seed: int) -> Request:
        drawn = hashlib.sha256(f"{base_seed}:{prompt.hash}:{repeat}".encode()).digest()
        seed = int.from_bytes(drawn[:4], "big") >> 1
        # Where the provider takes no seed, the repeat alone tells two answers to one prompt apart.
        told_apart = seed if self.identity.provider.seeds else repeat
        key = _hash([self.teacher_hash, prompt.messages, self.sampling.record(), told_apart])
        return Request(index, prompt, seed, key)

    # -- answers -------------------------------------------------------------------------------------

    def finish(self, request: Request, entry: Entry) -> FinishedSequence:
        """Both layers of one answer, or the reason why it can't be used."""
        rendered = self.tokenizer.render_prompt(request.prompt.messages)
        result: ChatResult | None = None
        projection: Projection | None = None
        rejected = "" if entry.status == "ok" else entry.status
        if not rejected:
            try:
                result = parse_chat(json.loads(entry.body), entry.body)
                projection = self._project(result)
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
            steps=(result.steps or ()) if result else (),
            projection=projection,
            rejected=rejected,
        )

    def _project(self, result: ChatResult) -> Projection:
        if not result.steps:
            raise Rejected("no_logprobs")
        projection = project(result.steps, result.finish_reason, self.tokenizer)
        unexplained = result.completion_tokens - len(result.steps) - projection.unreported
        if unexplained > _UNREPORTED_END:
            raise Rejected("logprobs_missing")
        return projection

    # -- shards --------------------------------------------------------------------------------------

    def shards(self) -> list[list[Request]]:
        """The requests of each shard."""
        size = writer.SHARD_SEQUENCES
        return [self.requests[begin : begin + size] for begin in range(0, len(self.requests), size)]

    def shard_of(self, request: Request) -> int:
        return request.prompt_idx // writer.SHARD_SEQUENCES

    def _metadata(self, requests: Sequence[Request], answered: set[str]) -> schema.TraceMetadata:
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
            keys=[request.key for request in requests if request.key in answered],
            counts={},
        )

    def finished(
        self, journal: Journal, requests: Sequence[Request], check: Callable[[], None]
    ) -> Iterator[FinishedSequence]:
        """The sequences of answered requests, one at a time; `check` may raise between two."""
        for request in requests:
            check()
            entry = journal.get(request.key)
            if entry is not None:
                yield self.finish(request, entry)

    def write_shard(self, journal: Journal, data_dir: Path, index: int, check: Callable[[], None]) -> list[Path]:
        """Write shard `index` unless it is there already, from the same answers; its files."""
        requests = self.shards()[index]
        metadata = self._metadata(requests, journal.keys())
        if not writer.shard_is_current(data_dir, index, metadata):
            writer.write_shard(data_dir, index, metadata, self.finished(journal, requests, check))
        return [data_dir / name(index) for name in (schema.teacher_shard, schema.kd_stream, schema.kd_shard)]

    def write_sequences(
        self, journal: Journal, data_dir: Path, verdict: Verdict, check: Callable[[], None]
    ) -> "Summary":
        """Write `sequences.parquet` over all requests and sum them up."""
        summary = Summary()
        origin = {
            "provider": self.identity.provider.name,
            "teacher": self._redact(self.identity.model),
            "sampling_json": canonical_json(self.sampling.record()),
            "logprob_mode": verdict.mode,
            "logprob_temperature": verdict.temperature(self.sampling.temperature),
        }
        sequences = self.finished(journal, self.requests, check)
        metadata = self._metadata(self.requests, journal.keys())
        writer.write_sequences(data_dir, metadata, origin, (summary.add(sequence) for sequence in sequences))
        return summary


class Summary:
    """Running sums over finished sequences."""

    def __init__(self) -> None:
        self.sequences = 0
        self.tokens = 0
        self.rows = 0
        self.clamped = 0
        self.recut = 0
        self.unreported_bytes = 0
        self.text_differs = 0
        self.rejected: Counter[str] = Counter()
        self._other = 0.0

    def add(self, sequence: FinishedSequence) -> FinishedSequence:
        projection = sequence.projection
        if projection is None:
            self.rejected[sequence.rejected] += 1
            return sequence
        self.sequences += 1
        self.tokens += len(projection.completion_ids)
        self.rows += len(projection.rows)
        self.clamped += projection.clamped
        self.recut += projection.recut
        self.unreported_bytes += projection.unreported
        self.text_differs += not sequence.text_matches_bytes
        self._other += sum(math.exp(row.other_logprob) for row in projection.rows)
        return sequence

    def record(self) -> dict[str, Any]:
        """For the run's summary: counts, and shares of them."""
        return {
            "sequences": self.sequences,
            "tokens": self.tokens,
            "kd_rows": self.rows,
            "coverage": self.rows / self.tokens if self.tokens else None,
            "other_mass_mean": self._other / self.rows if self.rows else None,
            "rejected": dict(self.rejected),
            "steps_clamped": self.clamped,
            "rows_recut": self.recut,
            "unreported_bytes": self.unreported_bytes,
            "text_differs": self.text_differs,
        }


def _how_many(wanted: int, prompts: int, sampling: Sampling) -> int:
    """Prompts are asked again (with other seeds) when more answers are wanted, unless they would be the same."""
    if sampling.temperature == 0:
        return min(wanted, prompts)
    return wanted


def check_sampling(verdict: Verdict, sampling: Sampling, identity: Identity) -> None:
    """Refuse logprobs that were bent by the sampling: Other is a sum, and can't be unbent (DESIGN §7)."""
    if verdict.mode == "scaled" and (sampling.temperature != 1 or sampling.top_p != 1):
        raise BitnetError(
            f"{identity.provider.name} bends its logprobs by the temperature; collect with "
            "KD_TEACHER_TEMPERATURE=1 and KD_TEACHER_TOP_P=1, or use embedded or llamacpp."
        )


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
