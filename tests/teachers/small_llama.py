"""A small Llama with random weights, for tests of the teacher that runs in this process."""

from pathlib import Path
from typing import Any

import torch
import transformers

from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.values import TeacherOptions
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.tokenizer.student import StudentTokenizer

K = 7
CPU = torch.device("cpu")
PADDED = 64
"""Logits beyond the tokenizer's vocabulary, as real models have."""


def model_folder(folder: Path, tokenizer: StudentTokenizer, *, seed: int = 0, **options: Any) -> Path:
    """Save the model; its distributions are peaked enough that a nucleus matters."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.vocab_size + PADDED,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        **{"bos_token_id": 1, "eos_token_id": 2, **options},
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(12)
        model.lm_head.weight.mul_(3)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder


def options_for(folder: Path | str, **values: str) -> TeacherOptions:
    chosen = {"TEACHER_PROVIDER": "hf", "TEACHER_MODEL": str(folder), "FORCE_CPU": "1", **values}
    return TeacherOptions.of(from_values(chosen))


def ask(says: str, seed: int = 0, temperature: float = 0.0, top_p: float = 1.0, most: int = 12) -> ChatRequest:
    return ChatRequest([{"role": "user", "content": says}], most, temperature, top_p, K, seed)
