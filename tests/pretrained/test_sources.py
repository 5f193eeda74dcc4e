"""A source's weights in a student compute what the source does; what does not fit is refused in one sentence."""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.model.student import Student
from bitnet_core.pretrained.calibrate import calibrate, source_logits
from bitnet_core.pretrained.choose import Wanted, kept_layers, open_source, require_no_sizes, spread_layers, wanted
from bitnet_core.pretrained.gguf_source import open_gguf, unpermuted
from bitnet_core.pretrained.source import EMBEDDING, DoesNotFit, Source, require_same_tokens, tokens_of
from bitnet_core.pretrained.start import SMALLER_MODEL, load, require_room, warm_shape
from bitnet_core.settings.values import InitOptions, StudentOptions, TeacherOptions
from bitnet_core.teachers.embedded.files import EmbeddedFiles
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.pretrained.conftest import permuted

OPTIONS = StudentOptions()


def started(source: Source, kept: tuple[int, ...], options: StudentOptions = OPTIONS) -> Student:
    student = Student(warm_shape(source.shape, len(kept), options, source.shape.vocab_size, 64)).eval()
    load(student, source, kept)
    return student


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
    shape = dataclasses.replace(source.shape, num_hidden_layers=len(kept), vocab_size=rows)
    student = Student(shape).eval()
    load(student, source, kept)
    theirs = LlamaForCausalLM(
        LlamaConfig(**{**shape.to_dict(), "model_type": "llama", "architectures": None, "quantization_config": None})
    ).eval()
    config = {"num_attention_heads": shape.num_attention_heads, "num_key_value_heads": shape.num_key_value_heads}
    reverse = LlamaTensorProcessor(config=config)
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


# -- what is refused -------------------------------------------------------------------------------------------------


def changed_folder(folder: Path, tmp_path: Path, **config: Any) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    values = json.loads((copy / "config.json").read_text()) | config
    (copy / "config.json").write_text(json.dumps(values))
    return copy


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "qwen2"}, "model_type is 'qwen2'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}, "rope_parameters": None}, "scaled"),
        ({"head_dim": 32}, "4 heads of 32"),
        ({"hidden_act": "gelu"}, "activation is 'gelu'"),
        ({"hidden_size": 96, "head_dim": 24}, "multiple of 64"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps is 'small'"),
        ({"rms_norm_eps": "x" * 5000}, r"rms_norm_eps is 'x{39}; "),
        ({"vocab_size": ["x" * 5000]}, r"vocab_size is \['x{38}; "),
        *(({"head_dim": odd}, "are not as wide as 64") for odd in ("16", [16], {"a": 16}, 16.0, True)),
        *(({"sliding_window": odd}, "sliding_window is ") for odd in (0, -1, "4096", 4096.0, False, True, [64], {})),
        ({"head_dim": "a" * 100, "num_attention_heads": 10**10, "hidden_size": 10**12}, "are not as wide as"),
    ],
)
def test_another_architecture_is_refused(folder: Path, tmp_path: Path, config: dict[str, Any], reason: str) -> None:
    with pytest.raises(DoesNotFit, match=rf"{reason}.*what fits is a model of Llama's shape .*\.$"):
        open_source(Wanted(str(changed_folder(folder, tmp_path, **config)), ""))


def test_a_norm_of_q_and_a_missing_tensor_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = changed_folder(folder, tmp_path)
    path = copy / "model-00002-of-00002.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"model.layers.0.self_attn.q_norm.weight": torch.ones(16)}, path)
    with pytest.raises(DoesNotFit, match=r"q_norm"):
        open_source(Wanted(str(copy), ""))
    save_file({name: one for name, one in tensors.items() if "layers.3.mlp.up" not in name}, path)
    with pytest.raises(BitnetError, match=r"no tensor model\.layers\.3\.mlp\.up_proj\.weight; get all"):
        open_source(Wanted(str(copy), ""))
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(BitnetError, match=r"not a whole safetensors file .*download it again\."):
        open_source(Wanted(str(copy), ""))


