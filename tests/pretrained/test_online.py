"""Trainings that ask the model itself: a transformers folder or a GGUF's weights, and what is refused beforehand."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from bitnet_core.errors import BitnetError
from bitnet_core.pretrained import start
from bitnet_core.pretrained.gguf_source import open_gguf
from bitnet_core.pretrained.llama import as_llama
from bitnet_core.stages import train
from bitnet_core.teachers.hf import model
from bitnet_core.teachers.hf.states import HiddenStates
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import events_of
from tests.pretrained.test_start import _traces, context, newest, same_bits

__all__ = ["_traces"]
SMALL = {"MINI_DIM": "256", "MINI_LAYERS": "1"}


def online(folder: Path | str, **values: str) -> dict[str, str]:
    return SMALL | {"TRAIN_ONLINE": "1", "TEACHER_PROVIDER": "hf", "TEACHER_MODEL": str(folder)} | values


def test_a_training_online_stops_and_goes_on_to_the_bit(
    tmp_path: Path, llama: LlamaForCausalLM, tokenizer: StudentTokenizer
) -> None:
    folder = tmp_path / "teacher"
    llama.save_pretrained(folder)
    tokenizer.save(folder)
    asked = {"ON_POLICY_FRACTION": "0.5"}
    whole = context(tmp_path / "whole", tokenizer, **online(folder, **asked))
    summary = train.run(whole)
    assert summary["activation_bits"] == 4
    said = [event["message"] for event in events_of(whole.run_dir / "events.jsonl", "log")]
    assert any(message.startswith(f"{folder} teaches online, in float32 on cpu: ") for message in said)
    for steps in ("2", "6"):
        cut = context(tmp_path / "cut", tokenizer, **online(folder, TOTAL_STEPS=steps, **asked))
        assert train.run(cut)["heldout_kl"] > 0
    assert same_bits(newest(whole), newest(cut))


def test_the_weights_of_a_gguf_teach_as_the_model_does(
    tmp_path: Path, llama: LlamaForCausalLM, write_gguf: Callable[..., Path], tokenizer: StudentTokenizer
) -> None:
    found = as_llama(open_gguf(write_gguf(tmp_path / "m.gguf"), "m"), torch.float32)
    ids = torch.arange(40)[None] % tokenizer.vocab_size
    states = HiddenStates("m", found, tokenizer.vocab_size - 3)
    with torch.no_grad():
        wanted = llama(input_ids=ids).logits[..., : tokenizer.vocab_size - 3]
        torch.testing.assert_close(states(ids) @ states.head_VE.T, wanted, rtol=1e-4, atol=1e-4)


def _not_loaded(*_: object) -> None:
    pytest.fail("the weights were loaded")


def test_what_cannot_teach_online_is_said_before_its_weights_are_loaded(
    tmp_path: Path, folder: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "load", _not_loaded)

    def refused(match: str, **values: str) -> None:
        with pytest.raises(BitnetError, match=match) as caught:
            train.run(context(tmp_path / "e", tokenizer, **values))
        assert str(caught.value).endswith(".")

    away = {"TEACHER_PROVIDER": "openai", "TEACHER_MODEL": "gpt-4o"}
    refused(r"TRAIN_ONLINE asks .* gpt-4o is at openai; .*TRAIN_ONLINE=0", **SMALL, TRAIN_ONLINE="1", **away)
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    definition = json.loads((other / "tokenizer.json").read_text())
    vocabulary = definition["model"]["vocab"]
    vocabulary["Ġthe"], vocabulary["a"] = vocabulary["a"], vocabulary["Ġthe"]
    (other / "tokenizer.json").write_text(json.dumps(definition))
    refused(r"has another tokenizer than the traces: 2 of .*TRAIN_ONLINE=0", **online(other))
    monkeypatch.setattr(start, "available_bytes", lambda: 15_300_000)  # the student takes 15.2 MB
    refused(r"the teacher beside it .*, and 1.* MB is free on cpu; .*TRAIN_ONLINE=0", **online(folder))
    (other / "config.json").write_text("{}")
    (other / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    refused(r"transformers can't load .*; correct TEACHER_MODEL", **online(other))


def test_a_model_whose_logits_are_not_those_of_its_head_is_refused(llama: LlamaForCausalLM) -> None:
    class Capped(LlamaForCausalLM):
        def forward(self, *given: object, **options: object) -> object:
            found = super().forward(*given, **options)
            found.logits = 2 * torch.tanh(found.logits / 2)
            return found

    capped = Capped(llama.config).eval()
    capped.load_state_dict(llama.state_dict())
    with pytest.raises(
        BitnetError, match=r"capped can't teach while training \(its logits are not those of its head\)"
    ):
        HiddenStates("capped", capped, 100)
    with pytest.raises(BitnetError, match=r"it knows .* tokens, and the traces 9,999"):
        HiddenStates("small", llama, 9999)


def _fill(tensor: torch.Tensor, value: float) -> None:
    with torch.no_grad():
        tensor.fill_(value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("damaged", "where"),
    [
        (lambda model: model.lm_head.weight[5], "its output head"),
        (lambda model: model.model.norm.weight, "what it computes"),
        (lambda model: model.model.embed_tokens.weight[40:], "its output head"),  # which has the same weights
        (lambda model: model.model.layers[-1].mlp.down_proj.weight[0], "what it computes"),
    ],
)
def test_a_damaged_teacher_is_named_and_not_the_students_learning_rate(
    tmp_path: Path, llama: LlamaForCausalLM, tokenizer: StudentTokenizer, damaged: Any, where: str, value: float
) -> None:
    model = LlamaForCausalLM(llama.config).eval()
    _fill(damaged(model), value)
    model.save_pretrained(tmp_path / "teacher")
    tokenizer.save(tmp_path / "teacher")
    with pytest.raises(BitnetError, match=rf"teacher can't teach while training \(there are numbers in {where} "):
        train.run(context(tmp_path / "e", tokenizer, **online(tmp_path / "teacher")))


def test_a_teacher_that_reads_less_than_the_traces_is_refused_and_its_limit_can_be_kept(
    tmp_path: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = GPT2Config(vocab_size=tokenizer.vocab_size, n_positions=16, n_embd=32, n_layer=1, n_head=2)
    GPT2LMHeadModel(shape).save_pretrained(tmp_path / "teacher")
    tokenizer.save(tmp_path / "teacher")
    with monkeypatch.context() as patch, pytest.raises(BitnetError, match=r"reads at most 16 .*MAX_SEQ_LEN=16, or"):
        patch.setattr(model, "load", _not_loaded)
        train.run(context(tmp_path / "e", tokenizer, **online(tmp_path / "teacher")))
    kept = online(tmp_path / "teacher", MAX_SEQ_LEN="16")
    assert train.run(context(tmp_path / "e", tokenizer, **kept))["heldout_kl"] > 0
