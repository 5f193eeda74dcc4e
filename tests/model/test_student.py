"""What the forward pass must and must not depend on."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from bitnet_core.model.cache import KVCache
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.layers import BitLinear, RMSNorm, _Gated, rotate
from bitnet_core.model.packing import pack_student
from bitnet_core.model.presets import preset
from bitnet_core.model.student import Student


@pytest.fixture
def student(config: StudentConfig) -> Student:
    student = Student(config).eval()
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if name.endswith("norm.weight"):
                # With all ones, the first token's values are ratios of small integers: rounding ties abound.
                parameter.uniform_(0.5, 1.5)
    return student


def logits(student: Student, ids: torch.Tensor, **options: object) -> torch.Tensor:
    with torch.no_grad():
        return student.logits(student(ids, **options))


def test_a_later_token_never_changes_an_earlier_logit(student: Student) -> None:
    ids = torch.randint(0, 320, (2, 24))
    changed = ids.clone()
    changed[:, 13:] = (changed[:, 13:] + 7) % 320
    before, after = logits(student, ids), logits(student, changed)
    torch.testing.assert_close(before[:, :13], after[:, :13], rtol=0, atol=1e-6)
    assert (before[:, 13:] - after[:, 13:]).abs().amax(-1).min() > 1e-3


def test_the_prompt_and_its_order_change_the_last_logits(student: Student) -> None:
    ids = torch.arange(3, 27)[None]
    perturbed = ids.clone()
    perturbed[0, 0] = 99
    swapped = ids.clone()
    swapped[0, [2, 9]] = swapped[0, [9, 2]]
    base = logits(student, ids)[0, -1]
    assert (logits(student, perturbed)[0, -1] - base).abs().max() > 1e-4
    assert (logits(student, swapped)[0, -1] - base).abs().max() > 1e-4


def test_padding_on_either_side_changes_nothing(student: Student) -> None:
    ids = torch.randint(0, 320, (1, 12))
    alone = logits(student, ids)
    right = torch.cat([ids, torch.randint(0, 320, (1, 5))], dim=1)
    torch.testing.assert_close(logits(student, right)[:, :12], alone, rtol=0, atol=1e-5)
    left = torch.cat([torch.randint(0, 320, (1, 5)), ids], dim=1)
    padding = torch.tensor([[True] * 5 + [False] * 12])
    padded = logits(student, left, key_padding_BS=padding)
    assert torch.isfinite(padded).all()
    torch.testing.assert_close(padded[:, 5:], alone, rtol=0, atol=1e-5)


def test_a_batch_equals_its_sequences_alone(student: Student) -> None:
    ids = torch.randint(0, 320, (3, 16))
    together = logits(student, ids)
    for row in range(3):
        torch.testing.assert_close(together[row], logits(student, ids[row : row + 1])[0], rtol=0, atol=1e-5)


def test_scores_only_depend_on_relative_positions(student: Student) -> None:
    ids = torch.randint(0, 320, (1, 16))
    student.activation_bits = None  # rounding would turn the last bit of a rotation into a whole level
    shifted = logits(student, ids, positions_BT=torch.arange(31, 47)[None])
    torch.testing.assert_close(logits(student, ids), shifted, rtol=0, atol=2e-5)
    stretched = logits(student, ids, positions_BT=torch.arange(0, 32, 2)[None])
    assert (logits(student, ids) - stretched).abs().max() > 1e-3


def test_rotation_is_the_complex_one() -> None:
    x = torch.randn(1, 1, 5, 8, dtype=torch.float64)
    positions = torch.arange(5, dtype=torch.float64)
    frequencies = 10.0 ** (-torch.arange(4, dtype=torch.float64))
    angles = positions[:, None] * frequencies
    doubled = torch.cat([angles, angles], -1)[None, None]
    z = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones_like(angles), angles)
    expected = torch.cat([z.real, z.imag], dim=-1)
    torch.testing.assert_close(rotate(x, (doubled.cos(), doubled.sin())), expected)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("cuts", [[1] * 20, [7, 1, 5, 7], [19, 1]])
def test_cached_equals_uncached(student: Student, bits: int, cuts: list[int]) -> None:
    student.activation_bits = bits
    ids = torch.randint(0, 320, (2, 20))
    whole = logits(student, ids)
    cache = KVCache(student.config, batch_size=2, max_len=20)
    parts = [logits(student, part, cache=cache) for part in ids.split(cuts, dim=1)]
    assert cache.length == 20
    got = torch.cat(parts, dim=1)
    # A last-bit difference of a matmul may move a value to the next activation level: rare, and small.
    assert (got - whole).abs().mean() < 1e-4
    assert (got.argmax(-1) == whole.argmax(-1)).float().mean() > 0.95
    student.activation_bits = None
    cache = KVCache(student.config, batch_size=2, max_len=20)
    exact = torch.cat([logits(student, part, cache=cache) for part in ids.split(cuts, dim=1)], dim=1)
    torch.testing.assert_close(exact, logits(student, ids), rtol=0, atol=1e-5)


def test_cached_with_left_padding_equals_uncached(student: Student) -> None:
    student.activation_bits = None
    ids = torch.randint(0, 320, (2, 14))
    padding = torch.zeros(2, 14, dtype=torch.bool)
    padding[1, :4] = True
    whole = logits(student, ids, key_padding_BS=padding)
    cache = KVCache(student.config, batch_size=2, max_len=16)
    parts = [
        logits(student, ids[:, a:b], key_padding_BS=padding[:, :b], cache=cache)
        for a, b in [(0, 9), (9, 10), (10, 14)]
    ]
    torch.testing.assert_close(torch.cat(parts, dim=1)[~padding], whole[~padding], rtol=0, atol=1e-5)


def test_the_cache_and_the_positions_have_an_end(student: Student) -> None:
    cache = KVCache(student.config, max_len=4)
    logits(student, torch.ones(1, 4, dtype=torch.long), cache=cache)
    with pytest.raises(ValueError, match="holds 4 positions"):
        logits(student, torch.ones(1, 1, dtype=torch.long), cache=cache)
    with pytest.raises(ValueError, match="65 positions"):
        logits(student, torch.ones(1, 65, dtype=torch.long))


@pytest.mark.parametrize(("bits", "most"), [(8, 256), (4, 16)])
def test_every_matmul_sees_quantised_inputs_and_ternary_weights(
    student: Student, bits: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    plain = F.linear

    def spy(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        seen.append((x, weight))
        return plain(x, weight)

    student.activation_bits = bits
    monkeypatch.setattr("torch.nn.functional.linear", spy)
    with torch.no_grad():
        hidden = student(torch.randint(0, 320, (2, 9)))
    assert len(seen) == 7 * student.config.num_hidden_layers
    for x, weight in seen:
        assert len(weight.unique()) <= 3
        assert max(len(token.unique()) for token in x.reshape(-1, x.shape[-1])) <= most
    for q, k, v in zip(seen[0::7], seen[1::7], seen[2::7], strict=True):
        assert q[0] is k[0] is v[0]  # one quantised input for the three
    assert len(hidden[0, 0].unique()) > 240  # of 256: the head reads it in full precision
    seen.clear()
    with torch.no_grad():
        student.logits(hidden)
    assert seen[0][1] is student.model.embed_tokens.weight


def test_seven_bit_linears_a_layer_and_no_other_parameter_is_quantised(student: Student) -> None:
    names = {name for name, module in student.named_modules() if isinstance(module, BitLinear)}
    expected = {f"model.layers.{n}.{name}" for n in range(2) for name in student.config.linear_shapes()}
    assert names == expected
    rest = {name for name, _ in student.named_parameters()} - {f"{name}.weight" for name in names}
    assert all("norm" in name or name == "model.embed_tokens.weight" for name in rest)
    assert sum(p.numel() for p in student.parameters()) == student.config.parameters()
    for name, shape in student.config.linear_shapes().items():
        assert student.get_parameter(f"model.layers.1.{name}.weight").shape == shape


def test_held_weights_change_neither_outputs_nor_gradients(student: Student) -> None:
    ids = torch.randint(0, 320, (2, 8))

    def gradients() -> list[torch.Tensor]:
        student.zero_grad()
        student.logits(student(ids)).square().mean().backward()
        return [p.grad.clone() for p in student.parameters()]

    plain, before = gradients(), logits(student, ids)
    with student.held_weights():
        assert torch.equal(logits(student, ids), before)
        for a, b in zip(plain, gradients(), strict=True):
            assert torch.equal(a, b)
    with torch.no_grad():
        student.get_parameter("model.layers.0.mlp.up_proj.weight").normal_()
    assert not torch.equal(logits(student, ids), before)


@pytest.mark.parametrize("layers", [2, 16])
def test_outputs_are_of_order_one_and_depth_does_not_blow_up(layers: int) -> None:
    student = Student(preset("nano", 512, max_positions=64, layers=layers))
    sizes: dict[str, float] = {}

    def record(name: str):  # type: ignore[no-untyped-def]
        return lambda _m, _i, out: sizes.__setitem__(name, float(out.detach().square().mean().sqrt()))

    for index, layer in enumerate(student.model.layers):
        layer.self_attn.register_forward_hook(record(f"attention {index}"))
        layer.mlp.register_forward_hook(record(f"ffn {index}"))
        layer.register_forward_hook(record(f"residual {index}"))
    ids = torch.randint(0, 512, (4, 48))
    student.logits(student(ids)).logsumexp(-1).mean().backward()
    inner = [value for name, value in sizes.items() if not name.startswith("residual")]
    # o and down carry 1/sqrt(2L), so order one is what a sub-layer gives before that factor.
    rescaled = [value * (2 * layers) ** 0.5 for value in inner]
    assert min(rescaled) > 0.1
    assert max(rescaled) < 3
    assert max(value for name, value in sizes.items() if name.startswith("residual")) < 3
    assert all(torch.isfinite(p.grad).all() for p in student.parameters())


def test_autocast_runs_in_bf16_with_fp32_masters(student: Student) -> None:
    ids = torch.randint(0, 320, (2, 8))
    wide = logits(student, ids)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = student(ids)
        hidden.float().square().mean().backward()
        narrow = logits(student, ids).float()
    assert all(p.dtype == torch.float32 and p.grad.dtype == torch.float32 for p in student.parameters())
    assert (narrow - wide).abs().mean() < 0.1 * wide.std()


SEGMENTS = torch.tensor([[0] * 7 + [1] * 5 + [2] * 9 + [-1] * 3, [0] * 1 + [1] * 20 + [-1] * 3])


@pytest.mark.parametrize("bits", [8, 4, None])
def test_a_packed_segment_is_the_sequence_alone(student: Student, bits: int | None) -> None:
    student.activation_bits = bits
    ids = torch.randint(0, 320, SEGMENTS.shape)
    packed = logits(student, ids, segments_BT=SEGMENTS)
    assert torch.isfinite(packed).all()
    for row in range(2):
        for segment in range(int(SEGMENTS[row].max()) + 1):
            here = SEGMENTS[row] == segment
            alone = logits(student, ids[row, here][None])[0]
            if bits is None:
                torch.testing.assert_close(packed[row, here], alone, rtol=0, atol=1e-5)
            # Another attention kernel rounds another bit, and a value on a boundary takes the neighbouring level.
            assert F.cosine_similarity(packed[row, here], alone, dim=-1).min() > 0.9999


def test_nothing_crosses_from_one_segment_into_another(student: Student) -> None:
    """To the last bit: neither values nor gradients."""
    ids = torch.randint(0, 320, SEGMENTS.shape)
    changed = torch.where(SEGMENTS == 1, ids, (ids + 11) % 320)
    before, after = (logits(student, one, segments_BT=SEGMENTS) for one in (ids, changed))
    same = SEGMENTS == 1
    assert torch.equal(before[same], after[same])
    assert (before[SEGMENTS == 2] - after[SEGMENTS == 2]).abs().max() > 1e-3

    seen: list[torch.Tensor] = []
    handle = student.model.embed_tokens.register_forward_hook(lambda _module, _given, out: seen.append(out))
    student(ids, segments_BT=SEGMENTS)[SEGMENTS == 1].sum().backward(inputs=seen)
    handle.remove()
    (gradient,) = (one.grad for one in seen)
    assert gradient[SEGMENTS != 1].abs().max() == 0
    assert gradient[SEGMENTS == 1].abs().max() > 0


def test_hadamard_only_transforms_the_inputs_of_output_and_down_projections(config: StudentConfig) -> None:
    student = Student(dataclasses.replace(config, hadamard=True)).eval()
    turned = [name for name, module in student.named_modules() if isinstance(module, BitLinear) and module.hadamard]
    assert {name.rsplit(".", 1)[1] for name in turned} == {"o_proj", "down_proj"}
    assert len(turned) == 2 * config.num_hidden_layers
    packed = pack_student(student)
    ids = torch.randint(0, 320, (2, 9))
    with torch.no_grad():
        assert torch.nn.functional.cosine_similarity(packed(ids), student(ids), dim=-1).min() > 0.9999
    plain = Student(config).eval()
    plain.load_state_dict(student.state_dict())
    assert (logits(plain, ids) - logits(student, ids)).abs().max() > 1e-3


@pytest.mark.parametrize("squared_relu", [False, True])
def test_the_gate_is_the_plain_one_with_its_gradients(squared_relu: bool) -> None:
    given = torch.randn(2, 5, 64, dtype=torch.float64).unbind()
    mine, plain = ([one.clone().requires_grad_() for one in given] for _ in range(2))
    out = _Gated.apply(*mine, squared_relu)
    expected = (F.relu(plain[0]).square() if squared_relu else F.silu(plain[0])) * plain[1]
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    for one, two in zip(mine, plain, strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-12, atol=1e-14)


def test_the_norm_is_the_plain_one_with_its_gradients() -> None:
    norm = RMSNorm(64, 1e-5).double()
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    x = torch.randn(2, 5, 64, dtype=torch.float64, requires_grad=True)
    weight = norm.weight.detach().clone().requires_grad_()
    y = x.detach().clone().requires_grad_()
    expected = F.rms_norm(y, (64,), weight, 1e-5)
    torch.testing.assert_close(norm(x), expected, rtol=1e-14, atol=1e-15)
    slope = torch.randn_like(expected)
    (norm(x) * slope).sum().backward()
    (expected * slope).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(norm.weight.grad, weight.grad, rtol=1e-11, atol=1e-13)
