"""From the journal to shards: steps a second on one core, resident memory, and bytes a token.

The journal holds made-up answers in llama.cpp's shape (ids, bytes, 20 candidates). The ratio compares with a plain
implementation (json, rows of dictionaries, from_pylist; nothing is checked or projected, ids are taken as they are)
on a part of the same answers, in the same run. Run: python benchmarks/bench_traces.py [--steps 1000000]
"""

import argparse
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ONE_CORE = dict.fromkeys(("OMP_NUM_THREADS", "ARROW_NUM_THREADS", "RAYON_NUM_THREADS", "MKL_NUM_THREADS"), "1")
TOP_K, LENGTH, SHARD = 20, 384, 256
PLAIN_STEPS = 40_000
PARTS = {
    ("journal.py", "get"): "journal",
    ("body.py", "read_chat_completion"): "reading",
    ("answer.py", "check_answer"): "projection",
    ("project.py", "project"): "projection",
    ("columns.py", "kd_table"): "columns",
    ("columns.py", "step_table"): "columns",
    ("columns.py", "stream_table"): "columns",
    ("writer.py", "add"): "Parquet",
}


def fill(path: Path, steps: int) -> int:
    """Fill a journal with answers; tokens are as frequent as in a language. Returns the number of steps."""
    from bitnet_core.collecting.journal import Journal, StoredAnswer
    from bitnet_core.teachers.embedded.files import ensure_files
    from bitnet_core.tokenizer.load import load_tokenizer

    tokenizer = load_tokenizer(ensure_files().tokenizer_dir)
    draw = random.Random(0)
    words = [index for index in range(tokenizer.vocab_size) if tokenizer.text_bytes(index).isascii() and index > 60]
    weights = [1 / (rank + 5) for rank in range(len(words))]
    spoken = [
        {"id": index, "token": tokenizer.text_bytes(index).decode(), "bytes": list(tokenizer.text_bytes(index))}
        for index in draw.choices(words, weights, k=200_000)
    ]
    made = 0
    with Journal(path) as journal:
        for number in range(math.ceil(steps / LENGTH)):
            content = []
            for _ in range(LENGTH):
                chosen = {token["id"]: token for token in draw.choices(spoken, k=2 * TOP_K)}
                sizes = [draw.uniform(2, 9)]
                while len(sizes) < TOP_K:
                    sizes.append(sizes[-1] * draw.uniform(0.3, 0.95))
                whole = sum(sizes) * draw.uniform(1.001, 1.2)
                tops = [
                    {**token, "logprob": math.log(part / whole)}
                    for token, part in zip(chosen.values(), sizes, strict=False)
                ]
                content.append({**tops[0], "top_logprobs": tops})
            text = "".join(str(one["token"]) for one in content)
            choice = {"message": {"content": text}, "finish_reason": "length", "logprobs": {"content": content}}
            usage = {"prompt_tokens": 20, "completion_tokens": LENGTH}
            journal.put(
                f"key{number}", StoredAnswer("ok", json.dumps({"choices": [choice], "usage": usage}).encode())
            )
            made += LENGTH
    return made


def shard_maker(root: Path, journal: Any, folder: Path) -> Any:
    from bitnet_core.collecting.answers import AnswerReader
    from bitnet_core.collecting.prompt_check import PromptCheck
    from bitnet_core.collecting.requests import Collection
    from bitnet_core.collecting.shards import ShardMaker
    from bitnet_core.settings.resolve import from_values
    from bitnet_core.settings.values import CollectOptions, TeacherOptions
    from bitnet_core.teachers.embedded.files import ensure_files
    from bitnet_core.teachers.identity import identify
    from bitnet_core.tokenizer.load import load_tokenizer

    settings = from_values({"DRIVE_ROOT": str(root), "KD_SHARD_SEQUENCES": str(SHARD)})
    tokenizer = load_tokenizer(ensure_files().tokenizer_dir)
    collection = Collection(
        CollectOptions.of(settings), identify(TeacherOptions.of(settings)), tokenizer, lambda: iter(())
    )
    return ShardMaker(collection, AnswerReader(collection), journal, PromptCheck(collection), folder)


def requests(first: int, last: int) -> list[Any]:
    """The requests whose answers `fill` has made, from `first` up to but not including `last`."""
    from bitnet_core.collecting.requests import Request
    from bitnet_core.prompts.prompt import Prompt

    prompt = Prompt(({"role": "user", "content": "What is a day?"},))
    return [Request(number, prompt, 0, f"key{number}") for number in range(first, last)]


