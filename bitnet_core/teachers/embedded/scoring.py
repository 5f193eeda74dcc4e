"""Score given tokens with a llama.cpp server: a grammar of token ids makes it generate exactly these.

The server reports no probabilities of a prompt, but of each generated token the log of its softmax before any
sampler, so also before the grammar. Knows no text and no benchmark.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence

import msgspec

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.embedded.completions import ATTEMPTS, complete, decoded, in_slots
from bitnet_core.teachers.http.client import JsonClient
from bitnet_core.teachers.http.reply import Reply

_CERTAIN = 1000.0
"""A bias that makes any token the likeliest."""
_MANY = 2000
_ALL = 1 << 20
"""Candidates of a whole vocabulary, which take the server a second."""
_WORTH_SHARING = 8
"""A context of at least this many tokens is read once for all pairs that begin with it, by one slot."""


class _Candidate(msgspec.Struct):
    id: int
    logprob: float


class _Token(_Candidate):
    top_logprobs: list[_Candidate]


class _Completion(msgspec.Struct):
    completion_probabilities: list[_Token] = []


Score = tuple[float, bool] | None
"""Σ ln p of a continuation's tokens and whether each was the likeliest; None if the server refuses the pair."""
Pair = tuple[list[int], list[int]]
"""A context and its continuation, as token ids."""


class LlamaCppScorer:
    """Scores with a running server, at `address` without "/v1", whose `slots` work at once.

    `limit` is the most tokens that it reads for one pair. `whole` is a token whose text is whole characters. Pairs
    with the same context should follow each other: one slot scores them, and reads the context once.
    """

    def __init__(self, address: str, api_key: str, *, slots: int, limit: int, whole: int) -> None:
        self.limit = limit
        self._address = address
        self._api_key = api_key
        self._slots = slots
        self._whole = whole

    def score_ids(self, pairs: Sequence[Pair], on_done: Callable[[int], None]) -> list[Score]:
        """The score of each pair; `on_done` is called with the number of pairs done, and may raise to stop.

        BitnetError if the server ends, or is another program.
        """
        return asyncio.run(self._score_all(pairs, on_done))

    async def _score_all(self, pairs: Sequence[Pair], on_done: Callable[[int], None]) -> list[Score]:
        found: list[Score] = [None] * len(pairs)
        done = itertools.count(1)

        async def work(client: JsonClient, slot: int, group: list[int]) -> None:
            for place in group:
                found[place] = await self._score(client, slot, *pairs[place])
                on_done(next(done))

        await in_slots(self._address, self._api_key, self._slots, _groups(pairs), work)
        return found

    async def _score(self, client: JsonClient, slot: int, context: list[int], continuation: list[int]) -> Score:
        grammar = "root ::= " + " ".join(f"<[{token}]>" for token in continuation)
        asked = {"n_predict": len(continuation), "grammar": grammar, "n_probs": 1}
        reply = await complete(client, slot, context, asked, attempts=1)
        if reply.status not in (200, 500):
            return None
        tokens = _tokens(client, reply) if reply.status == 200 else []
        if [token.id for token in tokens] == continuation:
            return sum(token.logprob for token in tokens), all(map(_is_likeliest, tokens))
        # A token that ends inside a character is left out of an answer, and what follows it may fail the grammar.
        total, likeliest = 0.0, True
        for place, token in enumerate(continuation):
            found = await self._score_token(client, slot, [*context, *continuation[:place]], token)
            if found is None:
                return None
            total, likeliest = total + found[0], likeliest and found[1]
        return total, likeliest

    async def _score_token(self, client: JsonClient, slot: int, context: list[int], token: int) -> Score:
        """One token after a context: generated if it is whole characters, else found among all candidates."""
        for generated, candidates in ((token, 1), (self._whole, _MANY), (self._whole, _ALL)):
            asked = {"n_predict": 1, "logit_bias": [[generated, _CERTAIN]], "n_probs": candidates}
            reply = await complete(client, slot, context, asked, attempts=ATTEMPTS)
            if reply.status != 200:
                return None
            for told in _tokens(client, reply)[:1]:
                one = next((one for one in (told, *told.top_logprobs) if one.id == token), None)
                if one is not None:
                    return one.logprob, told.top_logprobs[0].id == token
        raise BitnetError(
            f"The llama.cpp at {client.base_url} does not tell the probabilities of given tokens; use another build."
        )


def _groups(pairs: Sequence[Pair]) -> Iterator[list[int]]:
    """The numbers of pairs that one slot scores one after another: neighbours with the same context."""

    def shared(place: int) -> list[int] | int:
        context = pairs[place][0]
        return context if len(context) >= _WORTH_SHARING else place

    return (list(group) for _, group in itertools.groupby(range(len(pairs)), key=shared))


def _tokens(client: JsonClient, reply: Reply) -> list[_Token]:
    return [token for token in decoded(client, reply, _Completion).completion_probabilities if token.top_logprobs]


def _is_likeliest(token: _Token) -> bool:
    return token.top_logprobs[0].id == token.id
