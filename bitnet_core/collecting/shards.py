"""Write a collection's shards from the answers in the journal, and sum them up.

What a shard holds depends on its answers alone.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from bitnet_core.collecting.answers import AnswerReader
from bitnet_core.collecting.journal import Journal, StoredAnswer
from bitnet_core.collecting.prompt_check import PromptCheck
from bitnet_core.collecting.requests import Collection, Request, digest
from bitnet_core.prompts.prompt import FOLDED, GROUPED, Prompt, canonical_json
from bitnet_core.teachers.probe import Verdict
from bitnet_core.traces import schema, writer
from bitnet_core.traces.columns import FinishedSequence


class Summary:
    """What a trace set holds, and what was rejected or repaired, by reason."""

    def __init__(self, shards: Iterable[Mapping[str, float]]) -> None:
        """`shards`: the counts in each shard's metadata."""
        self.rejected: Counter[str] = Counter()
        self._repairs: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self._other_mass = 0.0
        for name, value in (count for counts in shards for count in counts.items()):
            kind, _, reason = name.partition(":")
            if name == "other_mass":
                self._other_mass += value
            elif kind == "rejected":
                self.rejected[reason] += int(value)
            elif kind == "repaired":
                self._repairs[reason] += int(value)
            else:
                self._sums[name] += int(value)
        self.sequences = self._sums["sequences"]

    def record(self) -> dict[str, Any]:
        """For the run's summary: counts and shares."""
        sums, rows = self._sums, self._sums["rows"]
        return {
            "sequences": sums["sequences"],
            "tokens": sums["tokens"],
            "teacher_tokens": sums["steps"],
            "kd_rows": rows,
            "coverage": rows / sums["tokens"] if sums["tokens"] else None,
            "other_mass_mean": self._other_mass / rows if rows else None,
            "rejected": dict(self.rejected),
            "repaired": dict(self._repairs),
            "candidates_merged": sums["merged"],
            "candidates_unmapped": sums["unmapped"],
            "candidates_mean": sums["candidates"] / rows if rows else None,
            "steps_clamped": sums["clamped"],
            "rows_recut": sums["recut"],
            "unreported_bytes": sums["unreported"],
        }


@dataclass
class ShardMaker:
    """Makes the shards of one collection in one folder."""

    collection: Collection
    answers: AnswerReader
    journal: Journal
    check: PromptCheck
    folder: Path
    redact: Callable[[str], str] = str
    """Masks keys in metadata."""
    check_stop: Callable[[], None] = lambda: None
    """Called before each answer; may raise."""
    sampling_sent: Mapping[str, Any] = field(default_factory=dict)
    """The sampling fields as they were sent."""
    also_served: list[str] = field(default_factory=list)
    """The names of models that answered beside the one that was probed."""
    fingerprints: list[str] = field(default_factory=list)
    """Those under which the model answered."""

    def write(self, requests: Sequence[Request], verdict: Verdict) -> None:
        """Write the shard that these requests make up, unless it is there and was made from the same answers."""
        damaged = -1
        while damaged != self.journal.damaged:  # a damaged answer was found: the shard's list of answers is wrong
            damaged = self.journal.damaged
            self._write_once(requests, verdict)

    def _write_once(self, requests: Sequence[Request], verdict: Verdict) -> None:
        collection = self.collection
        index = collection.shard_of(requests[0])
        statuses = {request.key: self.status(request) for request in requests}
        usable = [key for key, status in statuses.items() if status == "ok"]
        metadata = self._metadata(verdict, usable, digest(statuses))
        if writer.shard_is_current(self.folder, index, metadata):
            return
        origin = {
            "provider": collection.identity.provider.name,
            "teacher": collection.identity.model,
            "sampling_json": canonical_json(collection.sampling_record()),
            "logprob_mode": verdict.mode,
            "logprob_temperature": verdict.temperature(collection.options.sampling.temperature),
        }
        writer.write_shard(self.folder, index, metadata, origin, self._sequences(requests))

    def status(self, request: Request) -> str | None:
        """The status of a request's answer, or of a prompt that is never asked; None if it is still to be asked."""
        found = self.journal.get_status(request.key)
        return self.check.status(request) if found is None else found

    def write_sequences(self, verdict: Verdict) -> Summary:
        """Write `sequences.parquet` from what was written with each shard, and sum the shards up."""
        metadata = self._metadata(verdict, [])
        if self.also_served:
            metadata = replace(metadata, probe={**metadata.probe, "also_served": self.also_served})
        if len(self.fingerprints) > 1:
            metadata = replace(metadata, probe={**metadata.probe, "fingerprints": self.fingerprints})
        return Summary(writer.write_sequences(self.folder, self.collection.shards, metadata))

    def _sequences(self, requests: Sequence[Request]) -> Iterator[FinishedSequence]:
        """The finished sequence of each request that has a status, one at a time."""
        for request in requests:
            self.check_stop()
            entry = self.journal.get(request.key)
            if entry is None and (refused := self.check.status(request)) is not None:
                entry = StoredAnswer(refused, b"")
            if entry is not None:
                yield self.answers.finish(request, entry, sequence_hash=self._hash_of(request.prompt))
        self.check_stop()  # the shard is renamed into its folder next

    @cached_property
    def _hash_of(self) -> Callable[[Prompt], str]:
        """The hash by which a prompt is held out. A set that an older version began keeps its sides."""
        first = writer.first_hash(self.folder)
        if first is None or first.startswith(GROUPED):
            return attrgetter("side_hash")
        if not first.startswith(FOLDED):
            return attrgetter("hash")
        for index, requests in self.collection.requests_by_shard():  # the first may have no group in any version
            if grouped := {request.prompt_idx for request in requests if request.prompt.group}:
                stored = writer.hashes(self.folder, index)
                for prompt_idx in grouped & stored.keys():
                    return attrgetter("side_hash" if stored[prompt_idx].startswith(GROUPED) else "folded_hash")
        return attrgetter("side_hash")

    def _metadata(self, verdict: Verdict, keys: Sequence[str], made_from: str = "") -> schema.TraceMetadata:
        collection, tokenizer = self.collection, self.collection.tokenizer
        return schema.TraceMetadata(
            schema_version=schema.SCHEMA_VERSION,
            tokenizer=self.redact(tokenizer.name),
            tokenizer_hash=tokenizer.hash,
            template_hash=tokenizer.template_hash,
            provider=collection.identity.provider.name,
            teacher=self.redact(collection.identity.model),
            sampling=collection.sampling_record(),
            sampling_sent=self.sampling_sent,
            vocab_size=tokenizer.vocab_size,
            top_k=collection.options.top_logprobs,
            config_hash=collection.config_hash,
            keys=keys,
            counts={},
            projection=schema.PROJECTION_VERSION,
            made_from=made_from,
            # Without the latency: a shard depends on its answers alone.
            probe={
                name: self.redact(value) if isinstance(value, str) else value
                for name, value in verdict.record().items()
                if name != "latency_s"
            },
        )