def convert(root: Path, answers: int) -> dict[str, Any]:
    """In a process of its own: write shards from the journal as the stage does, and profile each part."""
    import cProfile
    import pstats

    from bitnet_core.collecting.journal import Journal
    from bitnet_core.teachers.probe import Verdict

    with Journal(root / "journal.sqlite") as journal:
        made = shard_maker(root, journal, root / "data")

        def run(count: int, folder: Path) -> None:
            made.folder = folder
            for begin in range(0, count, SHARD):
                made.write(requests(begin, min(begin + SHARD, count)), Verdict("raw", TOP_K))

        run(8, root / "warm")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, cpu = time.monotonic(), time.process_time()
        run(answers, root / "data")
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        profile = cProfile.Profile()
        profile.runcall(run, min(answers, 64), root / "profiled")
    stats: Any = pstats.Stats(profile)
    share: Counter[str] = Counter()
    for (file, _line, name), (_calls, _all, _own, cumulative, _callers) in stats.stats.items():
        if "bitnet_core" in file and (part := PARTS.get((Path(file).name, name))):
            share[part] += cumulative / stats.total_tt
    return {"seconds": seconds, "cpu": cpu, "before_kb": before, "peak_kb": peak, "share": share}


def plain(root: Path, answers: int) -> float:
    """The plain implementation. Returns the seconds of processor time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bitnet_core.collecting.journal import Journal

    with Journal(root / "journal.sqlite") as journal:
        began = time.process_time()
        steps: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        streams: list[dict[str, Any]] = []
        for number in range(answers):
            entry = journal.get(f"key{number}")
            assert entry is not None
            choice = json.loads(entry.body)["choices"][0]
            content = choice["logprobs"]["content"]
            streams.append(
                {
                    "prompt_idx": number,
                    "completion_text": choice["message"]["content"],
                    "completion_ids": [one["id"] for one in content],
                }
            )
            for place, one in enumerate(content):
                tops = one["top_logprobs"]
                total = math.fsum(math.exp(top["logprob"]) for top in tops)
                shared = {
                    "prompt_idx": number,
                    "step_idx": place,
                    "other_logprob": math.log(max(1e-6, 1 - total)),
                    "topk_logprobs": [top["logprob"] for top in tops],
                }
                steps.append(
                    {
                        **shared,
                        "token_id": one["id"],
                        "token_bytes": bytes(one["bytes"]),
                        "logprob": one["logprob"],
                        "top_bytes": [bytes(top["bytes"]) for top in tops],
                    }
                )
                rows.append(
                    {
                        **shared,
                        "teacher_sample_id": one["id"],
                        "teacher_sample_text": bytes(one["bytes"]).decode(errors="replace"),
                        "topk_ids": [top["id"] for top in tops],
                    }
                )
        for name, made in (("steps", steps), ("rows", rows), ("streams", streams)):
            pq.write_table(pa.Table.from_pylist(made), root / f"plain_{name}.parquet", compression="zstd")
        return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--child", nargs=3, metavar=("WHAT", "ROOT", "ANSWERS"))
    arguments = parser.parse_args()
    if arguments.child:
        what, root, answers = arguments.child
        found = (convert if what == "convert" else plain)(Path(root), int(answers))
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = fill(root / "journal.sqlite", arguments.steps)
        answers = made // LENGTH

        def child(what: str, count: int) -> Any:
            command = [sys.executable, __file__, "--child", what, folder, str(count)]
            taskset = ["taskset", "-c", "0"] if hasattr(os, "sched_setaffinity") else []
            environment = os.environ | ONE_CORE
            done = subprocess.run([*taskset, *command], env=environment, stdout=subprocess.PIPE, check=True)
            return json.loads(done.stdout)

        fast = child("convert", answers)
        sample = min(answers, PLAIN_STEPS // LENGTH)
        slow = child("plain", sample)
        sizes = {
            name: sum(path.stat().st_size for path in (root / "data").rglob(pattern)) / made
            for name, pattern in (("teacher", "teacher_shard_*"), ("KD", "kd_shard_*"), ("stream", "kd_stream_*"))
        }
        journal = (root / "journal.sqlite").stat().st_size / made
    rate, plain_rate = made / fast["cpu"], sample * LENGTH / slow
    clock = made / fast["seconds"]
    print(f"{made:,} steps, {TOP_K} candidates: {rate:,.0f} steps/s of one core ({clock:,.0f} by the clock)")
    print(f"plain implementation: {plain_rate:,.0f} steps/s; ratio {rate / plain_rate:.1f}")
    peak, before = fast["peak_kb"] / 1024, fast["before_kb"] / 1024
    print(f"resident at most {peak:,.0f} MB, {before:,.0f} MB before the first shard")
    print("share of the time: " + ", ".join(f"{name} {part:.0%}" for name, part in fast["share"].items()))
    print(
        "bytes a step: "
        + ", ".join(f"{name} {size:.1f}" for name, size in sizes.items())
        + f", journal {journal:.0f}"
    )


if __name__ == "__main__":
    main()
