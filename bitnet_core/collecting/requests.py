"""The requests of one collection, in order, and how they divide into shards. Asks no teacher and reads no answer."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bitnet_core.prompts.prompt import PACKAGED_PROMPTS, Prompt, canonical_json, iter_prompts
from bitnet_core.prompts.texts import iter_texts
from bitnet_core.settings.values import CollectOptions
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.identity import Identity
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import schema
from bitnet_core.traces.split import is_heldout


@dataclass(frozen=True)
class Request:
    """One answer wanted. `key` is a hash of everything that decides the answer, so a stored answer is found again."""

    prompt_idx: int
    prompt: Prompt
    seed: int
    key: str
    plain: bool = False
    """Whether the answer is sampled at temperature 1 and top-p 1, whatever the options say."""

    def chat_request(self, options: CollectOptions) -> ChatRequest:
        sampling = _unscaled(options).sampling if self.plain else options.sampling
        drawing = sampling.max_tokens, sampling.temperature, sampling.top_p
        draws = options.rows == "sampled"
        return ChatRequest(self.prompt.messages, *drawing, options.top_logprobs, self.seed, self.prompt.given, draws)


def prompts_of(options: CollectOptions) -> Callable[[], Iterator[Prompt]]:
    """What is asked, from the first on at each call: the texts of KD_TEXT_FILE, or the prompts of KD_PROMPTS_FILE."""
    if options.text_file:
        return partial(iter_texts, options.text_file)
    return partial(iter_prompts, options.prompts_file, PACKAGED_PROMPTS)


class Collection:
    """Everything wanted from one teacher for one student's tokenizer with one set of options."""

    def __init__(
        self,
        options: CollectOptions,
        identity: Identity,
        tokenizer: StudentTokenizer,
        prompts: Callable[[], Iterator[Prompt]],
    ) -> None:
        """`prompts` gives all prompts from the first on, each time it is called."""
        self.given = options.text_file is not None
        """Whether the answers are there, so that the teacher scores them and samples nothing."""
        self.options = _unscaled(options) if self.given else options
        self.identity = identity
        self.tokenizer = tokenizer
        self._prompts = prompts
        self.teacher_hash = digest([identity.provider.name, identity.origin, identity.model])
        student = [tokenizer.hash, tokenizer.template_hash]
        self.config_hash = digest([self.teacher_hash, self.sampling_record(), *student, schema.SCHEMA_VERSION])
        self.total = options.answers
        self.distinct_prompts = 0
        """The number of prompts, once `requests` has found fewer prompts than answers wanted; before that 0."""
        if self.given or options.sampling.temperature == 0:
            # Greedy answers don't change, nor given ones: asking a prompt twice would give the same answer.
            self.total = min(self.total, sum(1 for _ in prompts()))

    def sampling_record(self) -> dict[str, Any]:
        """The sampling as it stands in hashes and in the shards' metadata."""
        return _sampling_record(self.options, given=self.given) | (
            {"heldout": "plain"} if self._plain_heldout else {}
        )

    @property
    def _plain_heldout(self) -> bool:
        return self.options.heldout_sampling == "plain" and not self.given

    def requests(self) -> Iterator[Request]:
        """Every answer wanted, in order. If there are fewer prompts, they are asked again with other seeds."""
        index = repeat = 0
        while index < self.total:
            for prompt in self._prompts():
                if index == self.total:
                    return
                yield self._request(index, prompt, repeat)
                index += 1
            self.distinct_prompts = self.distinct_prompts or index
            repeat += 1

    def _request(self, index: int, prompt: Prompt, repeat: int) -> Request:
        drawn = hashlib.sha256(f"{self.options.seed}:{prompt.hash}:{repeat}".encode()).digest()
        seed = int.from_bytes(drawn[:4], "big") >> 1
        # A provider that takes no seed gives a new answer each time: only the repeat distinguishes them.
        variant: Any = seed if self.identity.provider.seeds else repeat
        if prompt.given is not None:
            variant = [prompt.given.text, prompt.given.ends]
        plain = self._plain_heldout and is_heldout(prompt.side_hash)
        sampled = _sampling_record(_unscaled(self.options) if plain else self.options, given=self.given)
        key = digest([self.teacher_hash, prompt.messages, sampled, variant])
        return Request(index, prompt, seed, key, plain)

    # -- shards --------------------------------------------------------------------------------------

    @property
    def shards(self) -> int:
        return -(-self.total // self.options.shard_sequences)

    def shard_of(self, request: Request) -> int:
        return request.prompt_idx // self.options.shard_sequences

    def shard_size(self, index: int) -> int:
        """How many requests belong to a shard."""
        return min(self.options.shard_sequences, self.total - index * self.options.shard_sequences)

    def requests_by_shard(self) -> Iterator[tuple[int, list[Request]]]:
        """Every shard's index with its requests."""
        found: list[Request] = []
        for request in self.requests():
            found.append(request)
            index = self.shard_of(request)
            if len(found) == self.shard_size(index):
                yield index, found
                found = []


def _unscaled(options: CollectOptions) -> CollectOptions:
    """With the sampling that changes no logprob, whatever the server does with it."""
    return replace(options, sampling=replace(options.sampling, temperature=1.0, top_p=1.0))


def _sampling_record(options: CollectOptions, *, given: bool) -> dict[str, Any]:
    sampling = options.sampling
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "top_logprobs": options.top_logprobs,
        **({"given": True} if given else {}),
        **({"rows": options.rows} if options.rows != "top" else {}),
    }


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
