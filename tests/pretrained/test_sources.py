"""A source's weights in a student compute what the source does; what does not fit is refused in one sentence."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from bitnet_core.errors import UsageError
from bitnet_core.model.student import Student
from bitnet_core.pretrained.calibrate import calibrate, sub_norms_observed
from bitnet_core.pretrained.choose import open_source, planned_shape
from bitnet_core.pretrained.gguf_source import open_gguf, unpermuted
from bitnet_core.pretrained.source import EMBEDDING, Source
from bitnet_core.pretrained.start import load
from bitnet_core.pretrained.wanted import Wanted
from bitnet_core.settings.layers import kept_layers, spread_layers
from bitnet_core.settings.presets import EMBEDDED_LAYERS
from bitnet_core.settings.values import StudentOptions
from bitnet_core.teachers.embedded.files import EmbeddedFiles
from tests.pretrained.conftest import changed_folder, permuted, started
from tests.teacher_fixtures import read_soon


@torch.no_grad()
def source_logits(student: Student, ids_BT: torch.Tensor) -> torch.Tensor:
    """What the source, less the layers that were left out, would compute: [B, T, V]."""
    with sub_norms_observed(student, torch.arange(ids_BT.numel(), device=ids_BT.device)):
        return student.logits(student(ids_BT))


def ids_of(source: Source) -> torch.Tensor:
    return torch.randint(0, source.shape.vocab_size, (2, 24), generator=torch.Generator().manual_seed(1))


def without_layers(llama: LlamaForCausalLM, kept: tuple[int, ...]) -> LlamaForCausalLM:
    """Transformers' own model with some of its layers."""
    config = type(llama.config)(**{**llama.config.to_dict(), "num_hidden_layers": len(kept)})
    less = LlamaForCausalLM(config).eval()
    less.model.embed_tokens, less.model.norm, less.lm_head = llama.model.embed_tokens, llama.model.norm, llama.lm_head
    for place, layer in enumerate(kept):
        less.model.layers[place].load_state_dict(llama.model.layers[layer].state_dict())
    return less


@pytest.mark.parametrize("kept", [(0, 1, 2, 3), (0, 3)])
@pytest.mark.parametrize("kind", ["folder", "gguf"])
@torch.no_grad()
def test_a_start_computes_what_its_source_does(
    kind: str,
    kept: tuple[int, ...],
    llama: LlamaForCausalLM,
    folder: Path,
    write_gguf: Callable[..., Path],
    tmp_path: Path,
) -> None:
    path = folder if kind == "folder" else write_gguf(tmp_path / "m.gguf")
    source = open_source(Wanted(str(path), ""))
    ids = ids_of(source)
    student = started(source, kept)
    expected = without_layers(llama, kept)(ids).logits
    assert (source_logits(student, ids) - expected).abs().max() <= 1e-4
    assert expected.std() > 0.1
    assert student.activation_bits == 8  # and the sub-norms are back where they were
    assert sum("sub_norm" in name for name, _ in student.named_parameters()) == 2 * len(kept)


@torch.no_grad()
def test_the_embedded_teacher_is_read_as_transformers_reads_it(teacher_files: EmbeddedFiles) -> None:
    """Two of its layers, with the weights from gguf's reader and its rows of q and k reordered by transformers."""
    from transformers import LlamaConfig
    from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

    kept, rows = (0, 29), 2048
    source = open_gguf(teacher_files.gguf, "teacher")
    assert source.shape.num_hidden_layers == EMBEDDED_LAYERS
    epsilon = pytest.approx(source.shape.rms_norm_eps)
    assert planned_shape(Wanted("", "")).to_dict() == {**source.shape.to_dict(), "rms_norm_eps": epsilon}
    shape = dataclasses.replace(source.shape, num_hidden_layers=len(kept), vocab_size=rows)
    student = Student(shape).eval()
    load(student, source, kept)
    theirs = LlamaForCausalLM(
        LlamaConfig(**{**shape.to_dict(), "model_type": "llama", "architectures": None, "quantization_config": None})
    ).eval()
    config = {"num_attention_heads": shape.num_attention_heads, "num_key_value_heads": shape.num_key_value_heads}
    reverse = LlamaTensorProcessor(config=config)
    with read_soon():
        stored = {one.name: one for one in gguf.GGUFReader(teacher_files.gguf).tensors}

    def values(name: str) -> torch.Tensor:
        weights = gguf.quants.dequantize(stored[name].data[:rows], stored[name].tensor_type)
        return torch.from_numpy(np.copy(reverse.process(weights, name).weights))

    theirs.model.embed_tokens.weight.copy_(values("token_embd.weight"))
    theirs.model.norm.weight.copy_(values("output_norm.weight"))
    for place, layer in enumerate(kept):
        parts, own = f"blk.{layer}", theirs.model.layers[place]
        for name, module in {
            "attn_q": own.self_attn.q_proj,
            "attn_k": own.self_attn.k_proj,
            "attn_v": own.self_attn.v_proj,
            "attn_output": own.self_attn.o_proj,
            "ffn_gate": own.mlp.gate_proj,
            "ffn_up": own.mlp.up_proj,
            "ffn_down": own.mlp.down_proj,
            "attn_norm": own.input_layernorm,
            "ffn_norm": own.post_attention_layernorm,
        }.items():
            module.weight.copy_(values(f"{parts}.{name}.weight"))
    theirs.tie_weights()
    ids = torch.randint(0, rows, (1, 16), generator=torch.Generator().manual_seed(1))
    assert (source_logits(student, ids) - theirs(ids).logits).abs().max() <= 1e-4


