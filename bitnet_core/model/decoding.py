"""Token ids in, new token ids out: one prefill with a KV cache, then one token at a time. It knows no text.

The student's weights should be quantised already (`pack_student`, or inside `Student.held_weights`); otherwise every
token quantises every weight again.

Shapes: N new tokens, V vocabulary, D hidden.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.model.cache import KVCache
from bitnet_core.model.next_logits import RecordedStep, replays
from bitnet_core.model.sampling import Decoding, next_token
from bitnet_core.model.student import Student
from bitnet_core.settings.values import Sampling

# Reading a token back from a GPU makes the host wait, so there the end token is looked for every few tokens, and
# what was decoded after it is dropped. On a CPU reading is free.
_STRIDE = {"cuda": 16}
FinishReason = Literal["eos", "length", "context"]


@dataclass(frozen=True)
class Generation:
    """New ids, the end token included if there is one. `decode_s` is the time of all tokens after the first."""

    ids: list[int]
    finish_reason: FinishReason
    prompt_tokens: int
    prefill_s: float
    decode_s: float

    @property
    def decode_tokens_per_s(self) -> float | None:
        """None without a second token to time."""
        steps = len(self.ids) - 1
        return steps / self.decode_s if steps > 0 and self.decode_s > 0 else None


@torch.inference_mode()
def generate_ids(
    student: Student,
    prompt_ids: Sequence[int],
    sampling: Sampling,
    *,
    eos_id: int | None = None,
    generator: torch.Generator | None = None,
    on_token: Callable[[], None] = lambda: None,
) -> Generation:
    """Continue one prompt up to the end token, `sampling.max_tokens`, or the end of the student's context.

    `generator` must be on the student's device; the same seed gives the same ids. `on_token` is called before each
    token after the first, and may raise to stop. BitnetError for an empty prompt and for one that is too long.
    """
    device = student.output_weight.device
    limit = student.config.max_position_embeddings
    require_readable(prompt_ids, limit)
    # The token after the last position can be predicted, but not read.
    room = limit - len(prompt_ids) + 1
    decoding = Decoding.of(sampling)
    steps = min(decoding.max_tokens, room)
    stride = _STRIDE.get(device.type, 1)
    length, dtype = len(prompt_ids) + steps - 1, student.output_weight.dtype
    cache = KVCache(student.config, max_len=length, device=device, dtype=dtype)
    new_ids_N = torch.empty(steps, dtype=torch.int64, device=device)
    seen_V: Tensor | None = None
    if decoding.repetition_penalty != 1:
        seen_V = torch.zeros(student.config.vocab_size, dtype=torch.bool, device=device)
        seen_V[list(prompt_ids)] = True
    started = _now(device)
    hidden_11D = student(torch.tensor([list(prompt_ids)], device=device), cache=cache)[:, -1:]
    new_ids_N[0] = next_token(student.logits(hidden_11D)[0, 0], decoding, generator, seen_V)
    prefilled = _now(device)
    recorded = RecordedStep(student, cache, new_ids_N.new_zeros(1)) if replays(device) else None
    made = 1
    while made < steps:
        if eos_id is not None and made % stride == 0 and bool((new_ids_N[made - stride : made] == eos_id).any()):
            break
        on_token()
        last_1 = new_ids_N[made - 1 : made]
        logits_1V = recorded(last_1) if recorded else student.logits(student(last_1[:, None], cache=cache))[:, 0]
        if seen_V is not None:
            seen_V.index_fill_(0, last_1, True)
        new_ids_N[made] = next_token(logits_1V[0], decoding, generator, seen_V)
        made += 1
    ended = _now(device)
    ids = new_ids_N[:made].tolist()
    finish: FinishReason = "length" if made == decoding.max_tokens else "context"
    if eos_id in ids:
        ids, finish = ids[: ids.index(eos_id) + 1], "eos"
    # Tokens decoded after the end took their share of the time.
    decode_s = (ended - prefilled) * (len(ids) - 1) / (made - 1) if made > 1 else 0.0
    return Generation(ids, finish, len(prompt_ids), prefilled - started, decode_s)


def require_readable(prompt_ids: Sequence[int], limit: int) -> None:
    """BitnetError for an empty prompt and for one that is longer than the student's context."""
    if not 0 < len(prompt_ids) <= limit:
        raise BitnetError(
            f"A prompt has {len(prompt_ids)} tokens and the student reads 1 to {limit}; shorten it, "
            "or train with a longer MAX_SEQ_LEN."
        )


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
