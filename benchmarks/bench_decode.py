"""Greedy decoding: KV cache against recomputing everything, packed against unpacked weights, as ratios.

    python benchmarks/bench_decode.py [--preset nano] [--vocab 49152] [--prompt 32] [--tokens 32] [--rounds 5]
                                      [--device cpu] [--only TEXT …]

Every variant decodes the same tokens in this process, one after another in each round; the best round counts.
"Together" continues eight prompts at once, as `generate_batch` does, and counts the tokens of all. "Unpacked" is
the training student with its weights quantised once (`held_weights`); "quantised anew" is what decoding costs
without that. "Float" multiplies in fp32 where the others use whole numbers (`model/integers.py`). Weights are random:
time does not depend on them. Processor time is shown too, with one thread (OMP_NUM_THREADS=1) that of the work alone.

"GGUF in llama.cpp" is the student exported as TQ2_0, in a process of its own, with as many threads. Its tokens/s are
those of decoding alone; the other rows include reading the prompt. It has the embedded teacher's tokenizer, which is
downloaded if it is missing; with another --vocab the row is left out.

Without a cache the whole context is computed again for every token, so the longer it is the more a cache gains.
`--only GGUF` times nothing but that row and the slowest. On a GPU the step of one token is recorded once and replayed
(`model/next_logits.py`) in the rows with a cache.
"""

import argparse
import contextlib
import copy
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from bitnet_core.evaluation.llamacpp import CONTEXT_STEP, Served, served
from bitnet_core.export import gguf
from bitnet_core.model import integers
from bitnet_core.model.decoding import generate_ids
from bitnet_core.model.packing import pack_student, weight_bytes
from bitnet_core.model.presets import preset
from bitnet_core.model.rows import decode_rows
from bitnet_core.model.sampling import Decoding
from bitnet_core.model.student import Student
from bitnet_core.settings.presets import PLANNED
from bitnet_core.settings.values import Sampling
from bitnet_core.teachers.embedded.files import ensure_files
from bitnet_core.tokenizer.load import load_tokenizer

Decode = Callable[[Student, list[int], int], list[int]]
_ROWS = 8
_GGUF, _NO_CACHE, _CACHED = "GGUF in llama.cpp", "no cache, quantised anew", "KV cache, unpacked"
_PACKED, _TOGETHER = "KV cache, packed", f"{_ROWS} together, packed"
_ANSWERS = 3
Prepare = Callable[[Student], contextlib.AbstractContextManager[Student]]


@torch.inference_mode()
def recompute(student: Student, prompt: list[int], tokens: int) -> list[int]:
    """What a loop without a cache does: the whole context for every token."""
    ids = list(prompt)
    for _ in range(tokens):
        ids_1T = torch.tensor([ids], device=student.output_weight.device)
        ids.append(int(student.logits(student(ids_1T)[:, -1:])[0, 0].argmax()))
    return ids[len(prompt) :]


def cached(student: Student, prompt: list[int], tokens: int) -> list[int]:
    return generate_ids(student, prompt, Sampling(max_tokens=tokens)).ids


def together(student: Student, prompt: list[int], tokens: int) -> list[int]:
    """Prompts of different lengths, so that rows are padded."""
    prompts = [prompt[row:] for row in range(_ROWS)]
    made = decode_rows(student, prompts, Decoding(max_tokens=tokens), seeds=range(_ROWS))
    return [index for ids in made for index in ids]


@contextlib.contextmanager
def as_it_is(student: Student) -> Iterator[Student]:
    yield student


@contextlib.contextmanager
def in_float(student: Student) -> Iterator[Student]:
    """Without products in whole numbers."""
    with integers.left_out(), held(student):
        yield student


@contextlib.contextmanager
def held(student: Student) -> Iterator[Student]:
    with torch.no_grad(), student.held_weights():
        yield student


