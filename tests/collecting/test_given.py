"""Texts that the teacher scores: the same traces as if it had written them, kept and resumed like answers."""

import asyncio
import itertools
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitnet_core.errors import UsageError
from bitnet_core.prompts.prompt import Given
from bitnet_core.runs.context import StageContext
from bitnet_core.stages import collect
from bitnet_core.teachers.answers.body import read_chat_completion
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.hf import model as hf_model
from bitnet_core.teachers.hf import scoring
from bitnet_core.teachers.hf.chat import TransformersChat
from bitnet_core.teachers.hf.scoring import GivenText, given_choices
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.wire.prompt_logprobs import scored_body
from bitnet_core.tokenizer.steps import TokenTable
from bitnet_core.traces.dataset import load_traces
from tests.builders import emitted, stage_context
from tests.collecting.stage_runs import parquet_files
from tests.teachers.fake_teacher import FakeTeacher
from tests.teachers.server import Asked, Canned, ChatServer, chat_body
from tests.teachers.small_llama import CPU, K, model_folder, options_for
from tests.traces.samples import small_tokenizer

TEXTS = [
    ("Tell me about rain.", "The rain in Spain stays mainly in the plain."),
    ("Tell me about rain.", 'It is {"name": "Alice", "age": 30}, café 東京 🌧.'),
    ("Why?", "the there then these them"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("given"), small_tokenizer())


def context(root: Path, folder: Path, file: Path, **values: str) -> StageContext:
    asked = {"KD_TEXT_FILE": str(file), "TEACHER_PROVIDER": "hf", "TEACHER_MODEL": str(folder), "FORCE_CPU": "1"}
    small = {"TOKENIZER_NAME": str(folder), "TEACHER_TOP_LOGPROBS": "5", "KD_MAX_TOKENS_PER_PROMPT": "200"}
    return stage_context(root / "e", "collect", asked | small | values)


def written(path: Path, texts: list[tuple[str, str]]) -> Path:
    path.write_text("\n".join(json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in texts))
    return path


def test_a_given_answer_gets_what_the_teacher_says_when_it_writes_it(folder: Path) -> None:
    """The columns of an answer that it wrote, and of the same ids scored."""
    loaded = hf_model.load(str(folder), options_for(folder), CPU, None)

    async def both() -> None:
        async with TransformersChat(PROVIDERS["hf"], "tiny", loaded, parallel=2) as chat:
            for seed, most in ((1, 30), (2, 7)):
                asked = ChatRequest([{"role": "user", "content": "Rain?"}], most, 1.0, 1.0, K, seed)
                own = await chat.chat(asked)
                assert own.steps is not None
                ids = [own.steps.table.ids[number] for number in own.steps.sampled_N.tolist()]
                chat._ids = lambda _given, _most, ids=ids: ids  # type: ignore[method-assign, misc]
                scored = await chat.chat(replace(asked, given=Given(own.text, ends=True)))
                assert scored.steps is not None
                assert (scored.text, scored.finish_reason) == (own.text, own.finish_reason)
                np.testing.assert_array_equal(scored.steps.sampled_N, own.steps.sampled_N)
                np.testing.assert_allclose(scored.steps.logprobs_N, own.steps.logprobs_N, atol=1e-4)
                np.testing.assert_array_equal(scored.steps.tops_NK, own.steps.tops_NK)
                np.testing.assert_allclose(scored.steps.top_logprobs_NK, own.steps.top_logprobs_NK, atol=1e-4)
                again = read_chat_completion(scored.body, TokenTable())
                assert again.text == scored.text and len(again.steps or ()) == len(ids)

    asyncio.run(both())


def test_texts_of_several_lengths_are_scored_together_as_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = hf_model.load(str(folder), options_for(folder), CPU, None)
    rng = random.Random(4)

    def ids(count: int) -> list[int]:
        return [rng.randrange(300) for _ in range(count)]

    texts = [GivenText(ids(prompt), ids(answer), K) for prompt, answer in ((3, 90), (20, 1), (9, 5), (1, 12))]
    together = given_choices(loaded, texts)
    monkeypatch.setattr(scoring, "_MOST_LOGITS", 1)
    alone = given_choices(loaded, texts)
    assert [len(one) for one in together] == [90, 1, 5, 12]
    for one, other in zip(itertools.chain(*together), itertools.chain(*alone), strict=True):
        assert (one.token, one.top_ids) == (other.token, other.top_ids)
        np.testing.assert_allclose([one.logprob, *one.top_logprobs], [other.logprob, *other.top_logprobs], atol=1e-3)


def test_texts_become_traces_and_are_scored_once(tmp_path: Path, folder: Path) -> None:
    file = written(tmp_path / "texts.jsonl", TEXTS[:2])
    ctx = context(tmp_path, folder, file)
    summary = collect.run(ctx)
    assert summary["sequences"] == 2 and summary["coverage"] == 1.0 and summary["rejected"] == {}
    assert any("scores 2 texts" in event["message"] for event in emitted(ctx, "log"))
    made = parquet_files(tmp_path / "e")
    plainly = context(tmp_path, folder, file, KD_HELDOUT_SAMPLING="plain")  # nothing is sampled
    assert collect.run(plainly)["answers_this_run"] == 0
    assert parquet_files(tmp_path / "e") == made

    written(file, TEXTS)
    assert collect.run(context(tmp_path, folder, file, SEED="5"))["answers_this_run"] == 1
    traces = load_traces(tmp_path / "e" / "data", 5)
    assert [one.completion_text for one in traces.sequences] == [answer for _, answer in TEXTS]
    assert all(one.finish_reason == "stop" and one.kd_valid_C.all() for one in traces.sequences)
    sums_C = [np.exp(one.topk_logprobs_CK).sum(1) + np.exp(one.other_logprob_C) for one in traces.sequences]
    np.testing.assert_allclose(np.concatenate(sums_C), 1, atol=1e-3)
    assert not (tmp_path / "e" / "data.superseded").exists()


def test_a_long_text_is_cut_and_plain_text_has_no_end(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("The rain in Spain\nthe there then these them thesis rain rains raining explain\n")
    collect.run(context(tmp_path, folder, file, KD_MAX_TOKENS_PER_PROMPT="6"))
    first, second = load_traces(tmp_path / "e" / "data", 5).sequences
    eos_id = small_tokenizer().eos_id
    assert first.completion_text == "The rain in Spain" and len(second.completion_ids_C) == 6
    assert "the there then".startswith(second.completion_text[:9])
    assert all(one.finish_reason == "length" and eos_id not in one.completion_ids_C for one in (first, second))


class Vllm(FakeTeacher):
    """Tells the logprobs of a prompt as vLLM does, and writes answers as ever."""

    def __call__(self, number: int, asked: Asked) -> Canned:
        if "prompt_logprobs" not in asked.body:
            return super().__call__(number, asked)
        assert (asked.body["max_tokens"], asked.body["add_generation_prompt"]) == (1, False)
        tokenizer, draw = small_tokenizer(), random.Random(3)
        *_, (asked_for, answer) = [("", ""), *((m["role"], m["content"]) for m in asked.body["messages"])]
        assert asked_for == "assistant"
        prompt = tokenizer.encode_prompt(asked.body["messages"][:-1]).ids
        ids = [*prompt, *tokenizer.encode_plain(answer), tokenizer.eos_id, *tokenizer.encode_plain("\n")]
        told: list[Any] = [None]
        for index in ids[1:]:
            others = [other for other in draw.sample(range(300), 5) if other != index]
            entry = {str(index): {"logprob": math.log(0.3), "rank": 2, "decoded_token": tokenizer.decode([index])}}
            if index == tokenizer.eos_id:
                entry[str(index)]["decoded_token"] = "<|im_end|>"
            for place, other in enumerate(others):
                logprob = math.log(0.4 * 0.4**place)
                entry[str(other)] = {"logprob": logprob, "rank": 1, "decoded_token": tokenizer.decode([other])}
            told.append(entry)
        usage = {"prompt_tokens": len(ids), "completion_tokens": 1}
        return Canned(chat_body("x", None, usage=usage) | {"prompt_logprobs": told})


def test_a_vllm_server_scores_texts_by_its_logprobs_of_a_prompt(tmp_path: Path, folder: Path) -> None:
    file = written(tmp_path / "texts.jsonl", [TEXTS[0], TEXTS[2]])
    with ChatServer(Vllm(small_tokenizer())) as server:
        values = {"TEACHER_PROVIDER": "vllm", "TEACHER_MODEL": "m", "TEACHER_BASE_URL": server.base_url}
        summary = collect.run(context(tmp_path, folder, file, **values))
        asked = len(server.asked)
        assert collect.run(context(tmp_path, folder, file, **values))["answers_this_run"] == 0
        assert len(server.asked) == asked
    assert summary["sequences"] == 2 and summary["rejected"] == {}
    for one, (_, answer) in zip(load_traces(tmp_path / "e" / "data", 6).sequences, (TEXTS[0], TEXTS[2]), strict=True):
        assert (one.completion_text, one.finish_reason) == (answer, "stop")
        own_C = np.where(one.topk_ids_CK == one.completion_ids_C[:, None], one.topk_logprobs_CK, -np.inf).max(1)
        np.testing.assert_allclose(own_C, math.log(0.3), atol=0.01)


def test_where_a_text_is_in_a_prompt_and_what_is_unusable() -> None:
    def told(*tokens: str) -> bytes:
        entries = [{str(9 + n): {"logprob": -1.0, "decoded_token": token}} for n, token in enumerate(tokens)]
        return json.dumps({"prompt_logprobs": [None, *entries], "usage": {"prompt_tokens": len(tokens)}}).encode()

    def found(body: bytes, text: str, most: int = 9, *, ends: bool = True) -> tuple[str, str, int]:
        (choice,) = json.loads(scored_body(body, Given(text, ends=ends), most))["choices"]
        return choice["message"]["content"], choice["finish_reason"], len(choice["logprobs"]["content"])

    whole = told("<s>", "a", " b", " a", " b", "</s>", "\n")
    assert found(whole, " a b") == (" a b", "stop", 3)
    assert found(whole, " a b", ends=False) == (" a b", "length", 2)
    assert found(whole, " a b", 1) == (" a", "length", 1)
    assert found(whole, " a b", 2) == (" a b", "length", 2)
    assert found(told("<s>", "a", " b"), " a b ") == ("a b", "length", 2)
    for body, text, reason in (
        (whole, "other", "text_differs"),
        (told("<s>", "a b", *"123456"), "a b", "text_differs"),
        (b'{"prompt_logprobs": null}', "a", "no_logprobs"),
        (b'{"prompt_logprobs": [null, {"x": {"decoded_token": "a"}}]}', "a", "malformed"),
        (b"<html>", "a", "not_json"),
    ):
        with pytest.raises(BadReply) as caught:
            found(body, text)
        assert caught.value.reason == reason


def test_a_teacher_that_cannot_score_is_refused(tmp_path: Path, folder: Path) -> None:
    file = written(tmp_path / "texts.jsonl", TEXTS)
    ctx = context(tmp_path, folder, file, TEACHER_PROVIDER="openai", TEACHER_MODEL="gpt-4o")
    with pytest.raises(
        UsageError, match=r"openai gives logprobs only of what it writes .* embedded, hf, vllm, or leave"
    ):
        collect.run(ctx)
