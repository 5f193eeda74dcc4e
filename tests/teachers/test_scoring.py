"""llama.cpp scores given tokens: the sum of what it says of each token alone, whatever the order and the slots."""

import asyncio
import math

import msgspec
import pytest

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.teachers.embedded.completions import LlamaCppWriter
from bitnet_core.teachers.embedded.scoring import LlamaCppScorer, Pair
from bitnet_core.teachers.embedded.server import EmbeddedServer
from bitnet_core.teachers.http.client import JsonClient
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.teachers.server import Asked, Canned, ChatServer

QUESTION = "Question: Which technology was developed most recently?\nAnswer:"
CHOICES = (" cellular telephone", " television")


def address(server: EmbeddedServer) -> str:
    return server.base_url.removesuffix("/v1")


async def one_by_one(server: EmbeddedServer, tokenizer: StudentTokenizer, pair: Pair) -> float:
    """Each token in a request of its own: chosen by a bias, or looked up if it is a part of a character."""
    total, [whole] = 0.0, tokenizer.encode(".")
    async with JsonClient(address(server), {"Authorization": f"Bearer {server.api_key}"}) as client:
        for place, token in enumerate(pair[1]):
            is_part = "\N{REPLACEMENT CHARACTER}" in tokenizer.decode([token])
            asked = {
                "prompt": [*pair[0], *pair[1][:place]],
                "n_predict": 1,
                "n_probs": 4000 if is_part else 1,
                "temperature": 0.0,
                "logit_bias": [[whole if is_part else token, 500.0]],
            }
            reply = await client.post("/completion", asked, most_bytes=1 << 27)
            [told] = msgspec.json.decode(reply.body)["completion_probabilities"]
            total += next(one["logprob"] for one in [told, *told["top_logprobs"]] if one["id"] == token)
    return total


@pytest.mark.teacher
async def test_it_is_the_sum_of_each_token_alone(
    teacher_server: EmbeddedServer, teacher_tokenizer: StudentTokenizer
) -> None:
    context = teacher_tokenizer.encode(QUESTION)
    greeting = teacher_tokenizer.encode("The capital of France is")
    pairs = [(context, teacher_tokenizer.encode(choice)) for choice in CHOICES]
    pairs.append((greeting, teacher_tokenizer.encode(" Paris")))
    pairs.append((teacher_tokenizer.encode("日本の首都は"), teacher_tokenizer.encode("東京")))
    [whole] = teacher_tokenizer.encode(".")
    scorer = LlamaCppScorer(address(teacher_server), teacher_server.api_key, slots=2, limit=500, whole=whole)
    done: list[int] = []
    found = await asyncio.to_thread(scorer.score_ids, pairs, done.append)
    for pair, score in zip(pairs, found, strict=True):
        assert score is not None
        # A batch of other tokens rounds differently in a 4-bit model; another token would differ by nats.
        assert score[0] == pytest.approx(await one_by_one(teacher_server, teacher_tokenizer, pair), abs=0.4)
        assert math.isfinite(score[0]) and score[0] < 0
    assert [score is not None and score[1] for score in found] == [False, False, True, False]
    assert done == [1, 2, 3, 4]


