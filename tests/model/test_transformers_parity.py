"""The student is transformers' BitNetForCausalLM: same names, same logits, with and without quantisation."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from transformers import BitNetConfig, BitNetForCausalLM

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.presets import preset
from bitnet_core.model.student import Student


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    # Their quantisers are decorated with torch.compile, which would want a C++ compiler.
    with torch.compiler.set_stance("force_eager"):
        yield


def with_uneven_norms(student: Student) -> Student:
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)  # ones would hide a norm in the wrong place
    return student


@pytest.fixture
def student(config: StudentConfig) -> Student:
    return with_uneven_norms(Student(config).eval())


def original(student: Student) -> BitNetForCausalLM:
    theirs = BitNetForCausalLM(BitNetConfig(**student.config.to_dict())).eval()
    missing, unexpected = theirs.load_state_dict(student.state_dict(), strict=False)
    assert missing == ["lm_head.weight"]  # tied, so not stored
    assert not unexpected
    theirs.tie_weights()
    return theirs


def with_online_quantisation(theirs: BitNetForCausalLM) -> BitNetForCausalLM:
    """`quantization_mode: online`, module by module (their loader does the same, and wants accelerate for it)."""
    from transformers.integrations.bitnet import AutoBitLinear  # a second, for torch.compile

    for name, module in list(theirs.named_modules()):
        if isinstance(module, nn.Linear) and name != "lm_head":
            linear = AutoBitLinear(module.in_features, module.out_features, bias=False, online_quant=True)
            linear.weight = module.weight
            theirs.set_submodule(name, linear)
    return theirs


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("profile", ["portable", "b158"])
@pytest.mark.parametrize("quantised", [False, True])
def test_logits_equal(config: StudentConfig, quantised: bool, profile: str, kv_heads: int) -> None:
    act = preset("nano", 320, max_positions=64, profile=profile).hidden_act
    config = dataclasses.replace(config, hidden_act=act, num_key_value_heads=kv_heads)
    student = with_uneven_norms(Student(config).eval())
    theirs = original(student)
    if quantised:
        theirs = with_online_quantisation(theirs)
    else:
        student.activation_bits = None
    ids = torch.randint(0, config.vocab_size, (3, 40))
    with torch.no_grad():
        ours = student.logits(student(ids))
        expected = theirs(ids).logits
    assert (ours - expected).abs().max() <= 1e-5
    assert expected.std() > 0.1


def test_gradients_equal_under_online_quantisation(student: Student) -> None:
    theirs = with_online_quantisation(original(student))
    ids = torch.randint(0, student.config.vocab_size, (2, 16))
    student.logits(student(ids)).square().mean().backward()
    theirs(ids).logits.square().mean().backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-3, atol=1e-5)
