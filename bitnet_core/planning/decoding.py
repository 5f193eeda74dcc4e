"""How fast the finished student will decode in llama.cpp: timed with random weights, which changes no time.

A student of more than four layers is timed with one layer and with four, by turns, and the seconds of a token are
taken as linear in the layers. The vocabulary is a stand-in of the right size: no text is read or written.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from bitnet_core import __version__
from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.llamacpp import CONTEXT_STEP, Served, served
from bitnet_core.evaluation.turns import fastest, take_turns
from bitnet_core.export import gguf
from bitnet_core.files.scratch import scratch_folder
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.packing import pack_student
from bitnet_core.model.student import Student
from bitnet_core.planning import timings
from bitnet_core.text import size
from bitnet_core.tokenizer.student import StudentTokenizer

TYPE = "TQ2_0"
_WHOLE_LAYERS, _DEPTHS = 4, (1, 4)
_PROMPT, _TOKENS = 16, 32
_SECONDS = 4.0
"""The longest time for the turns."""
_COPIES = 3
"""Of the fp32 weights: the student, its packed form and the file's tensors."""
_END = "<|end|>"


def token_seconds(config: StudentConfig, free_bytes: int, *, again: bool) -> dict[str, Any]:
    """`tokens_per_s` and how it was timed, from the cache if this machine has timed the same before; or `missing`."""
    layers = config.num_hidden_layers
    depths = (layers,) if layers <= _WHOLE_LAYERS else _DEPTHS
    shapes = [replace(config, num_hidden_layers=depth) for depth in depths]
    needed = 4 * _COPIES * shapes[-1].parameters()
    if needed > free_bytes // 2:
        return {"missing": f"its layers need {size(needed)}, more than half of what is free"}
    key, cached = _key(config), timings.kept(timings.DECODING)
    if key in cached and not again:
        return {**cached[key], "cached": True}
    try:
        seconds, where = _timed(shapes)
    except BitnetError as error:
        return {"missing": str(error).rstrip(".")}
    found = {
        "tokens_per_s": 1 / timings.at_depth(layers, depths, seconds),
        "how": f"llama.cpp, {TYPE}, {where}",
        "timed_layers": list(depths),
        "load": os.getloadavg()[0],
        "at": time.time(),
    }
    timings.keep(cached | {key: found}, timings.DECODING)
    return {**found, "cached": False}


def _timed(shapes: list[StudentConfig]) -> tuple[list[float], str]:
    """Seconds of a token of each shape, of one thread's time on processors and of the clock's on a GPU; and where."""
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(_running(shape)) for shape in shapes]
        device = running[0].about["device"]
        turns = take_turns([_turn(model, device) for model in running], time.monotonic, _SECONDS)
    return [1 / fastest(values).speed for values in turns], device or "1 thread, processor time"


@contextlib.contextmanager
def _running(shape: StudentConfig) -> Iterator[Served]:
    torch.manual_seed(0)
    with scratch_folder("plan") as folder:
        path = folder / "student.gguf"
        gguf.write(pack_student(Student(shape).eval()), _tokenizer(shape.vocab_size), path, TYPE)
        with served(path, CONTEXT_STEP, 1, lambda: None) as model:
            yield model


def _turn(model: Served, device: str | None) -> Callable[[], float]:
    def take() -> float:
        speed = model.turn([0] * _PROMPT, _TOKENS, 1)
        return speed.by_wall if device else speed.by_processor

    take()  # it also touches the weights and reads the prompt
    return take


def _tokenizer(vocabulary: int) -> StudentTokenizer:
    """Byte-level, with tokens that no text has."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[: vocabulary - 1]
    tokens = [_END, *alphabet, *(f"[{index}]" for index in range(vocabulary - 1 - len(alphabet)))]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([_END])
    return StudentTokenizer(tokenizer, special_tokens={"eos_token": _END}, template="", name="a stand-in")


def _key(config: StudentConfig) -> str:
    """Identifies the machine, this program and the shape."""
    machine = [os.uname().nodename, os.cpu_count(), __version__]
    return timings.key_of([machine, TYPE, config.to_dict()])