@contextlib.contextmanager
def in_llamacpp(packed: Student, positions: int) -> Iterator[Served | None]:
    """The student's GGUF, loaded; None where the tokenizer is not of its size."""
    tokenizer = load_tokenizer(ensure_files().tokenizer_dir)
    if tokenizer.vocab_size != packed.config.vocab_size:
        yield None
        return
    context = -(-(positions + 2) // CONTEXT_STEP) * CONTEXT_STEP
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student.gguf"
        gguf.write(packed, tokenizer, path)
        with served(path, context, torch.get_num_threads(), lambda: None) as model:
            yield model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", choices=PLANNED, default="nano")
    parser.add_argument("--vocab", type=int, default=49152)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cuda, for instance; the GGUF stays on the processor")
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="rows whose name has one of these")
    args = parser.parse_args()
    torch.manual_seed(0)
    student = Student(preset(args.preset, args.vocab, max_positions=args.prompt + args.tokens + CONTEXT_STEP)).eval()
    student.to(args.device)
    packed = pack_student(student)
    variants: dict[str, tuple[Decode, Prepare, Student]] = {
        _NO_CACHE: (recompute, as_it_is, student),
        "no cache, unpacked": (recompute, held, student),
        _CACHED: (cached, held, student),
        _PACKED: (cached, as_it_is, packed),
        "KV cache, unpacked, float": (cached, in_float, student),
        "KV cache, packed, float": (cached, in_float, packed),
        _TOGETHER: (together, as_it_is, packed),
    }
    prompt = torch.randint(args.vocab, (args.prompt,)).tolist()
    wanted = [name for name in (*variants, _GGUF) if name == _NO_CACHE or any(text in name for text in args.only)]
    variants = {name: one for name, one in variants.items() if name in wanted}
    names = [*variants, _GGUF]
    best = dict.fromkeys(names, float("inf"))
    processor = dict.fromkeys(names, float("inf"))
    with in_llamacpp(copy.deepcopy(packed).cpu(), args.prompt + args.tokens) as in_own_process:
        for _ in range(args.rounds):
            for name, (run, preparing, model) in variants.items():
                with preparing(model) as ready:
                    begin, used = time.perf_counter(), time.process_time()
                    made = run(ready, prompt, args.tokens)
                    best[name] = min(best[name], (time.perf_counter() - begin) / len(made))
                    processor[name] = min(processor[name], (time.process_time() - used) / len(made))
            if in_own_process is not None and _GGUF in wanted:
                speed = in_own_process.turn(prompt, args.tokens, _ANSWERS)
                best[_GGUF] = min(best[_GGUF], 1 / speed.by_wall)
                processor[_GGUF] = min(processor[_GGUF], 1 / speed.by_processor)
    if math.isinf(best[_GGUF]):
        del best[_GGUF]
    print(
        f"{args.preset}, vocabulary {args.vocab}, prompt {args.prompt}, {args.tokens} new tokens, "
        f"{args.device}, {torch.get_num_threads()} threads, best of {args.rounds}"
    )
    slowest = best[_NO_CACHE]
    for name, seconds in best.items():
        print(
            f"  {name:26s} {1 / seconds:9.1f} tokens/s   {slowest / seconds:6.1f}x   "
            f"{1000 * processor[name]:7.1f} ms of processor time a token   "
            f"{processor[_NO_CACHE] / processor[name]:6.1f}x"
        )
    unpacked_bytes = sum(4 * parameter.numel() for parameter in student.parameters())
    sizes = weight_bytes(packed)
    linears = 4 * sum(linear.weight.numel() for linear in student.bit_linears())
    if {_CACHED, _PACKED, _TOGETHER} <= best.keys():
        print(f"  together / one by one       {best[_PACKED] / best[_TOGETHER]:.2f}")
        print(f"  packed / unpacked speed     {best[_CACHED] / best[_PACKED]:.2f}")
    print(
        f"  weights: {sizes['total'] / 1e6:.1f} MB packed, {unpacked_bytes / 1e6:.1f} MB unpacked; "
        f"linears alone {sizes['linears'] / 1e6:.2f} and {linears / 1e6:.2f} MB"
    )


if __name__ == "__main__":
    main()
