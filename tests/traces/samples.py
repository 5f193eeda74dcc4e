"""A small real byte-level BPE tokenizer and teacher steps made with it, for tests without the embedded teacher."""

import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from bitnet_core.tokenizer.steps import TeacherStep, TokenTable
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces.answer import check_answer
from bitnet_core.traces.project import Projection, project
from bitnet_core.traces.vocabulary import Vocabulary
from tests.builders import completion_of_steps

END = "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEXT = [
    'The rain in Spain stays mainly in the plain, and {"name": "Alice", "age": 30} is some JSON for you.',
    "the there then these them thesis rain rains raining explain plains naïve café 東京 東 京都 🌧 🌧🌧 🌪",
    "a aa aaa aaaa ab aba abab ababab the thethe there  there   there \n\n\n 1 22 333",
] * 20


@functools.cache
def small_tokenizer() -> StudentTokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<|endoftext|>", "<|im_start|>", END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    return StudentTokenizer(tokenizer, special_tokens={"eos_token": END}, template=TEMPLATE, name="small")


def with_template(tokenizer: StudentTokenizer, template: str) -> StudentTokenizer:
    return StudentTokenizer(
        tokenizer._tokenizer, special_tokens=tokenizer.special_tokens, template=template, name=tokenizer.name
    )


@dataclass(frozen=True)
class Row:
    """What supervises one student token; candidates most likely first."""

    stream_pos: int
    step_idx: int
    topk_ids: tuple[int, ...]
    topk_logprobs: tuple[float, ...]
    other_logprob: float


def rows_of(projection: Projection) -> list[Row]:
    """A projection's rows one by one."""
    rows = []
    for row in range(len(projection)):
        count = projection.counts_R[row]
        assert (projection.topk_ids_RK[row, count:] == -1).all()
        assert np.isneginf(projection.topk_logprobs_RK[row, count:]).all()
        rows.append(
            Row(
                int(projection.stream_pos_R[row]),
                int(projection.step_idx_R[row]),
                tuple(projection.topk_ids_RK[row, :count].tolist()),
                tuple(projection.topk_logprobs_RK[row, :count].tolist()),
                float(projection.other_R[row]),
            )
        )
    return rows


def projected(steps: Sequence[TeacherStep], finish_reason: str, tokenizer: StudentTokenizer) -> Projection:
    """Project single steps, with a table of their own."""
    vocabulary = Vocabulary(tokenizer, TokenTable())
    return project(check_answer(completion_of_steps(steps, vocabulary.table), vocabulary), finish_reason, vocabulary)


def random_cut(data: bytes, tokenizer: StudentTokenizer, draw: random.Random) -> list[int]:
    """Ids of vocabulary tokens that join to `data`, cut at random rather than as the tokenizer would."""
    ids: list[int] = []
    place = 0
    longest = max(map(len, tokenizer.ids_by_bytes))
    while place < len(data):
        fitting = [
            data[place : place + size]
            for size in range(1, min(longest, len(data) - place) + 1)
            if data[place : place + size] in tokenizer.ids_by_bytes
        ]
        token = draw.choice(fitting)
        ids.append(tokenizer.ids_by_bytes[token])
        place += len(token)
    return ids


def steps_for(
    ids: Sequence[int], tokenizer: StudentTokenizer, draw: random.Random, *, top_k: int = 5, in_top: float = 1.0
) -> tuple[TeacherStep, ...]:
    """Steps that sampled `ids`; each token is among its candidates with probability `in_top`."""
    return tuple(_step(index, tokenizer, draw, top_k, draw.random() < in_top) for index in ids)


def _step(index: int, tokenizer: StudentTokenizer, draw: random.Random, top_k: int, in_top: bool) -> TeacherStep:
    ordinary = sorted(tokenizer.ids_by_bytes.values())
    others = [other for other in draw.sample(ordinary, top_k + 1) if other != index][:top_k]
    if in_top:
        others[draw.randrange(top_k)] = index
    weights = sorted((draw.random() + 1e-6 for _ in range(top_k + 2)), reverse=True)
    logprobs = [math.log(weight / sum(weights)) for weight in weights]
    return TeacherStep(
        token_id=index,
        data=tokenizer.text_bytes(index),
        logprob=logprobs[others.index(index)] if in_top else logprobs[-1],
        top_ids=tuple(others),
        top_bytes=tuple(tokenizer.text_bytes(other) for other in others),
        top_logprobs=tuple(logprobs[:top_k]),
    )
