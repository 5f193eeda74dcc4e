"""`bitnet answer student`: the student in this process, loaded once. Heavy: imported when the command runs.

Shapes: N new tokens, K candidates, V vocabulary.
"""

import argparse
import time
from typing import Any

import torch
from torch import Tensor

from bitnet_core.cli.answering import Inbox, Request, emit, token
from bitnet_core.cli.students import student_at
from bitnet_core.errors import BitnetError
from bitnet_core.model.config import told_bits
from bitnet_core.model.decoding import require_readable
from bitnet_core.model.generation import generate_batch
from bitnet_core.model.precision import pick_device
from bitnet_core.model.sampling import Decoding
from bitnet_core.settings.values import DeviceOptions


class _Stop(Exception):
    """Raised inside an answer once its reader no longer wants it."""


class Answering:
    """A student that answers requests."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        source = student_at(arguments, arguments.student)
        self._student, self._tokenizer = source.student, source.tokenizer
        device = pick_device(DeviceOptions.of(source.experiment.settings))
        self._student.to(device)
        self._trained_bits = self._student.layer_bits
        emit(
            "side",
            None,
            side="student",
            name=source.name if source.checkpoint.step else f"{source.name} (not trained)",
            where=f"PyTorch, {device}",
            logprobs="yes",
            bits=told_bits(self._trained_bits),
            price=None,
            hosted=False,
        )

    def answer(self, request: Request, inbox: Inbox) -> None:
        """Tell one answer, token by token. BitnetError for a prompt that the template or the context can't take."""
        if request.bits is None:
            self._student.set_layer_bits(self._trained_bits)
        else:
            self._student.activation_bits = request.bits
        if request.follow:
            self._follow(request)
            return
        made: list[float] = []
        finish = "length"

        def on_token(_row: int, index: int, logits_V: Tensor) -> None:
            nonlocal finish
            if inbox.stopped.is_set():
                raise _Stop
            made.append(time.perf_counter())
            emit("tokens", request.id, tokens=[self._token(index, logits_V, request.top)], tokens_per_s=_rate(made))
            if index == self._tokenizer.eos_id:
                finish = "stop"

        try:
            generate_batch(
                self._student,
                self._tokenizer,
                [request.messages],
                Decoding(max_tokens=request.max_tokens, temperature=request.temperature),
                seeds=[request.seed],
                on_text=lambda _row, text: emit("text", request.id, text=text),
                on_token=on_token,
            )
        except _Stop:
            finish = "stopped"
        emit("end", request.id, finish_reason=finish, tokens=len(made), tokens_per_s=_rate(made))

    @torch.inference_mode()
    def _follow(self, request: Request) -> None:
        """The candidates along a given text, each computed behind the prompt and the text before it."""
        prompt = list(self._tokenizer.encode_prompt(request.messages).ids)
        ids = self._tokenizer.encode_bytes(request.follow)
        limit = self._student.config.max_position_embeddings
        require_readable(prompt, limit)
        ids = ids[: limit - len(prompt) + 1]
        device = self._student.output_weight.device
        with self._student.held_weights():
            hidden_1TD = self._student(torch.tensor([(prompt + ids)[: len(prompt) + len(ids) - 1]], device=device))
            logits_NV = self._student.logits(hidden_1TD[0, len(prompt) - 1 :])
        tokens = [self._token(index, logits_V, request.top) for index, logits_V in zip(ids, logits_NV, strict=True)]
        emit("followed", request.id, tokens=tokens)

    def _token(self, index: int, logits_V: Tensor, top: int) -> dict[str, Any]:
        """The token with the likeliest others, at temperature 1 over the whole vocabulary."""
        logprobs_V = torch.log_softmax(logits_V.float(), dim=-1)
        values_K, ids_K = logprobs_V.topk(min(top, logprobs_V.shape[-1]))
        likeliest = zip(map(self._bytes, ids_K.tolist()), values_K.tolist(), strict=True)
        return token(self._bytes(index), float(logprobs_V[index]), list(likeliest))

    def _bytes(self, index: int) -> bytes:
        return self._tokenizer.text_bytes(index)


def answer(arguments: argparse.Namespace, inbox: Inbox) -> None:
    """Answer until stdin ends. BitnetError if there is no student that can be read."""
    answering = Answering(arguments)
    for request in inbox.requests():
        try:
            answering.answer(request, inbox)
        except BitnetError as error:
            emit("error", request.id, problem=str(error))


def _rate(made: list[float]) -> float | None:
    """Tokens a second after the first one, which waits for the prompt to be read."""
    seconds = made[-1] - made[0] if made else 0.0
    return (len(made) - 1) / seconds if seconds > 0 else None