@pytest.mark.teacher
async def test_a_pair_that_the_server_refuses_is_unanswered(
    teacher_server: EmbeddedServer, teacher_tokenizer: StudentTokenizer
) -> None:
    good = (teacher_tokenizer.encode(QUESTION), teacher_tokenizer.encode(" television"))
    [whole] = teacher_tokenizer.encode(".")
    scorer = LlamaCppScorer(address(teacher_server), teacher_server.api_key, slots=2, limit=500, whole=whole)
    long = ([5] * 3000, [6])
    found = await asyncio.to_thread(scorer.score_ids, [long, good], lambda _done: None)
    assert found[0] is None
    assert found[1] is not None


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ({"completion_probabilities": 3}, "does not answer as llama.cpp does"),
        (b'{"x":' + b"[" * 200_000, "does not answer as llama.cpp does"),
        ({"text": "hello"}, "does not tell the probabilities"),
        (
            {"completion_probabilities": [{"id": 9, "logprob": -1.0, "top_logprobs": [{"id": 9, "logprob": -1.0}]}]},
            "does not tell the probabilities",
        ),
    ],
)
def test_another_server_is_named(reply: dict[str, object] | bytes, says: str) -> None:
    def answer(_number: int, _asked: Asked) -> Canned:
        return Canned(reply)

    with ChatServer(answer) as server:
        scorer = LlamaCppScorer(server.base_url.removesuffix("/v1"), "key", slots=1, limit=50, whole=9)
        with pytest.raises(BitnetError, match=says):
            scorer.score_ids([([1], [2])], lambda _done: None)


@pytest.mark.parametrize("status", [400, 500])
def test_a_text_that_the_server_fails_on_has_no_score(status: int) -> None:
    token = {"id": 2, "logprob": -1.0, "top_logprobs": [{"id": 3, "logprob": -0.5}]}

    def answer(_number: int, asked: Asked) -> Canned:
        fails = asked.body["prompt"] == [7]
        return (
            Canned({"error": {"message": "no"}}, status) if fails else Canned({"completion_probabilities": [token]})
        )

    with ChatServer(answer) as server:
        scorer = LlamaCppScorer(server.base_url.removesuffix("/v1"), "key", slots=1, limit=50, whole=9)
        found = scorer.score_ids([([1], [2]), ([7], [2]), ([5], [2])], lambda _done: None)
    assert found == [(-1.0, False), None, (-1.0, False)]


def test_what_the_progress_raises_stops_it() -> None:
    def answer(_number: int, _asked: Asked) -> Canned:
        return Canned(
            {"completion_probabilities": [{"id": 2, "logprob": -1.0, "top_logprobs": [{"id": 3, "logprob": -0.5}]}]}
        )

    def stop(_done: int) -> None:
        raise Stopped("stopped")

    with ChatServer(answer) as server:
        scorer = LlamaCppScorer(server.base_url.removesuffix("/v1"), "key", slots=2, limit=50, whole=9)
        with pytest.raises(Stopped):
            scorer.score_ids([([1], [2])] * 50, stop)
        assert len(server.asked) < 10


@pytest.mark.teacher
def test_it_writes_up_to_the_end_token_or_the_most_tokens(
    teacher_server: EmbeddedServer, teacher_tokenizer: StudentTokenizer
) -> None:
    questions = ("What is the capital of France? Answer with one word.", "What is 1 + 1?", "Hi")
    prompts = [teacher_tokenizer.encode_prompt([{"role": "user", "content": one}]).ids for one in questions]
    writer = LlamaCppWriter(address(teacher_server), teacher_server.api_key, slots=2)
    found: dict[int, list[int]] = {}
    writer.write(prompts, [24, 3, 1], found.__setitem__)
    assert [len(found[place]) for place in (1, 2)] == [3, 1]
    assert teacher_tokenizer.decode(found[0]).endswith("Paris.")
    assert found[0].index(teacher_tokenizer.eos_id) == len(found[0]) - 1 < 23
    with pytest.raises(BitnetError, match=r"refuses prompt 1 with status 400; shorten it\.$"):
        writer.write([prompts[0], [5] * 1500], [2, 2], lambda *_: None)


def test_a_writer_says_that_another_program_answers() -> None:
    def answer(_number: int, _asked: Asked) -> Canned:
        return Canned({"answer": 42})

    with ChatServer(answer) as server:
        writer = LlamaCppWriter(server.base_url.removesuffix("/v1"), "key", slots=1)
        with pytest.raises(BitnetError, match=r"does not answer as llama\.cpp does"):
            writer.write([[1]], [1], lambda *_: None)
