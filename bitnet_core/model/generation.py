"""A student's answer to a prompt, as text. The ids behind it are made in `decoding`."""

from collections.abc import Callable, Sequence

import torch

from bitnet_core.errors import BitnetError
from bitnet_core.model.decoding import generate_ids
from bitnet_core.model.student import Student
from bitnet_core.settings.values import Sampling
from bitnet_core.tokenizer.chat_template import Message
from bitnet_core.tokenizer.student import StudentTokenizer


def generate(
    student: Student,
    tokenizer: StudentTokenizer,
    prompt: str | Sequence[Message],
    *,
    max_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    on_token: Callable[[], None] = lambda: None,
) -> str:
    """Answer one prompt with a student, at its present activation bits, and return the text.

    `prompt` is what a user says, or a whole conversation as messages ({"role": …, "content": …}); it is rendered with
    the tokenizer's chat template. The answer ends with the tokenizer's end token, after `max_tokens` tokens, or where
    the student's context ends. Temperature 0 takes the most likely token each time; above it, `top_p` keeps the
    smallest set of tokens that holds so much probability, and `seed` decides the draw. `on_token` is called before
    each token after the first, and may raise to stop.

    Raises BitnetError when the tokenizer is not the student's or the prompt doesn't fit into its context.
    """
    if tokenizer.vocab_size != student.config.vocab_size:
        raise BitnetError(
            f"The tokenizer {tokenizer.name} has {tokenizer.vocab_size} tokens and the student "
            f"{student.config.vocab_size}; use the tokenizer that the student was trained with."
        )
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    prompt_ids = tokenizer.encode_prompt(messages).ids
    generator = torch.Generator(student.output_weight.device).manual_seed(seed)
    with student.held_weights():
        made = generate_ids(
            student,
            prompt_ids,
            Sampling(max_tokens=max_tokens, temperature=temperature, top_p=top_p),
            eos_id=tokenizer.eos_id,
            generator=generator,
            on_token=on_token,
        )
    return tokenizer.decode(made.ids)
