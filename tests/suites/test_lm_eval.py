"""lm-evaluation-harness, given our adapter, gets the numbers that we get on the same items."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.scorers import student_scorer, student_writer
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.suites.likelihood import score_task
from bitnet_core.suites.lm_eval import lm_eval_model
from bitnet_core.suites.requests_file import Item, Task
from tests.traces.samples import small_tokenizer
from tests.training.conftest import _one_thread

__all__ = ["_one_thread"]

WORDS = ("rain", "Spain", "plain", "JSON", "the there", "stays mainly", "naïve café", "東京", "1 22 333")


@pytest.fixture
def student() -> Student:
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = StudentConfig(
        vocab_size=small_tokenizer().vocab_size, num_key_value_heads=2, max_position_embeddings=64, **shape
    )
    return Student(config).eval()


def items() -> list[Item]:
    rng = np.random.default_rng(1)
    found = []
    for number in range(30):
        context = f"Question: {' '.join(rng.choice(WORDS, 3))}?\nAnswer:"
        choices = [" " + " ".join(rng.choice(WORDS, size)) for size in (1, 2, 4)]
        found.append(Item(str(number), tuple((context, choice) for choice in choices), int(rng.integers(3))))
    return found


def test_without_the_package_its_extra_is_named(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval.api.model", None)
    with (
        student_scorer(student, small_tokenizer()) as scorer,
        pytest.raises(BitnetError, match=r"bitnet-tui\[lm-eval\]"),
    ):
        lm_eval_model(scorer, student_writer(student, small_tokenizer()))


def test_the_harness_gets_the_same_numbers(student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (extra lm-eval)")
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    own = items()
    data = tmp_path / "items.jsonl"
    records = [
        {"context": one.choices[0][0], "choices": [after[1:] for _, after in one.choices], "gold": one.gold}
        for one in own
    ]
    data.write_text("".join(json.dumps(one) + "\n" for one in records))
    task: dict[str, Any] = {
        "task": "own_items",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    text = "The rain in Spain stays mainly in the plain. " * 9
    with student_scorer(student, small_tokenizer()) as scorer:
        model = lm_eval_model(scorer, student_writer(student, small_tokenizer()))
        theirs = lm_eval.simple_evaluate(model=model, tasks=[task], bootstrap_iters=0)["results"]["own_items"]
        ours = score_task(Task("arc_easy", "choice", own), scorer, 0)
        from lm_eval.api.instance import Instance

        rolling = Instance("loglikelihood_rolling", {}, (text,), 0)
        asked = Instance("generate_until", {}, ("The rain", {"until": ["\n"], "max_gen_toks": 5}), 0)
        whole = scorer.score_whole(text)
        assert whole is not None
        assert model.loglikelihood_rolling([rolling]) == [whole.logprob]
        assert model.generate_until([asked]) == [student_writer(student, small_tokenizer())("The rain", 5, ["\n"])]
    assert theirs["acc,none"] == pytest.approx(ours.figures["accuracy"].value)
    assert theirs["acc_norm,none"] == pytest.approx(ours.figures["accuracy_normalised"].value)
    assert ours.figures["accuracy"].value != ours.figures["accuracy_normalised"].value
