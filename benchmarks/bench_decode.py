"""Greedy decoding: KV cache against recomputing everything, packed against unpacked weights, as ratios.

    python benchmarks/bench_decode.py [--preset nano] [--vocab 49152] [--prompt 32] [--tokens 32] [--rounds 5]

Every variant decodes the same tokens in this process, one after another in each round; the best round counts.
"Together" continues eight prompts at once, as `generate_batch` does, and counts the tokens of all. "Unpacked" is
the training student with its weights quantised once (`held_weights`); "quantised anew" is what decoding costs
without that. "Float" multiplies in fp32 where the others use whole numbers (`model/integers.py`). Weights are random:
time does not depend on them. Processor time is shown too, with one thread (OMP_NUM_THREADS=1) that of the work alone.
"""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator

import torch

from bitnet_core.model import integers
from bitnet_core.model.decoding import generate_ids
from bitnet_core.model.packing import pack_student, weight_bytes
from bitnet_core.model.presets import PRESETS, preset
from bitnet_core.model.rows import decode_rows
from bitnet_core.model.sampling import Decoding
from bitnet_core.model.student import Student
from bitnet_core.settings.values import Sampling

Decode = Callable[[Student, list[int], int], list[int]]
_ROWS = 8
Prepare = Callable[[Student], contextlib.AbstractContextManager[Student]]


@torch.inference_mode()
def recompute(student: Student, prompt: list[int], tokens: int) -> list[int]:
    """What a loop without a cache does: the whole context for every token."""
    ids = list(prompt)
    for _ in range(tokens):
        ids.append(int(student.logits(student(torch.tensor([ids]))[:, -1:])[0, 0].argmax()))
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
    usable = integers.usable
    integers.usable = lambda _x, _bits: False
    try:
        with held(student):
            yield student
    finally:
        integers.usable = usable


@contextlib.contextmanager
def held(student: Student) -> Iterator[Student]:
    with torch.no_grad(), student.held_weights():
        yield student


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", choices=PRESETS, default="nano")
    parser.add_argument("--vocab", type=int, default=49152)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(0)
    student = Student(preset(args.preset, args.vocab, max_positions=args.prompt + args.tokens)).eval()
    packed = pack_student(student)
    variants: dict[str, tuple[Decode, Prepare, Student]] = {
        "no cache, quantised anew": (recompute, as_it_is, student),
        "no cache, unpacked": (recompute, held, student),
        "KV cache, unpacked": (cached, held, student),
        "KV cache, packed": (cached, as_it_is, packed),
        "KV cache, unpacked, float": (cached, in_float, student),
        "KV cache, packed, float": (cached, in_float, packed),
        f"{_ROWS} together, packed": (together, as_it_is, packed),
    }
    prompt = torch.randint(args.vocab, (args.prompt,)).tolist()
    best = dict.fromkeys(variants, float("inf"))
    processor = dict.fromkeys(variants, float("inf"))
    for _ in range(args.rounds):
        for name, (run, preparing, model) in variants.items():
            with preparing(model) as ready:
                begin, used = time.perf_counter(), time.process_time()
                made = run(ready, prompt, args.tokens)
                best[name] = min(best[name], (time.perf_counter() - begin) / len(made))
                processor[name] = min(processor[name], (time.process_time() - used) / len(made))
    print(
        f"{args.preset}, vocabulary {args.vocab}, prompt {args.prompt}, {args.tokens} new tokens, "
        f"{torch.get_num_threads()} threads, best of {args.rounds}"
    )
    slowest = best["no cache, quantised anew"]
    for name, seconds in best.items():
        print(
            f"  {name:26s} {1 / seconds:9.1f} tokens/s   {slowest / seconds:6.1f}x   "
            f"{1000 * processor[name]:7.1f} ms of processor time a token"
        )
    unpacked_bytes = sum(4 * parameter.numel() for parameter in student.parameters())
    sizes = weight_bytes(packed)
    linears = 4 * sum(linear.weight.numel() for linear in student.bit_linears())
    print(f"  together / one by one       {best['KV cache, packed'] / best[f'{_ROWS} together, packed']:.2f}")
    print(f"  packed / unpacked speed     {best['KV cache, unpacked'] / best['KV cache, packed']:.2f}")
    print(
        f"  weights: {sizes['total'] / 1e6:.1f} MB packed, {unpacked_bytes / 1e6:.1f} MB unpacked; "
        f"linears alone {sizes['linears'] / 1e6:.2f} and {linears / 1e6:.2f} MB"
    )


if __name__ == "__main__":
    main()
