"""Texts that the teacher scores: the same traces as if it had written them, kept and resumed like answers."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bitnet_core.errors import UsageError
from bitnet_core.prompts.prompt import Given
from bitnet_core.runs.context import StageContext
from bitnet_core.stages import collect
from bitnet_core.teachers.answers.body import read_chat_completion
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.hf import model as hf_model
from bitnet_core.teachers.hf.chat import TransformersChat
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.tokenizer.steps import TokenTable
from bitnet_core.traces.dataset import load_traces
from tests.builders import stage_context
from tests.collecting.stage_runs import events, parquet_files
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


def test_texts_become_traces_and_are_scored_once(tmp_path: Path, folder: Path) -> None:
    file = written(tmp_path / "texts.jsonl", TEXTS[:2])
    ctx = context(tmp_path, folder, file)
    summary = collect.run(ctx)
    assert summary["sequences"] == 2 and summary["coverage"] == 1.0 and summary["rejected"] == {}
    assert any("scores 2 texts" in event["message"] for event in events(ctx, "log"))
    made = parquet_files(tmp_path / "e")
    assert collect.run(context(tmp_path, folder, file))["answers_this_run"] == 0
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


def test_a_teacher_that_cannot_score_is_refused(tmp_path: Path, folder: Path) -> None:
    file = written(tmp_path / "texts.jsonl", TEXTS)
    ctx = context(tmp_path, folder, file, TEACHER_PROVIDER="openai", TEACHER_MODEL="gpt-4o")
    with pytest.raises(UsageError, match=r"openai gives logprobs only of what it writes .* embedded, hf, or leave"):
        collect.run(ctx)
