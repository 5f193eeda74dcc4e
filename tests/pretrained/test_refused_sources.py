"""Which models a student is refused to begin with, and in which words."""

import dataclasses
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
from safetensors.torch import load_file, save_file

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.pretrained import gguf_source
from bitnet_core.pretrained.choose import open_source
from bitnet_core.pretrained.gguf_source import open_gguf
from bitnet_core.pretrained.source import EMBEDDING, DoesNotFit, require_same_tokens, tokens_of
from bitnet_core.pretrained.start import SMALLER_MODEL, require_room
from bitnet_core.pretrained.wanted import Wanted, require_no_sizes, require_possible, wanted
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.values import InitOptions, StudentOptions, TeacherOptions
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.pretrained.conftest import changed_folder, started


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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["Q5_0", "Q6_K", "IQ4_XS"])
def test_numbers_that_are_not_finite_are_read_without_a_word_to_the_terminal(tmp_path: Path, kind: str) -> None:
    """Who reads them refuses them, in a sentence."""
    of = gguf.GGMLQuantizationType[kind]
    weights, size = gguf.GGML_QUANT_SIZES[of]
    path = tmp_path / "odd"
    path.write_bytes(np.random.default_rng(0).bytes(64 * size))  # infinite scales too, of weights that are 0
    assert not gguf_source._values(path, gguf_source._Stored((64, weights), of, 0)).isfinite().all()


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
    layers = (init.fit_steps, init.embedding)
    assert wanted(init, TeacherOptions(provider="embedded")) == Wanted("", "", *layers)
    assert wanted(init, TeacherOptions(provider="hf", model="some/model")) == Wanted("some/model", "", *layers)
    embedding_alone = InitOptions(source="some/model", layers="0", fit_steps=7)
    assert wanted(embedding_alone, TeacherOptions()) == Wanted("some/model", "0", 0, "trained")
    assert wanted(InitOptions(), TeacherOptions()) is None


def test_sizes_beside_a_source_are_refused() -> None:
    require_no_sizes(StudentOptions())
    with pytest.raises(UsageError, match=r"MINI_LAYERS .*STUDENT_INIT_LAYERS"):
        require_no_sizes(StudentOptions(layers=3))
    with pytest.raises(UsageError, match="STUDENT_PROFILE"):
        require_no_sizes(StudentOptions(profile="b158"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"STUDENT_INIT": "teacher", "TEACHER_PROVIDER": "openai", "TEACHER_MODEL": "m"}, "those of m are at openai"),
        ({"STUDENT_INIT": "teacher", "MINI_DIM": "128"}, "leave MINI_DIM empty"),
        ({"MINI_DIM": "256", "MINI_HEADS": "3"}, "MINI_HEADS"),
        ({"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "0", "MINI_DIM": "256", "MINI_HEADS": "3"}, "MINI_HEADS"),
        ({"TRAIN_ONLINE": "1", "TEACHER_PROVIDER": "openai", "TEACHER_MODEL": "m"}, "TRAIN_ONLINE=0"),
        ({"STUDENT_INIT_LAYERS": "6"}, "set STUDENT_INIT"),
        ({"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "31"}, "from 0 to 30"),
        ({"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "0,30"}, "from 0 to 29"),
        ({"STUDENT_INIT": "here/model.gguf"}, "here/model.gguf is not a model"),
        ({"STUDENT_INIT": "/nowhere", "STUDENT_INIT_LAYERS": "0"}, "/nowhere is not a model"),
        ({"ON_POLICY_FRACTION": "0.5"}, "set TRAIN_ONLINE=1"),
    ],
)
def test_what_training_would_refuse_is_known_from_the_settings(values: dict[str, str], said: str) -> None:
    with pytest.raises(BitnetError, match=said):
        require_possible(from_values(values))


def test_layers_that_a_folder_lacks_are_known_without_its_weights(folder: Path, tmp_path: Path) -> None:
    folder = changed_folder(folder, tmp_path)
    (folder / "model-00002-of-00002.safetensors").unlink()
    require_possible(from_values({"STUDENT_INIT": str(folder), "STUDENT_INIT_LAYERS": "0,3"}))
    with pytest.raises(UsageError, match="from 0 to 3"):
        require_possible(from_values({"STUDENT_INIT": str(folder), "STUDENT_INIT_LAYERS": "0,4"}))
    (folder / "config.json").unlink()
    with pytest.raises(BitnetError, match=r"no config\.json"):
        require_possible(from_values({"STUDENT_INIT": str(folder)}))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"MINI_DIM": "128"},
        {"ON_POLICY_FRACTION": "0.5", "TRAIN_ONLINE": "1"},
        {"STUDENT_INIT": "teacher", "TEACHER_PROVIDER": "hf", "TEACHER_MODEL": "/nowhere"},
        {"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "6", "TRAIN_ONLINE": "1"},
        {"STUDENT_INIT": "teacher", "STUDENT_INIT_LAYERS": "0", "MINI_DIM": "128"},
        {"STUDENT_INIT": "teacher", "TEACHER_PROVIDER": "hf", "TEACHER_MODEL": "a/b", "TRAIN_ONLINE": "1"},
        {"STUDENT_INIT": "a/b", "TEACHER_PROVIDER": "openai", "TEACHER_MODEL": "m"},
    ],
)
def test_a_training_that_may_begin_is_not_refused(values: dict[str, str]) -> None:
    require_possible(from_values(values))


def test_a_student_that_no_memory_holds_is_refused_before_it_is_made(folder: Path) -> None:
    shape = open_source(Wanted(str(folder), "")).shape
    require_room(shape, torch.device("cpu"))
    with pytest.raises(BitnetError, match=r"takes at least .* is free on cpu; keep fewer layers \(STUDENT"):
        require_room(dataclasses.replace(shape, num_hidden_layers=10**9), torch.device("cpu"), fix=SMALLER_MODEL)


@pytest.mark.parametrize(
    "change",
    [lambda path: os.truncate(path, 5000), Path.unlink, lambda path: path.write_bytes(path.read_bytes()), os.utime],
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_model_that_changes_after_its_header_was_read_is_not_mixed(
    write_gguf: Callable[..., Path], folder: Path, tmp_path: Path, kind: str, change: Callable[[Path], object]
) -> None:
    if kind == "file":
        model = changed = write_gguf(tmp_path / "m.gguf")
    else:
        model = Path(shutil.copytree(folder, tmp_path / "copy"))
        changed = model / "model-00002-of-00002.safetensors"
    source = open_source(Wanted(str(model), ""))
    assert source.read(EMBEDDING).isfinite().all()
    change(changed)
    said = f"{changed.name} was replaced or changed while its model was read"
    with pytest.raises(BitnetError, match=said):
        source.read(EMBEDDING)
    with pytest.raises(BitnetError, match=said):
        source.sha256()