def test_a_tensor_in_two_files_is_refused(folder: Path, tmp_path: Path) -> None:
    """Files of an older download would be mixed with those of the model."""
    copy = changed_folder(folder, tmp_path)
    old = load_file(copy / "model-00001-of-00002.safetensors")
    save_file({name: one + 1 for name, one in old.items()}, copy / "model-00001-of-00003.safetensors")
    with pytest.raises(
        BitnetError, match=r"^model-00001-of-00002\.\w+ and model-00001-of-00003\.\w+ in .* both hold"
    ):
        open_source(Wanted(str(copy), ""))


def test_a_number_of_layers_that_nothing_holds_takes_no_memory(
    folder: Path, write_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    copy = changed_folder(folder, tmp_path, num_hidden_layers=10**9)
    path = write_gguf(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes().replace(*(_layers_key(number) for number in (4, 2**31))))
    for model in (copy, path):
        with pytest.raises(BitnetError, match=r"has no tensor model\.layers\.4\..*; get all of its files again\.$"):
            open_source(Wanted(str(model), ""))


def _layers_key(number: int) -> bytes:
    """The key of a GGUF that tells the number of layers."""
    return b"llama.block_count" + (4).to_bytes(4, "little") + number.to_bytes(4, "little")


@pytest.mark.parametrize("name", ["model-00001-of-00001.safetensors", "old.bin", "more.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "link to nothing", "device", "folder"])
def test_what_is_no_file_among_the_weights_is_named_and_not_waited_for(
    folder: Path, tmp_path: Path, name: str, kind: str
) -> None:
    copy = changed_folder(folder, tmp_path)
    if name.startswith("model-"):
        (copy / "model.safetensors").unlink(missing_ok=True)
    make: dict[str, Callable[[Path], object]] = {
        "pipe": os.mkfifo,
        "link to nothing": lambda path: path.symlink_to(tmp_path / "nowhere"),
        "device": lambda path: path.symlink_to("/dev/zero"),
        "folder": Path.mkdir,
    }
    make[kind](copy / name)
    with pytest.raises(BitnetError, match=re.escape(name)) as caught:
        open_source(Wanted(str(copy), "")).sha256()
    assert str(caught.value).endswith(".")


def test_numbers_that_are_not_finite_are_refused(folder: Path) -> None:
    source = open_source(Wanted(str(folder), ""))
    broken = dataclasses.replace(source, read=lambda name: source.read(name).fill_(float("nan")))
    with pytest.raises(BitnetError, match=r"embed_tokens\.weight .*not finite"):
        started(broken, (0,))


def test_a_head_of_its_own_is_told_and_left_out(folder: Path, tmp_path: Path) -> None:
    copy = changed_folder(folder, tmp_path, tie_word_embeddings=False)
    path = copy / "model-00002-of-00002.safetensors"
    source = open_source(Wanted(str(folder), ""))
    save_file(load_file(path) | {"lm_head.weight": source.read(EMBEDDING).half() + 1}, path)
    untied = open_source(Wanted(str(copy), ""))
    assert source.tied
    assert not untied.tied
    assert torch.equal(started(untied, (0,)).output_weight, source.read(EMBEDDING))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.999])
def test_a_gguf_cut_short_is_refused_before_a_weight_is_read(
    write_gguf: Callable[..., Path], tmp_path: Path, share: float
) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BitnetError, match=r"m\.gguf is not a whole GGUF .*download it again\.$"):
        open_source(Wanted(str(path), ""))


def test_a_gguf_of_another_kind_is_refused(write_gguf: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DoesNotFit, match=r"architecture is 'qwen2'"):
        open_gguf(write_gguf(tmp_path / "a.gguf", arch="qwen2"), "a")

    def with_bias(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("blk.0.attn_q.bias", np.zeros(64, np.float32))

    with pytest.raises(DoesNotFit, match=r"blk\.0\.attn_q\.bias"):
        open_gguf(write_gguf(tmp_path / "b.gguf", with_bias), "b")

    for scaled in (
        lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.YARN),
        lambda writer: writer.add_rope_scaling_factor(4.0),
        lambda writer: writer.add_float32("llama.rope.scale_linear", 4.0),
    ):
        with pytest.raises(DoesNotFit, match=r"rotary positions are scaled"):
            open_gguf(write_gguf(tmp_path / "c.gguf", scaled), "c")
    open_gguf(write_gguf(tmp_path / "c.gguf", lambda writer: writer.add_rope_scaling_factor(1.0)), "c")

    def split(writer: gguf.GGUFWriter) -> None:
        writer.add_uint16("split.count", 3)

    with pytest.raises(BitnetError, match=r"^d is one of the 3 files of its model; join them "):
        open_gguf(write_gguf(tmp_path / "d.gguf", split), "d")


