"""The teacher of the settings scores given text, in transformers as in llama.cpp; others say that they can't."""

import math
import re
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.scorers import gguf_scorer, student_writer, teacher_scorer
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.values import TeacherOptions
from bitnet_core.teachers.embedded.files import EmbeddedFiles
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.teachers.small_llama import CPU, model_folder, options_for
from tests.traces.samples import small_tokenizer
from tests.training.conftest import _one_thread

__all__ = ["_one_thread"]

PAIRS = [("The rain in Spain", " stays mainly"), ("{", '"name": "Alice"}'), ("", "the there then")]


def test_a_transformers_teacher_scores_as_its_logits_say(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    folder = model_folder(tmp_path, tokenizer)
    model = LlamaForCausalLM.from_pretrained(str(folder)).eval()
    with teacher_scorer(Reporter(), options_for(folder), lambda: CPU) as scorer:
        found = scorer.score(PAIRS)
    for (context, continuation), score in zip(PAIRS, found, strict=True):
        before = tokenizer.encode(context) or [tokenizer.eos_id]
        after = tokenizer.encode(context + continuation)[len(tokenizer.encode(context)) :]
        with torch.no_grad():
            logits = model(torch.tensor([[*before, *after]])).logits[0].double()
        logprobs = torch.log_softmax(logits, -1)
        expected = sum(float(logprobs[len(before) - 1 + n, one]) for n, one in enumerate(after))
        assert score is not None
        assert score.logprob == pytest.approx(expected, abs=1e-3)


def test_a_provider_that_only_chats_is_refused_before_anything_is_sent() -> None:
    options = TeacherOptions.of(from_values({"TEACHER_PROVIDER": "openai", "TEACHER_MODEL": "gpt"}))
    with pytest.raises(BitnetError, match="openai gives no probabilities of a text that it did not write") as error:
        teacher_scorer(Reporter(), options, lambda: CPU).__enter__()
    advised = re.search(r"TEACHER_PROVIDER=(\w+) or (\w+)", str(error.value))
    assert advised is not None
    for name in advised.groups():  # each is one that the setting takes
        assert TeacherOptions.of(from_values({"TEACHER_PROVIDER": name})).provider == name


@pytest.mark.teacher
def test_a_gguf_is_served_and_scored(teacher_files: EmbeddedFiles, teacher_tokenizer: StudentTokenizer) -> None:
    with gguf_scorer(teacher_files.gguf, teacher_tokenizer, 64) as scorer:
        good, bad = scorer.score([("The capital of France is", " Paris"), ("The capital of France is", " Berlin")])
        assert scorer.score([("a " * 100, " b")])[0] is not None  # its beginning is left out
    assert good is not None and bad is not None
    assert good.is_greedy and good.logprob > bad.logprob + math.log(10)


def test_a_written_answer_ends_before_the_first_stop_string() -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = StudentConfig(
        vocab_size=small_tokenizer().vocab_size, num_key_value_heads=2, max_position_embeddings=64, **shape
    )
    write = student_writer(Student(config).eval(), small_tokenizer())
    whole = write("The rain", 8, [])
    later, first = whole[5:7], whole[2:4]
    assert write("The rain", 8, [later, first, ""]) == whole[: min(whole.find(later), whole.find(first))]
    assert write("The rain", 8, ["\0"]) == whole
