"""The ways to store a student as a GGUF: bytes, speed and memory in llama.cpp, by turns in one run.

    python benchmarks/bench_gguf.py [--preset smollm2-135m] [--layers 3] [--types TQ2_0 Q4_0]
                                    [--embeddings Q8_0 Q5_0] [--rounds 20] [--reorder]

A type whose blocks do not divide the student's rows stands here twice: with all rows widened by zeros, and with those
rows in Q4_0 (export/layout.py). `*` marks the file that an export would be. One answer at a time, one thread, tokens
per second of processor time, the median of the rounds; memory by the rule of `bitnet eval`. Weights are random: time
does not depend on them. With --reorder, llama.cpp may keep a second copy of weights, as it does by default.
"""

import argparse
import contextlib
import itertools
import statistics
import tempfile
from pathlib import Path

import torch

from bitnet_core.evaluation.llamacpp import CONTEXT_STEP, Served, served
from bitnet_core.export import gguf
from bitnet_core.export.blocks import EMBEDDING_TYPES, LINEAR_TYPES, Q4_0, Q8_0
from bitnet_core.export.layout import Layout, layout_for, layout_in_blocks
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.packing import pack_student
from bitnet_core.model.presets import preset
from bitnet_core.model.student import Student
from bitnet_core.settings.presets import PLANNED
from bitnet_core.teachers.embedded.files import ensure_files
from bitnet_core.tokenizer.load import load_tokenizer

_TOKENS = 48


def layouts(config: StudentConfig, types: list[str], embeddings: list[str]) -> dict[str, Layout]:
    """By name, each layout once."""
    found: dict[str, Layout] = {}
    for name, of_embedding in itertools.product(types, embeddings):
        linear, embedding = LINEAR_TYPES[name], EMBEDDING_TYPES[of_embedding]
        chosen = layout_for(config, linear, embedding)
        told = name if embedding is Q8_0 else f"{name}, embedding {of_embedding}"
        for block, way in ((linear.weights, "widened"), (Q4_0.weights, "others in Q4_0")):
            layout = layout_in_blocks(config, linear, embedding, block)
            fits = config.hidden_size % linear.weights == 0 == config.intermediate_size % linear.weights
            found[told if fits else f"{told}, {way}{'*' if layout == chosen else ''}"] = layout
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", choices=PLANNED, default="smollm2-135m")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--types", nargs="+", choices=list(LINEAR_TYPES), default=["TQ2_0", "Q4_0", "Q2_0"])
    parser.add_argument("--embeddings", nargs="+", choices=list(EMBEDDING_TYPES), default=[Q8_0.name])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--reorder", action="store_true")
    args = parser.parse_args()
    tokenizer = load_tokenizer(ensure_files().tokenizer_dir)
    torch.manual_seed(0)
    config = preset(args.preset, tokenizer.vocab_size, layers=args.layers, max_positions=512)
    student = pack_student(Student(config).eval())
    models: dict[str, Served] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for number, (name, layout) in enumerate(layouts(config, args.types, args.embeddings).items()):
            path = Path(folder) / f"{number}.gguf"
            gguf.write_as(layout, student, tokenizer, path)
            models[name] = stack.enter_context(served(path, CONTEXT_STEP, 1, lambda: None, reorder=args.reorder))
        prompt = list(range(1000, 1032))
        speeds: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(args.rounds + 1):
            for name, model in models.items():
                speeds[name].append(model.turn(prompt, _TOKENS, 1).by_processor)
        first = 0.0
        print(f"{args.preset}, {args.layers} layers, {args.rounds} rounds, second copy: {args.reorder}")
        for name, model in models.items():
            speed, memory = statistics.median(speeds[name][1:]), model.memory()
            first = first or speed
            sizes = f"{memory.weights / 1e6:7.1f} MB   {memory.deployed / 1e6:7.1f} MB in memory"
            print(f"  {name:42s} {sizes}   {speed:7.1f} tokens/s   {speed / first:5.2f}x")


if __name__ == "__main__":
    main()
