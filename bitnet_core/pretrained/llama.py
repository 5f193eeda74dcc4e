"""A source as the model that it is: transformers' Llama with all of its weights, to teach with."""

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bitnet_core.pretrained.source import Source


@torch.no_grad()
def as_llama(source: Source, dtype: torch.dtype) -> Any:
    """The whole model, on the CPU. Its weights are read one at a time."""
    shape = source.shape
    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        max_position_embeddings=shape.max_position_embeddings,
        rms_norm_eps=shape.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=source.tied,
    )
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config).to(dtype)
    model.to_empty(device="cpu")
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    model.tie_weights()
    for name, parameter in model.named_parameters():
        parameter.copy_(source.read(name))
    return model.eval()
