"""Whether the student is compiled for a training, and what has to be ready for that. It compiles nothing itself."""

import importlib.util
import math
from dataclasses import replace

import torch

from bitnet_core.model.precision import missing_compiler, prepare_compiler
from bitnet_core.settings.flip import decide
from bitnet_core.settings.values import TrainOptions
from bitnet_core.training.batches import Sampler

LEAST_BATCHES = 1_000
"""A shorter training ends sooner without the compiler, which takes a minute before the first step and another after
the flip (`mini` with 12 layers, on an H200). A batch of that student then takes 0.29 s less where the GPU is full (32
rows of 1,024, from 0.41 s), and about 0.14 s less where it waits for launches (16 rows of 512, from 0.20 s): 120 s
are won back in 400 to 860 batches. Compiling and launching both grow with the layers, so this holds for other depths.
"""
_LEAST_CAPABILITY = 7
"""Triton, which writes the kernels, needs a GPU of this generation."""


def prepared(options: TrainOptions, device: torch.device, sampler: Sampler) -> TrainOptions:
    """The options with `compiled` decided. Where that is so, the compiler is ready and all batches have one shape.

    By default a student is compiled on a GPU that can, for a training of `LEAST_BATCHES`: all of it, not what is left
    after a resume, which goes on as it began. BitnetError where it is asked for and there is no C++ compiler.
    """
    compiled = options.compiled
    if compiled is None:
        compiled = device.type == "cuda" and _batches(options, sampler) >= LEAST_BATCHES and not lacking(device)
    if compiled:
        prepare_compiler()
        sampler.shape = (options.batch_size, options.max_seq_len)
    return replace(options, compiled=compiled)


def lacking(device: torch.device) -> str:
    """What a GPU's student can't be compiled without, as a clause; empty where nothing is lacking."""
    if compiler := missing_compiler():
        return f"there is no C++ compiler ({compiler})"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if torch.version.hip is None and torch.cuda.get_device_capability(device)[0] < _LEAST_CAPABILITY:
        return f"{torch.cuda.get_device_name(device)} is too old for triton"
    return ""


def _batches(options: TrainOptions, sampler: Sampler) -> float:
    """How many batches the whole training reads."""
    tokens = decide(options.flip, sampler.supervised, {}).tokens
    most = math.inf if options.total_steps is None else options.total_steps * options.accumulate
    return min(math.ceil(tokens / sampler.mean_supervised), most)
