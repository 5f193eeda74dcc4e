"""Draws prompts from templates with a seed, and writes them to a prompts file.

The fillings of a template are visited in the order of a small cipher. A shuffled list of their numbers can't replace
it: some packaged templates have 10^15 fillings, and shuffling the numbers of 10 million takes 20 s and 0.4 GB
(`n = list(range(10**7)); random.Random(1).shuffle(n)`), even for a user who wants 100 prompts.
"""

import hashlib
import itertools
import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.files.writable import writing
from bitnet_core.prompts.files import GROUP
from bitnet_core.prompts.prompt import DIGEST_BYTES
from bitnet_core.prompts.templates import Template, Topic
from bitnet_core.text import size

_ROUNDS = 4
_SUFFIXES = (".jsonl", ".ndjson")
_MOST = 5_000_000
"""Most prompts of one call. The set of their digests takes 0.47 GB."""
_SAMPLE = 200
_NAME_DIGITS = 8
"""Of a template's hash, in the name of its group."""


def generate(topics: Sequence[Topic], count: int, seed: int) -> Iterator[dict[str, Any]]:
    """`count` different prompts, as objects of a prompts file.

    The same seed gives the same prompts, and a smaller count gives the first of them. Topics are drawn by weight and
    their templates evenly, until all their fillings are used. A prompt's group is its template: fillings of one are
    often near twins, and a tenth of the topics would be too few to measure on. BitnetError when the templates make
    fewer prompts.
    """
    if count > _MOST:
        raise BitnetError(
            f"{count} prompts are too many for one call; ask for {_MOST} or fewer, several times with other seeds."
        )
    possible = sum(topic.size for topic in topics)
    if count > possible:
        raise _too_many(count, possible)
    draw = random.Random(f"prompts:{seed}")  # only its random() is used, which is the same in every Python
    left = {
        topic.name: [_Walk(topic.name, template, draw.random()) for template in topic.templates] for topic in topics
    }
    weights = {topic.name: topic.weight for topic in topics}
    seen: set[bytes] = set()
    while len(seen) < count:
        if not left:
            raise _too_many(count, len(seen))
        name = _weighted(draw, {name: weights[name] for name in left})
        walks = left[name]
        walk = walks[int(draw.random() * len(walks))]
        prompt = walk.step()
        if walk.done:
            walks.remove(walk)
            if not walks:
                del left[name]
        # Two fillings may give the same text ("a" + "bc", "ab" + "c").
        digest = hashlib.sha256(json.dumps(prompt).encode()).digest()[:DIGEST_BYTES]
        if digest not in seen:
            seen.add(digest)
            yield prompt | {GROUP: walk.group}


def write(path: Path, topics: Sequence[Topic], count: int, seed: int) -> None:
    """Write a complete prompts file or nothing. BitnetError for a wrong name, too little space, too few prompts."""
    if not path.name.lower().endswith(_SUFFIXES):
        raise BitnetError(
            f"{path} would hold JSON lines, but its name means another format; "
            f"name it {path.with_suffix(_SUFFIXES[0]).name}."
        )
    made = (json.dumps(prompt, ensure_ascii=False) + "\n" for prompt in generate(topics, count, seed))
    sample = list(itertools.islice(made, _SAMPLE))
    wanted = sum(len(line.encode()) for line in sample) * count // max(1, len(sample))
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(existing).free
    if wanted > free:
        raise BitnetError(
            f"{count} prompts take about {size(wanted)}, and {existing} has {size(free)} free; "
            "ask for fewer, or choose another place."
        )
    with writing(path), files.atomic_path(path) as temp, temp.open("w", encoding="utf-8") as out:
        out.writelines(itertools.chain(sample, made))


def _too_many(count: int, possible: int) -> BitnetError:
    return BitnetError(
        f"These templates make {possible} different prompts, but you asked for {count}; ask for fewer, choose more "
        "topics or write more templates."
    )


def _weighted(draw: random.Random, weights: Mapping[str, float]) -> str:
    place = draw.random() * sum(weights.values())
    for name, weight in weights.items():
        place -= weight
        if place < 0:
            return name
    return name


class _Walk:
    """Visits each filling of a template once, in an order that looks random and takes no memory."""

    def __init__(self, topic: str, template: Template, key: float) -> None:
        self._template = template
        text = json.dumps([template.system, template.turns])
        self.group = f"{topic} {hashlib.sha256(text.encode()).hexdigest()[:_NAME_DIGITS]}"
        self._key = repr(key)
        self._next = 0
        self._half = max(1, -(-(template.size - 1).bit_length() // 2))
        """Bits of each half of a filling's number."""

    @property
    def done(self) -> bool:
        return self._next == self._template.size

    def step(self) -> dict[str, Any]:
        number = self._permuted(self._next)
        while (
            number >= self._template.size
        ):  # cycle walking: repeat until the number is in range again; the result is still a permutation
            number = self._permuted(number)
        self._next += 1
        return self._template.fill(number)

    def _permuted(self, number: int) -> int:
        """A Feistel network: a permutation of the numbers of two halves, whatever its round function gives."""
        mask = (1 << self._half) - 1
        left, right = number >> self._half, number & mask
        for turn in range(_ROUNDS):
            mixed = hashlib.blake2b(f"{self._key}:{turn}:{right}".encode(), digest_size=-(-self._half // 8)).digest()
            left, right = right, left ^ (int.from_bytes(mixed) & mask)
        return left << self._half | right
