"""A transformers model in this process, against a twin without batch, cache or cleverness: one full pass a token."""

import asyncio
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bitnet_core.errors import BitnetError
from bitnet_core.model.precision import pick_device
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.values import DeviceOptions, Sampling, TeacherOptions
from bitnet_core.teachers.answers.body import read_chat_completion
from bitnet_core.teachers.answers.errors import BadReply
from bitnet_core.teachers.chat import ChatRequest, ChatResult, ContextExceeded
from bitnet_core.teachers.hf.chat import TransformersChat
from bitnet_core.teachers.hf.decoding import Batch
from bitnet_core.teachers.hf.files import locate, origin
from bitnet_core.teachers.hf.model import LoadedModel, OutOfMemory, load
from bitnet_core.teachers.identity import identify
from bitnet_core.teachers.opening import open_teacher
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.tokenizer.steps import TokenTable
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import stage_context

pytestmark = pytest.mark.teacher

K = 7
CPU = torch.device("cpu")
PADDED = 64
"""Logits beyond the tokenizer's vocabulary, as real models have."""
SAYS = ("Hi.", "Tell me a story about a bridge, please, in a few words.", "Что? 東京", "1, 2, 3, " * 9, "Why")


def model_folder(folder: Path, tokenizer: StudentTokenizer, *, seed: int = 0, **options: Any) -> Path:
    """A small Llama with random weights, peaked enough that a nucleus matters."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.vocab_size + PADDED,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        **{"bos_token_id": 1, "eos_token_id": 2, **options},
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(12)
        model.lm_head.weight.mul_(3)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder


def settings(folder: Path | str, **values: str) -> TeacherOptions:
    chosen = {"TEACHER_PROVIDER": "hf", "TEACHER_MODEL": str(folder), "FORCE_CPU": "1", **values}
    return TeacherOptions.of(from_values(chosen))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, teacher_tokenizer: StudentTokenizer) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"), teacher_tokenizer)


@pytest.fixture
def loaded(folder: Path) -> LoadedModel:
    return load(str(folder), settings(folder), CPU, None)


@pytest.fixture(scope="module")
def small() -> Any:
    """For the batch alone: nobody spells its tokens."""
    torch.manual_seed(1)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=3000, **shape)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(12 if parameter.dim() == 2 else 1)
    return model


def chat_with(loaded: LoadedModel, parallel: int = 3) -> TransformersChat:
    return TransformersChat(PROVIDERS["hf"], "tiny", loaded, parallel=parallel)


def ask(says: str, seed: int = 0, temperature: float = 0.0, top_p: float = 1.0, most: int = 12) -> ChatRequest:
    return ChatRequest([{"role": "user", "content": says}], most, temperature, top_p, K, seed)


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
    """Five requests of several lengths through three places: rows join late and leave early."""
    requests = [ask(says, seed, temperature, top_p, most=4 + 3 * seed) for seed, says in enumerate(SAYS)]
    for request, result in zip(requests, await all_of(loaded, requests), strict=True):
        check(loaded, request, result)


async def test_rows_of_one_batch_may_be_sampled_differently(loaded: LoadedModel) -> None:
    kinds = [(0.0, 1.0), (1.0, 1.0), (0.8, 0.5), (0.0, 0.3)]
    requests = [ask(SAYS[n], n, temperature, top_p) for n, (temperature, top_p) in enumerate(kinds)]
    for request, result in zip(requests, await all_of(loaded, requests, parallel=4), strict=True):
        check(loaded, request, result)


async def test_an_answer_depends_on_its_seed_and_not_on_its_neighbours(loaded: LoadedModel) -> None:
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
    ending = load(str(folder), settings(folder), CPU, None)
    request = ask("Hi.")
    [result] = await all_of(ending, [request])
    check(ending, request, result)
    assert result.finish_reason == "stop"
    assert result.steps is not None
    last = result.steps.step(len(result.steps) - 1)
    assert (last.token_id, last.data) == (end, b"")
    assert result.completion_tokens == tokens.index(end) + 1


async def test_the_body_is_read_like_any_other(loaded: LoadedModel) -> None:
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


async def test_text_is_streamed_and_logprobs_may_be_left_out(loaded: LoadedModel) -> None:
    pieces: list[str] = []
    request = ChatRequest(ask(SAYS[2]).messages, 12, 0.0, 1.0)
    async with chat_with(loaded) as chat:
        result = await chat.chat(request, on_text=pieces.append)
        assert await chat.models() == ["tiny"]
    assert "".join(pieces) == result.text
    assert len(pieces) > 3
    assert result.steps is None
    assert result.completion_tokens == 12


async def test_giving_up_frees_the_place_within_a_token(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    forward = Batch.forward

    def counted(self: Batch) -> None:
        rounds.append(len(self))
        forward(self)

    monkeypatch.setattr(Batch, "forward", counted)
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


async def test_closing_tells_those_who_wait(loaded: LoadedModel) -> None:
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
    assert load(str(folder), settings(folder, TEACHER_CTX_LEN="128"), CPU, None).context == 128


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: not enough memory")]
)
async def test_short_memory_is_one_sentence_and_the_next_request_works(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    async with chat_with(loaded) as chat:
        with monkeypatch.context() as patch:
            patch.setattr(loaded.model, "forward", full)
            both = await asyncio.gather(chat.chat(ask("Hi.")), chat.chat(ask("Why")), return_exceptions=True)
        for told in both:
            assert isinstance(told, OutOfMemory)
            assert "KD_CONCURRENCY" in str(told)
        assert (await chat.chat(ask("Hi."))).completion_tokens == 12


async def test_what_a_listener_raises_reaches_the_caller(loaded: LoadedModel) -> None:
    def raising(_text: str) -> None:
        raise ValueError("mine")

    async with chat_with(loaded) as chat:
        with pytest.raises(ValueError, match="mine"):
            await chat.chat(ask("Hi.", most=200), on_text=raising)


def test_numbers_that_are_none_reject_the_answer(loaded: LoadedModel) -> None:
    with torch.no_grad():
        loaded.model.lm_head.weight.fill_(math.nan)
    with pytest.raises(BadReply) as caught:  # its first token is none that a text may end with
        asyncio.run(all_of(loaded, [ask("Hi.", 0, 1.0, 0.9, most=3)]))
    assert json.loads(caught.value.body)["choices"][0]["logprobs"]["content"][0]["logprob"] is None


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.8), (1.4, 0.9999), (1.0, 0.05)])
@pytest.mark.parametrize("known", [40, 3000])
@torch.inference_mode()
def test_draws_are_distributed_as_they_should(small: Any, temperature: float, top_p: float, known: int) -> None:
    """Many rows, the same distribution, other seeds; the twin's is summed up by hand."""
    batch = Batch(small, known)
    for seed in range(40):
        batch.join([1, 2, 3], Sampling(max_tokens=1, temperature=temperature, top_p=top_p), 1, seed)
    drawn = Counter(choice.token for _ in range(50) for choice in batch.choose())
    logits = small(input_ids=torch.tensor([[1, 2, 3]])).logits[0, -1, :known].double()
    weights = sorted(((w, n) for n, w in enumerate((logits / temperature).softmax(-1).tolist())), reverse=True)
    nucleus: dict[int, float] = {}
    for weight, index in weights:
        if math.fsum(nucleus.values()) >= top_p:
            break
        nucleus[index] = weight
    mass = math.fsum(nucleus.values())
    assert set(drawn) <= set(nucleus)
    halves = [list(nucleus)[0::2], list(nucleus)[1::2], list(nucleus)[: max(1, len(nucleus) // 10)]]
    for half in halves:
        share = math.fsum(nucleus[index] for index in half) / mass
        assert sum(drawn[index] for index in half) / 2000 == pytest.approx(share, abs=5 * math.sqrt(0.25 / 2000))


# -- loading -----------------------------------------------------------------------------------------


async def test_it_opens_like_every_teacher(folder: Path) -> None:
    ctx = stage_context(
        Path.cwd() / "e", "collect", {"TEACHER_PROVIDER": "hf", "HF_MODEL": str(folder), "DEVICE_TYPE": "cpu"}
    )
    async with open_teacher(ctx, TeacherOptions.of(ctx.settings), device=lambda: CPU, parallel=2) as teacher:
        result = await teacher.chat(ask("Hi."))
        assert teacher.memory_bytes() or 0 >= 0
        assert (teacher.name, teacher.model, teacher.pace) == ("hf", str(folder), None)
    assert result.completion_tokens == 12


def test_a_changed_model_is_another_teacher(tmp_path: Path, teacher_tokenizer: StudentTokenizer) -> None:
    folder = model_folder(tmp_path / "m", teacher_tokenizer)
    first = identify(settings(folder)).origin
    assert identify(settings(folder)).origin == first
    model_folder(folder, teacher_tokenizer, seed=1)
    second = identify(settings(folder)).origin
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace("clean_up", "clean__up"))
    third = identify(settings(folder)).origin
    assert len({first, second, third}) == 3
    same = model_folder(tmp_path / "elsewhere", teacher_tokenizer)
    assert origin(str(same)) == first


def test_what_is_no_model_is_said_in_a_sentence(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(model: Path | str, device: str = "cpu") -> str:
        with pytest.raises(BitnetError) as caught:
            load(str(model), settings(model), pick_device(DeviceOptions(device=device)), None)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "holds no model (no config.json)" in told(tmp_path)
    assert "is no model: give a folder" in told(tmp_path / "none")
    assert "is no model: give a folder" in told("a/b/c")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert "no tokenizer.json beside" in told(tmp_path / "m.gguf")
    folder = model_folder(tmp_path / "bare", teacher_tokenizer)
    assert "finds no such device" in told(folder, "rocm")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "transformers can't load" in told(folder)
    weights.unlink()
    assert "transformers can't load" in told(folder)
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    assert "has no chat template" in told(folder)
    with pytest.raises(BitnetError, match="No model is set for hf; set TEACHER_MODEL"):
        identify(settings(""))


def test_a_hub_that_can_not_be_reached_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    def failing(kind: type[Exception]) -> None:
        def download(*_: object, **__: object) -> None:
            raise kind.__new__(kind)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)

    for kind, said in (
        (errors.GatedRepoError, "accept its terms"),
        (errors.RepositoryNotFoundError, "has no model someone/model"),
        (errors.LocalEntryNotFoundError, "network, or give a folder"),
        (OSError, "network, or give a folder"),
    ):
        failing(kind)
        with pytest.raises(BitnetError, match=said):
            locate("someone/model", "hf_secret")


def test_every_row_of_prompts_joins_whatever_the_lengths(small: Any) -> None:
    """Orders in which three rows can come and go, against each row on its own."""

    @torch.inference_mode()
    def decoded(rows: list[tuple[int, int, int]]) -> dict[int, list[int]]:
        """(row, joins before round, stays for rounds)"""
        batch, places, said = Batch(small, 3000), list[int](), {row: list[int]() for row, _, _ in rows}
        lengths = {row: stay for row, _, stay in rows}
        for turn in itertools.count():
            for row, joins, _ in rows:
                if joins == turn:
                    batch.join(list(range(3, 8 + 7 * row)), Sampling(max_tokens=1), 1, 0)
                    places.append(row)
            if not places:
                if turn > 6:
                    return said
                continue
            for row, choice in zip(places, batch.choose(), strict=True):
                said[row].append(choice.token)
            going = [place for place, row in enumerate(places) if len(said[row]) < lengths[row]]
            batch.keep(going)
            places = [places[place] for place in going]
            batch.forward()
        raise AssertionError

    alone = {row: decoded([(row, 0, 9)])[row] for row in range(3)}
    stays = itertools.cycle([(2, 5, 9), (9, 2, 5), (5, 9, 2), (4, 4, 4)])
    for joins in ((0, 0, 0), (0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 2), (2, 0, 0), (0, 3, 6), (6, 0, 3), (1, 1, 0)):
        rows = [(row, join, stay) for row, (join, stay) in enumerate(zip(joins, next(stays), strict=True))]
        assert decoded(rows) == {row: alone[row][:stay] for row, _, stay in rows}