@given(heads=st.integers(1, 5), half=st.integers(1, 4), columns=st.integers(1, 3))
def test_unpermuting_undoes_what_llamacpps_converter_does(heads: int, half: int, columns: int) -> None:
    weight = np.arange(heads * 2 * half * columns, dtype=np.float32).reshape(-1, columns)
    assert np.array_equal(unpermuted(torch.from_numpy(permuted(weight, heads).copy()), heads).numpy(), weight)


@torch.no_grad()
def test_rotating_inputs_and_weights_leaves_a_start_as_it_was(folder: Path) -> None:
    source = open_source(Wanted(str(folder), ""))
    ids = ids_of(source)
    plain, rotated = (started(source, (0, 1), StudentOptions(hadamard=hadamard)) for hadamard in (False, True))
    assert rotated.config.hadamard
    assert (source_logits(plain, ids) - source_logits(rotated, ids)).abs().max() <= 1e-4


@torch.no_grad()
def test_sub_norms_are_the_least_squares_fit_of_each_channel(folder: Path) -> None:
    """Against a slow solver, on a batch whose padding would spoil it."""
    source = open_source(Wanted(str(folder), ""))
    student = started(source, (0, 1))
    ids = ids_of(source)
    real = torch.tensor([*range(20), *range(24, 48)])
    seen: list[torch.Tensor] = []
    student.activation_bits = None
    norm = student.model.layers[0].mlp.ffn_sub_norm
    handle = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    attention = student.model.layers[0].self_attn
    kept, attention.attn_sub_norm = attention.attn_sub_norm, torch.nn.Identity()
    student(ids)
    attention.attn_sub_norm = kept
    handle.remove()
    student.activation_bits = 8
    calibrate(student, ids, real)
    x_NC = seen[0].flatten(0, 1)[real].double()
    normed_NC = x_NC / (x_NC.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    for channel in (0, 7, 50):
        best = torch.linalg.lstsq(normed_NC[:, channel : channel + 1], x_NC[:, channel : channel + 1]).solution.item()
        assert norm.weight[channel].item() == pytest.approx(best, rel=1e-4)


@torch.no_grad()
def test_calibrated_sub_norms_change_less_than_ones(folder: Path) -> None:
    source = open_source(Wanted(str(folder), ""))
    ids, student = ids_of(source), started(source, (0, 1, 2, 3))
    expected = source_logits(student, ids)
    student.activation_bits = None
    errors = []
    for calibrated in (False, True):
        if calibrated:
            calibrate(student, ids, torch.arange(ids.numel()))
        errors.append(float((student.logits(student(ids)) - expected).square().mean()))
    assert errors[1] < 0.9 * errors[0]


def test_a_head_of_its_own_is_told_and_left_out(folder: Path, tmp_path: Path) -> None:
    copy = changed_folder(folder, tmp_path, tie_word_embeddings=False)
    path = copy / "model-00002-of-00002.safetensors"
    source = open_source(Wanted(str(folder), ""))
    save_file(load_file(path) | {"lm_head.weight": source.read(EMBEDDING).half() + 1}, path)
    untied = open_source(Wanted(str(copy), ""))
    assert source.tied
    assert not untied.tied
    assert torch.equal(started(untied, (0,)).output_weight, source.read(EMBEDDING))


@given(total=st.integers(1, 60), data=st.data())
def test_layers_are_all_a_number_or_a_list(total: int, data: st.DataObject) -> None:
    assert kept_layers("", total) == tuple(range(total))
    count = data.draw(st.integers(1, total))
    spread = kept_layers(str(count), total)
    assert spread == spread_layers(count, total)
    assert list(spread) == sorted(set(spread))
    assert len(spread) == count
    assert spread[0] == 0
    listed = data.draw(st.sets(st.integers(0, total - 1), min_size=1).map(sorted))
    if len(listed) > 1:
        assert kept_layers(" , ".join(map(str, listed)), total) == tuple(listed)
    for text in ("0", f"{total + 1}", f"0,{total}", "1,1", "2,1", "a", "-1,2", "1,", "²"):
        with pytest.raises(UsageError, match=rf"STUDENT_INIT_LAYERS is .* from 0 to {total}"):
            kept_layers(text, total)
