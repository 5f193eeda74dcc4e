"""A transformers model in this process against a slow twin: one full pass a token, without batch or cache."""

import asyncio
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.body import read_chat_completion
from bitnet_core.teachers.answers.result import BadReply, ChatResult
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.hf import model as hf_model
from bitnet_core.teachers.hf.answer import AnswerWriter
from bitnet_core.teachers.hf.chat import TransformersChat
from bitnet_core.teachers.hf.decoding import Choice, RunningBatch
from bitnet_core.teachers.hf.model import LoadedModel, OutOfMemory, load
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import ContextExceeded, PromptRefused
from bitnet_core.tokenizer.steps import TokenTable
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.teachers.small_llama import CPU, K, ask, model_folder, options_for
from tests.traces.samples import with_template

pytestmark = pytest.mark.teacher

SAYS = ("Hi.", "Tell me a story about a bridge, please, in a few words.", "Что? 東京", "1, 2, 3, " * 9, "Why")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, teacher_tokenizer: StudentTokenizer) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"), teacher_tokenizer)


@pytest.fixture(autouse=True)
def tokenizer_read_once(teacher_tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of each folder here, which takes longer to read than the model."""
    monkeypatch.setattr(hf_model, "load_tokenizer", lambda *_, **__: teacher_tokenizer)


@pytest.fixture
def loaded(folder: Path) -> LoadedModel:
    return load(str(folder), options_for(folder), CPU, None)


def chat_with(loaded: LoadedModel, parallel: int = 3) -> TransformersChat:
    return TransformersChat(PROVIDERS["hf"], "tiny", loaded, parallel=parallel)


async def all_of(loaded: LoadedModel, requests: list[ChatRequest], parallel: int = 3) -> list[ChatResult]:
    async with chat_with(loaded, parallel) as chat:
        return list(await asyncio.gather(*(chat.chat(request) for request in requests)))


@torch.inference_mode()
def twin(loaded: LoadedModel, request: ChatRequest) -> Iterator[tuple[int, torch.Tensor]]:
    """Each token with the logprobs of the whole vocabulary, in float64."""
    tokenizer = loaded.tokenizer
    model = loaded.model.double()
    ids = tokenizer.encode(tokenizer.render_prompt(request.messages))
    generator = torch.Generator().manual_seed(request.seed or 0)
    for _ in range(request.max_tokens):
        logprobs = (
            model(input_ids=torch.tensor([ids]), use_cache=False, logits_to_keep=1).logits[0, -1].log_softmax(-1)
        )
        known = logprobs[: tokenizer.vocab_size]
        token = int(known.argmax())
        if request.temperature:
            waits = torch.empty(len(known)).exponential_(generator=generator).tolist()
            weights = (known / request.temperature).exp().tolist()
            total, held, best = math.fsum(weights), 0.0, 0.0
            for index in known.argsort(descending=True).tolist():
                if held >= request.top_p:
                    break
                held += weights[index] / total
                if weights[index] / waits[index] > best:
                    token, best = index, weights[index] / waits[index]
        yield token, logprobs
        ids.append(token)
        if token in loaded.ends:
            return


def check(loaded: LoadedModel, request: ChatRequest, result: ChatResult) -> None:
    assert result.steps is not None
    steps = [result.steps.step(row) for row in range(len(result.steps))]
    expected = list(twin(loaded, request))
    loaded.model.float()
    assert [step.token_id for step in steps] == [token for token, _ in expected]
    for step, (token, logprobs) in zip(steps, expected, strict=True):
        assert step.logprob == pytest.approx(float(logprobs[token]), abs=2e-4)
        highest = logprobs[: loaded.tokenizer.vocab_size].topk(K).values.tolist()
        assert list(step.top_logprobs) == pytest.approx(highest, abs=2e-4)
        assert list(step.top_logprobs) == pytest.approx(logprobs[list(step.top_ids)].tolist(), abs=2e-4)
        assert len(set(step.top_ids)) == K
        for index, data in zip(step.top_ids, step.top_bytes, strict=True):
            assert data == (b"" if index in loaded.ends else loaded.tokenizer.text_bytes(index))
    ended = steps[-1].token_id in loaded.ends
    assert result.finish_reason == ("stop" if ended else "length")
    assert result.completion_tokens == len(steps)
    assert result.text_matches_bytes
    assert b"".join(step.data for step in steps).decode(errors="replace") == result.text


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (1.0, 1.0), (0.8, 0.9), (1.6, 0.999), (0.7, 0.01)])
async def test_each_token_is_that_of_a_full_pass(loaded: LoadedModel, temperature: float, top_p: float) -> None:
    """Five requests of several lengths in three rows: rows join late and leave early."""
    requests = [ask(says, seed, temperature, top_p, most=3 + 2 * seed) for seed, says in enumerate(SAYS)]
    for request, result in zip(requests, await all_of(loaded, requests), strict=True):
        check(loaded, request, result)


async def test_rows_of_one_batch_may_be_sampled_differently(loaded: LoadedModel) -> None:
    kinds = [(0.0, 1.0), (1.0, 1.0), (0.8, 0.5), (0.0, 0.3)]
    requests = [ask(SAYS[n], n, temperature, top_p) for n, (temperature, top_p) in enumerate(kinds)]
    for request, result in zip(requests, await all_of(loaded, requests, parallel=4), strict=True):
        check(loaded, request, result)


async def test_an_answer_depends_on_its_seed_but_not_on_other_rows(loaded: LoadedModel) -> None:
    wanted = ask(SAYS[1], 5, 1.0, 0.95)
    neighbours = [ask(says, 9, 1.0) for says in SAYS]
    alone = (await all_of(loaded, [wanted]))[0].text
    crowded = (await all_of(loaded, [*neighbours, wanted, *neighbours], parallel=4))[len(SAYS)].text
    again = (await all_of(loaded, [wanted]))[0].text
    other = (await all_of(loaded, [ask(SAYS[1], 6, 1.0, 0.95)]))[0].text
    assert alone == crowded == again != other


async def test_an_answer_ends_with_the_end_token(
    tmp_path: Path, loaded: LoadedModel, teacher_tokenizer: StudentTokenizer
) -> None:
    tokens = [token for token, _ in twin(loaded, ask("Hi."))]
    end = next(token for place, token in enumerate(tokens) if place > 2 and token not in tokens[:place])
    folder = model_folder(tmp_path, teacher_tokenizer, eos_token_id=[2, end])
    ending = load(str(folder), options_for(folder), CPU, None)
    request = ask("Hi.")
    [result] = await all_of(ending, [request])
    check(ending, request, result)
    assert result.finish_reason == "stop"
    assert result.steps is not None
    last = result.steps.step(len(result.steps) - 1)
    assert (last.token_id, last.data) == (end, b"")
    assert result.completion_tokens == tokens.index(end) + 1


async def test_reading_the_body_gives_the_same_answer(loaded: LoadedModel) -> None:
    [result] = await all_of(loaded, [ask(SAYS[2], 1, 1.0)])
    again = read_chat_completion(result.body, TokenTable())
    assert (again.text, again.finish_reason, again.model) == (result.text, result.finish_reason, "tiny")
    assert (again.repairs, again.timings, again.text_matches_bytes) == (result.repairs, result.timings, True)
    assert (again.prompt_tokens, again.completion_tokens) == (result.prompt_tokens, result.completion_tokens)
    assert again.steps is not None
    assert result.steps is not None
    assert [again.steps.step(n) for n in range(12)] == [result.steps.step(n) for n in range(12)]
    assert again.prompt_tokens == len(loaded.tokenizer.encode(loaded.tokenizer.render_prompt(ask(SAYS[2]).messages)))
    assert again.timings["predicted_n"] == 12
    first = json.loads(result.body)["choices"][0]["logprobs"]["content"][0]
    assert set(first) == {"id", "token", "bytes", "logprob", "top_logprobs"}


async def test_text_is_streamed_and_logprobs_are_optional(loaded: LoadedModel) -> None:
    pieces: list[str] = []
    request = ChatRequest(ask(SAYS[2]).messages, 12, 0.0, 1.0)
    async with chat_with(loaded) as chat:
        result = await chat.chat(request, on_text=pieces.append)
        assert await chat.models() == ["tiny"]
    assert "".join(pieces) == result.text
    assert len(pieces) > 3
    assert result.steps is None
    assert result.completion_tokens == 12


async def test_cancelling_frees_the_row_within_a_token(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    forward = RunningBatch.forward

    def counted(self: RunningBatch) -> None:
        rounds.append(len(self))
        forward(self)

    monkeypatch.setattr(RunningBatch, "forward", counted)
    async with chat_with(loaded, parallel=1) as chat:
        begun = asyncio.Event()
        endless = asyncio.create_task(chat.chat(ask("Hi.", most=200), on_text=lambda _text: begun.set()))
        waiting = asyncio.create_task(chat.chat(ask("Why", most=200)))
        await begun.wait()
        endless.cancel()
        waiting.cancel()
        await asyncio.gather(endless, waiting, return_exceptions=True)
        after = len(rounds)
        result = await chat.chat(ask("Hi.", most=2))
    assert endless.cancelled()
    assert waiting.cancelled()
    assert result.completion_tokens == 2
    assert len(rounds) <= after + 2 + 2
    assert max(rounds) == 1


async def test_closing_ends_waiting_requests(loaded: LoadedModel) -> None:
    chat = chat_with(loaded, parallel=1)
    async with chat:
        asked = [asyncio.create_task(chat.chat(ask("Hi.", most=200))) for _ in range(2)]
        await asyncio.sleep(0.05)
    for one in asked:
        with pytest.raises(BitnetError, match="closed before"):
            await one


async def test_a_prompt_beyond_the_context_is_refused_and_a_long_answer_cut(
    folder: Path, loaded: LoadedModel
) -> None:
    assert loaded.context == 256
    async with chat_with(loaded) as chat:
        with pytest.raises(ContextExceeded, match=r"its context is 256.*TEACHER_CTX_LEN"):
            await chat.chat(ask("word " * 300))
        result = await chat.chat(ask("word " * 200, most=99))
    assert result.finish_reason == "length"
    assert result.prompt_tokens + result.completion_tokens == 256
    assert load(str(folder), options_for(folder, TEACHER_CTX_LEN="128"), CPU, None).context == 128


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: not enough memory")]
)
async def test_a_lack_of_memory_is_one_sentence_and_the_next_request_works(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    async with chat_with(loaded) as chat:
        with monkeypatch.context() as patch:
            patch.setattr(loaded.model, "forward", full)
            both = await asyncio.gather(chat.chat(ask("Hi.")), chat.chat(ask("Why")), return_exceptions=True)
        for outcome in both:
            assert isinstance(outcome, OutOfMemory)
            assert "KD_CONCURRENCY" in str(outcome)
        assert (await chat.chat(ask("Hi."))).completion_tokens == 12


async def test_an_exception_of_on_text_reaches_the_caller(loaded: LoadedModel) -> None:
    def raising(_text: str) -> None:
        raise ValueError("mine")

    async with chat_with(loaded) as chat:
        with pytest.raises(ValueError, match="mine"):
            await chat.chat(ask("Hi.", most=200), on_text=raising)


@pytest.mark.parametrize("draws", [False, True])
def test_nan_logits_reject_the_answer(loaded: LoadedModel, draws: bool) -> None:
    with torch.no_grad():
        loaded.model.lm_head.weight.fill_(math.nan)
    with pytest.raises(BadReply) as caught:
        asyncio.run(all_of(loaded, [replace(ask("Hi.", 0, 1.0, 0.9, most=3), draws=draws)]))
    assert caught.value.reason == "not_finite"
    assert json.loads(caught.value.body)["choices"][0]["logprobs"]["content"][0]["logprob"] is None


@pytest.mark.parametrize("logprobs", [False, True])
def test_an_answer_that_becomes_nan_on_its_way_is_no_answer(
    teacher_tokenizer: StudentTokenizer, logprobs: bool
) -> None:
    """Models then repeat their first token: `The river is!!!!`."""
    writer = AnswerWriter("tiny", teacher_tokenizer, frozenset({teacher_tokenizer.eos_id}), TokenTable())
    sound, (mark,) = teacher_tokenizer.encode_bytes(b"The river is"), teacher_tokenizer.encode_bytes(b"!")
    choices = [Choice(token, -0.1, [token], [-0.1]) for token in sound]
    writer.write(choices, "The river is", "length", logprobs=logprobs, prompt_tokens=3, timings={})
    choices += [Choice(mark, math.nan, [mark], [math.nan])] * 4
    with pytest.raises(BadReply, match="numbers that are not finite"):
        writer.write(choices, "The river is!!!!", "length", logprobs=logprobs, prompt_tokens=3, timings={})


def test_a_prompt_that_the_models_template_refuses_is_the_prompts_fault(loaded: LoadedModel) -> None:
    loaded.tokenizer = with_template(loaded.tokenizer, "{{ raise_exception('No system role') }}")
    with pytest.raises(PromptRefused, match=r"template of tiny can't take this prompt \(No system role\)"):
        asyncio.run(all_of(loaded, [ask("Hi")]))