def test_a_gguf_with_two_tensors_of_one_name_is_refused(write_gguf: Callable[..., Path], tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.0.ffn_up.weight"))
    with pytest.raises(BitnetError, match=r"\(it has two tensors 'blk\.0\.ffn_up\.weight'\); download it again\.$"):
        open_source(Wanted(str(path), ""))


def test_a_gguf_with_one_tensor_under_both_of_its_names_is_refused(
    write_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    def twice(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("model.norm.weight", np.zeros(64, np.float32))

    with pytest.raises(
        BitnetError, match=r"m holds one tensor as model\.norm\.weight and as output_norm\.weight; down"
    ):
        open_gguf(write_gguf(tmp_path / "m.gguf", twice), "m")


@pytest.mark.parametrize("place", [0, 64])
def test_a_gguf_whose_tensors_share_bytes_is_refused(
    write_gguf: Callable[..., Path], tmp_path: Path, place: int
) -> None:
    """The weights of one of them, at least, are another's."""
    path = write_gguf(tmp_path / "m.gguf")
    data, name = bytearray(path.read_bytes()), b"blk.0.ffn_up.weight"
    at = data.index(name) + len(name) + 4 + 2 * 8 + 4  # behind the number of dimensions, the sizes and the type
    data[at : at + 8] = place.to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(BitnetError, match=r"\(its tensors lie on each other\); download it again\.$"):
        open_source(Wanted(str(path), ""))


def test_another_tokenizer_is_refused(tokenizer: StudentTokenizer) -> None:
    own = tokens_of(tokenizer.definition)
    require_same_tokens("m", own | {len(own) + 5: "padding"}, own)
    with pytest.raises(BitnetError, match=r"m has another tokenizer than the traces: 1 of .* 7 \('other' there"):
        require_same_tokens("m", own | {7: "other"}, own)


def test_what_is_not_a_model_and_a_teacher_elsewhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("no model")
    for text in (str(tmp_path / "x.txt"), str(tmp_path / "none.gguf"), "no such folder/at/all"):
        with pytest.raises(BitnetError, match="is not a model"):
            open_source(Wanted(text, ""))
    with pytest.raises(BitnetError, match=r"no config\.json"):
        open_source(Wanted(str(tmp_path), ""))
    init = InitOptions(source="teacher", layers="")
    with pytest.raises(BitnetError, match=r"those of gpt-x are at openai; name a folder"):
        wanted(init, TeacherOptions(provider="openai", model="gpt-x"))
    assert wanted(init, TeacherOptions(provider="embedded")) == Wanted("", "", 64)
    assert wanted(init, TeacherOptions(provider="hf", model="some/model")) == Wanted("some/model", "", 64)
    embedding_alone = InitOptions(source="some/model", layers="0", fit_steps=7)
    assert wanted(embedding_alone, TeacherOptions()) == Wanted("some/model", "0", 0)
    assert wanted(InitOptions(), TeacherOptions()) is None


def test_sizes_beside_a_source_are_refused() -> None:
    require_no_sizes(StudentOptions())
    with pytest.raises(UsageError, match=r"MINI_LAYERS .*STUDENT_INIT_LAYERS"):
        require_no_sizes(StudentOptions(layers=3))
    with pytest.raises(UsageError, match="STUDENT_PROFILE"):
        require_no_sizes(StudentOptions(profile="b158"))


def test_a_student_that_no_memory_holds_is_refused_before_it_is_made(folder: Path) -> None:
    shape = open_source(Wanted(str(folder), "")).shape
    require_room(shape, torch.device("cpu"))
    with pytest.raises(BitnetError, match=r"takes at least .* is free on cpu; keep fewer layers \(STUDENT"):
        require_room(dataclasses.replace(shape, num_hidden_layers=10**9), torch.device("cpu"), fix=SMALLER_MODEL)


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
