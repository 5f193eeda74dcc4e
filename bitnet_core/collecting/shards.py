"""Write a collection's shards from the answers in the journal. What a shard holds depends on its answers alone."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bitnet_core.collecting.answers import AnswerReader
from bitnet_core.collecting.journal import Journal
from bitnet_core.collecting.requests import Collection, Request, digest
from bitnet_core.collecting.summary import Summary
from bitnet_core.prompts.prompt import canonical_json
from bitnet_core.teachers.probe import Verdict
from bitnet_core.traces import schema, writer
from bitnet_core.traces.columns import FinishedSequence


class ShardMaker:
    """Makes the shards of one collection in one folder."""

    def __init__(
        self,
        collection: Collection,
        answers: AnswerReader,
        journal: Journal,
        folder: Path,
        *,
        redact: Callable[[str], str] = str,
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        """`redact` masks keys in metadata; `check_stop` is called between two answers and may raise."""
        self._collection = collection
        self._answers = answers
        self._journal = journal
        self.folder = folder
        self._redact = redact
        self._check_stop = check_stop

    def write(self, requests: Sequence[Request], verdict: Verdict) -> None:
        """Write the shard that these requests make up, unless it is there and was made from the same answers."""
        damaged = -1
        while damaged != self._journal.damaged:  # a damaged answer was found: the shard's list of answers is wrong
            damaged = self._journal.damaged
            self._write_once(requests, verdict)

    def _write_once(self, requests: Sequence[Request], verdict: Verdict) -> None:
        collection = self._collection
        index = collection.shard_of(requests[0])
        statuses = {request.key: self._journal.get_status(request.key) for request in requests}
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

    def write_sequences(self, verdict: Verdict) -> Summary:
        """Write `sequences.parquet` from what was written with each shard, and sum the shards up."""
        metadata = self._metadata(verdict, [])
        return Summary(writer.write_sequences(self.folder, self._collection.shards, metadata))

    def _sequences(self, requests: Sequence[Request]) -> Iterator[FinishedSequence]:
        """The finished sequence of each answered request, one at a time."""
        for request in requests:
            self._check_stop()
            entry = self._journal.get(request.key)
            if entry is not None:
                yield self._answers.finish(request, entry)

    def _metadata(self, verdict: Verdict, keys: Sequence[str], made_from: str = "") -> schema.TraceMetadata:
        collection, tokenizer = self._collection, self._collection.tokenizer
        return schema.TraceMetadata(
            schema_version=schema.SCHEMA_VERSION,
            tokenizer=self._redact(tokenizer.name),
            tokenizer_hash=tokenizer.hash,
            template_hash=tokenizer.template_hash,
            provider=collection.identity.provider.name,
            teacher=self._redact(collection.identity.model),
            sampling=collection.sampling_record(),
            vocab_size=tokenizer.vocab_size,
            top_k=collection.options.top_logprobs,
            config_hash=collection.config_hash,
            keys=keys,
            counts={},
            projection=schema.PROJECTION_VERSION,
            made_from=made_from,
            # Without the latency: a shard depends on its answers alone.
            probe={
                name: self._redact(value) if isinstance(value, str) else value
                for name, value in verdict.record().items()
                if name != "latency_s"
            },
        )
