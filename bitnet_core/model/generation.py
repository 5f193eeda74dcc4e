"""A student's answers to prompts, as text. The ids behind them are made in `rows`."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.model.rows import decode_rows
from bitnet_core.model.sampling import Decoding
from bitnet_core.model.student import Student
from bitnet_core.model.text_stream import TextStream
from bitnet_core.tokenizer.chat_template import Message
from bitnet_core.tokenizer.student import StudentTokenizer

Prompt = str | Sequence[Message]
"""What a user says, or a whole conversation as messages ({"role": …, "content": …})."""
OnToken = Callable[[int, int, Tensor], None]
"""Called with the number of the prompt, a new id, and the logits [V] it was chosen by; may raise to stop."""


def generate(
    student: Student,
    tokenizer: StudentTokenizer,
    prompt: Prompt,
    *,
    max_tokens: int = 256,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    stop: Sequence[str] = (),
    seed: int = 0,
    on_text: Callable[[str], None] = lambda _text: None,
) -> str:
    """Answer one prompt with a student, at its present activation bits, and return the text.

    The prompt is rendered with the tokenizer's chat template. The answer ends with the tokenizer's end token,
    before a `stop` string, after `max_tokens` tokens, or where the student's context ends. Temperature 0 takes
    the most likely token each time; above it `seed` decides the draw among those that `top_k`, `top_p` and
    `min_p` leave. A `repetition_penalty` above 1 makes tokens of the prompt and of the answer less likely.
    `on_text` is called with the text as it grows, and may raise to stop.

    Raises BitnetError when the tokenizer is not the student's or the prompt doesn't fit into its context, and
    UsageError for a value out of range.
    """
    decoding = Decoding(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
    )
    (text,) = generate_batch(
        student, tokenizer, [prompt], decoding, stop=stop, seeds=[seed], on_text=lambda _row, text: on_text(text)
    )
    return text


def require_own_tokenizer(student: Student, tokenizer: StudentTokenizer) -> None:
    """BitnetError for a tokenizer of another size than the student's vocabulary."""
    if tokenizer.vocab_size != student.config.vocab_size:
        raise BitnetError(
            f"The tokenizer {tokenizer.name} has {tokenizer.vocab_size} tokens and the student "
            f"{student.config.vocab_size}; use the tokenizer that the student was trained with."
        )


def generate_batch(
    student: Student,
    tokenizer: StudentTokenizer,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    *,
    stop: Sequence[str] = (),
    seeds: Sequence[int],
    on_text: Callable[[int, str], None],
    on_token: OnToken = lambda _row, _id, _logits_V: None,
) -> list[str]:
    """Answer several prompts together, with a seed for each; see `generate` and `decode_rows`.

    `on_text` is called with the number of the prompt and the text as it grows, `on_token` before it with each token.
    """
    require_own_tokenizer(student, tokenizer)
    streams = [TextStream(stop) for _ in prompts]

    def on_id(row: int, index: int, logits_V: Tensor) -> bool:
        on_token(row, index, logits_V)
        show(row, tokenizer.text_bytes(index))
        return not streams[row].stopped

    def show(row: int, data: bytes, *, last: bool = False) -> None:
        if text := streams[row].feed(data, last=last):
            on_text(row, text)

    ids = [tokenizer.encode_prompt(_messages(prompt)).ids for prompt in prompts]
    with torch.no_grad(), student.held_weights():
        decode_rows(student, ids, decoding, seeds=seeds, eos_id=tokenizer.eos_id, on_id=on_id)
    for row in range(len(prompts)):
        show(row, b"", last=True)
    return [stream.text for stream in streams]


def _messages(prompt: Prompt) -> Sequence[Message]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
