"""How many held-out prompts of the packaged templates have a near twin among those that are trained on.

    python benchmarks/bench_twins.py [--count 1000 5000 20000] [--seed 0] [--json]

Near twins share more than half of their runs of five words (the Jaccard index of the sets). The same prompts are
divided by their folded text, as all were before groups, by their template, which is their group, and by their topic.
The prompts that are collected without KD_PROMPTS_FILE are of no templates: they have one row, by their folded text.
"""

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bitnet_core.prompts.drawing import write
from bitnet_core.prompts.prompt import PACKAGED_PROMPTS, Prompt, load_prompts
from bitnet_core.prompts.templates import load_topics
from bitnet_core.tables import render_table
from bitnet_core.traces.split import is_heldout

_WORDS, _NEAR = 5, 0.5
_BY: dict[str, Callable[[Prompt], str]] = {
    "text": lambda prompt: prompt.folded_hash,
    "template": lambda prompt: prompt.side_hash,
    "topic": lambda prompt: replace(prompt, group=prompt.group.split()[0]).side_hash,
}


def runs(prompt: Prompt) -> frozenset[tuple[str, ...]]:
    """The runs of five words in all messages; a shorter prompt is one run."""
    words = re.findall(r"\w+", "\n".join(message["content"] for message in prompt.messages).casefold())
    return frozenset(tuple(words[start : start + _WORDS]) for start in range(max(1, len(words) - _WORDS + 1)))


def with_twin(sets: Sequence[frozenset[tuple[str, ...]]], held_out: Sequence[bool]) -> int:
    """How many of those held out have a near twin among the others."""
    trained: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, found in enumerate(sets):
        for run in () if held_out[place] else found:
            trained[run].append(place)
    count = 0
    for found, held in zip(sets, held_out, strict=True):
        common = Counter(place for run in found for place in trained[run]) if held else Counter[int]()
        count += any(n / (len(found) + len(sets[place]) - n) > _NEAR for place, n in common.items())
    return count


def measure(prompts: Sequence[Prompt], by: str) -> dict[str, Any]:
    held_out = [is_heldout(_BY[by](prompt)) for prompt in prompts]
    twins = with_twin([runs(prompt) for prompt in prompts], held_out)
    held = [prompt for prompt, is_held in zip(prompts, held_out, strict=True) if is_held]
    groups = {prompt.group for prompt in held if prompt.group}
    topics = {group.split()[0] for group in groups}
    return {
        "prompts": len(prompts),
        "by": by,
        "held_out": len(held),
        "with_twin": twins,
        "share": twins / max(1, len(held)),
        "templates": len(groups),
        "topics": len(topics),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, nargs="+", default=[1000, 5000], help="prompts drawn from the templates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [measure(load_prompts(None, PACKAGED_PROMPTS), "text")]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "prompts.jsonl"
        for count in arguments.count:
            write(path, load_topics(None), count, arguments.seed)
            prompts = load_prompts(path, "")
            rows += [measure(prompts, by) for by in _BY]
    if arguments.json:
        print(json.dumps(rows))
        return 0
    columns = ["prompts", "divided by", "held out", "with a near twin", "share", "templates", "topics"]
    cells = [list((row | {"share": f"{row['share']:.1%}"}).values()) for row in rows]
    print(render_table("near twins of held-out prompts", columns, cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
