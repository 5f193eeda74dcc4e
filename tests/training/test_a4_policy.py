"""Which inputs the flip lowers: everywhere the policy says the same, and a checkpoint without one means all."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.model.cache import KVCache
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.integers import Codes
from bitnet_core.model.layers import BitLinear
from bitnet_core.model.packing import load_packed, pack_student, save_packed
from bitnet_core.model.student import Student
from bitnet_core.training import checkpoints
from bitnet_core.training.monitor import a4_health
from tests.builders import emitted
from tests.training.test_trainer import Make

FLIPS = {"TOTAL_STEPS": "6", "BUDGET_TOKENS": "500", "FLIP_FRACTION": "0.4"}


def student_of(policy: str, layers: int = 2) -> Student:
    torch.manual_seed(0)
    return Student(StudentConfig(64, 64, 128, layers, 4, 2, 64, a4_policy=policy)).eval()


def widths(student: Student) -> dict[str, int | None]:
    return {n.split(".", 3)[3]: m.activation_bits for n, m in student.named_modules() if isinstance(m, BitLinear)}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("policy", ["all", "hybrid"])
@torch.no_grad()
def test_inputs_have_as_many_levels_as_the_policy_says(policy: str, packed: bool) -> None:
    student = pack_student(student_of(policy)) if packed else student_of(policy)
    student.activation_bits = 4
    levels: dict[str, int] = {}
    for name, module in student.named_modules():
        if isinstance(module, BitLinear):
            inner = type(module).quantize_input

            def counted(x: Tensor, name: str = name, module: BitLinear = module, inner: object = inner) -> object:
                x_q = inner(module, x)  # type: ignore[operator]
                values = x_q.codes if isinstance(x_q, Codes) else x_q
                levels[name.rpartition(".")[2]] = max(len(row.unique()) for row in values.flatten(0, -2))
                return x_q

            module.__dict__["quantize_input"] = counted
    student(torch.randint(0, 64, (2, 12)))
    assert levels["q_proj"] <= 16
    assert levels["gate_proj"] <= 16
    wide = policy == "hybrid"
    assert (levels["o_proj"] > 16) == wide
    assert (levels["down_proj"] > 16) == wide


def test_eight_bits_and_full_precision_know_no_policy() -> None:
    for bits in (8, None):
        student = student_of("hybrid")
        student.activation_bits = bits
        assert set(widths(student).values()) == {bits}
        assert student.config.bits_words([bits, bits]) == f"{bits} bits"
    assert student.config.bits_words([4, 4]) == "4 bits (o and down 8)"
    assert student.config.bits_words([4, 8, 8]) == "4 bits (o and down 8) in 1 of 3 layers, 8 bits in the others"
    with pytest.raises(BitnetError, match="a4_policy is 'some'; it is one of all, hybrid"):
        student_of("some")


@torch.no_grad()
def test_the_policy_survives_packing_its_file_and_decoding_with_a_cache(tmp_path: Path) -> None:
    student = student_of("hybrid")
    student.activation_bits = 4
    save_packed(pack_student(student), tmp_path / "p.pt")
    again = load_packed(tmp_path / "p.pt")
    assert again.config.a4_policy == "hybrid"
    assert widths(again) == widths(student)
    ids = torch.randint(0, 64, (1, 10))
    cache = KVCache(again.config)
    steps = [again(ids[:, place : place + 1], cache=cache) for place in range(10)]
    torch.testing.assert_close(torch.cat(steps, dim=1), again(ids), rtol=1e-4, atol=1e-4)


def test_a_shape_says_its_policy_only_where_it_is_not_all() -> None:
    assert "a4_policy" not in student_of("all").config.to_dict()
    hybrid = student_of("hybrid").config
    assert StudentConfig.from_dict(hybrid.to_dict()) == hybrid
    old = {key: value for key, value in hybrid.to_dict().items() if key != "a4_policy"}
    assert StudentConfig.from_dict(old).a4_policy == "all"


def test_health_looks_only_at_what_the_flip_lowers() -> None:
    ids = torch.randint(0, 64, (2, 12))
    both = {policy: a4_health(student_of(policy), ids) for policy in ("all", "hybrid")}
    assert both["all"] != both["hybrid"]


def test_a_hybrid_training_resumes_to_the_bit_and_says_its_policy(make_trainer: Make) -> None:
    whole = make_trainer(FLIPS, name="whole", a4_policy="hybrid")
    summary = whole.run()
    assert summary["a4_policy"] == "hybrid"
    assert widths(whole.student)["self_attn.o_proj"] == 8
    assert widths(whole.student)["mlp.up_proj"] == 4
    (flip,) = emitted(whole.ctx, "flip")
    assert flip["policy"] == "hybrid"
    cut = make_trainer(FLIPS | {"TOTAL_STEPS": "4"}, name="cut", a4_policy="hybrid")
    cut.run()
    again = make_trainer(FLIPS, name="cut", a4_policy="hybrid", resume=True)
    again.run()
    assert again.resumed_from is not None
    assert widths(again.student) == widths(whole.student)
    for name, tensor in whole.student.state_dict().items():
        assert torch.equal(tensor, again.student.state_dict()[name])
    stored = checkpoints.student_from(checkpoints.load(again.last_checkpoint))
    assert widths(stored) == widths(whole.student)


def test_the_policy_may_change_until_the_flip(make_trainer: Make) -> None:
    before = make_trainer(FLIPS | {"TOTAL_STEPS": "1"})
    before.run()
    hybrid = make_trainer(FLIPS, a4_policy="hybrid", resume=True)
    assert hybrid.resumed_from is not None
    hybrid.run()
    assert hybrid.student.activation_bits == 4
    back = make_trainer(FLIPS, resume=True)
    assert back.resumed_from is None
    (alert,) = emitted(back.ctx, "alert")
    assert alert["message"].startswith("Training starts again after mini_bitnet_step_00000004.pt: ")
    assert "changed (A4_POLICY hybrid → all)." in alert["message"]
