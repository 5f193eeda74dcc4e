"""A tiny Llama with random weights: a folder of transformers, and the GGUF that llama.cpp's converter would write."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from bitnet_core.model.student import Student
from bitnet_core.pretrained.source import Source
from bitnet_core.pretrained.start import load, warm_shape
from bitnet_core.settings.values import StudentOptions
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.traces.samples import small_tokenizer
from tests.training.conftest import _one_thread, sequences

__all__ = ["_one_thread", "sequences"]
LAYERS, HEADS, KV_HEADS, HIDDEN, FFN = 4, 4, 2, 64, 128
OPTIONS = StudentOptions()


@pytest.fixture(scope="session")
def tokenizer() -> StudentTokenizer:
    return small_tokenizer()


@pytest.fixture(scope="session")
def llama(tokenizer: StudentTokenizer) -> LlamaForCausalLM:
    """Weights of fp16's precision, so that every format holds them exactly."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=HIDDEN,
        intermediate_size=FFN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 50_000.0},
        tie_word_embeddings=True,
        initializer_range=0.15,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
            parameter.copy_(parameter.half())
    return model


@pytest.fixture(scope="session")
def folder(llama: LlamaForCausalLM, tokenizer: StudentTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In two shards, as larger models are."""
    path = tmp_path_factory.mktemp("llama")
    tensors = {name: tensor.half() for name, tensor in llama.state_dict().items() if name != "lm_head.weight"}
    names = sorted(tensors)
    for place, part in enumerate((names[:9], names[9:]), start=1):
        save_file({name: tensors[name] for name in part}, path / f"model-0000{place}-of-00002.safetensors")
    (path / "config.json").write_text(json.dumps(llama.config.to_dict()))
    tokenizer.save(path)
    return path


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """q and k as convert_hf_to_gguf.py of llama.cpp orders their rows."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


_IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.fixture(scope="session")
def write_gguf(llama: LlamaForCausalLM, tokenizer: StudentTokenizer) -> Callable[..., Path]:
    """Write the model as a GGUF; `change` may alter the writer before the tensors are in it."""

    def write(path: Path, change: Callable[[gguf.GGUFWriter], object] = lambda _: None, arch: str = "llama") -> Path:
        writer = gguf.GGUFWriter(path, arch)
        writer.add_context_length(512)
        writer.add_embedding_length(HIDDEN)
        writer.add_block_count(LAYERS)
        writer.add_feed_forward_length(FFN)
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(KV_HEADS)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(50_000.0)
        vocabulary = tokenizer.definition["model"]["vocab"]
        tokens = {index: token for token, index in vocabulary.items()}
        tokens |= {one["id"]: one["content"] for one in tokenizer.definition["added_tokens"]}
        writer.add_token_list([tokens.get(index, f"<gap {index}>") for index in range(tokenizer.vocab_size)])
        change(writer)
        for name, tensor in llama.state_dict().items():
            values = tensor.numpy()
            own = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm"}.get(name)
            if name == "lm_head.weight":
                continue
            if own is None:
                _, _, layer, part = name.removesuffix(".weight").split(".", 3)
                own = f"blk.{layer}.{_IN_LAYER[part]}"
                heads = {"self_attn.q_proj": HEADS, "self_attn.k_proj": KV_HEADS}.get(part)
                values = permuted(values, heads) if heads else values
            wide = values if values.ndim == 1 else values.astype(np.float16)
            writer.add_tensor(f"{own}.weight", np.ascontiguousarray(wide))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


def started(source: Source, kept: tuple[int, ...], options: StudentOptions = OPTIONS) -> Student:
    """A student that begins with these layers of the source."""
    student = Student(warm_shape(source.shape, len(kept), options, source.shape.vocab_size, 64)).eval()
    load(student, source, kept)
    return student


def changed_folder(folder: Path, tmp_path: Path, **config: Any) -> Path:
    """A copy of the folder whose configuration has other values."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    values = json.loads((copy / "config.json").read_text()) | config
    (copy / "config.json").write_text(json.dumps(values))
    return copy
