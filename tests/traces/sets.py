"""Small trace sets on disk for the tests of their readers, and ways to break them."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bitnet_core.prompts.prompt import Prompt
from bitnet_core.tokenizer.steps import TokenTable
from bitnet_core.traces import schema
from bitnet_core.traces.answer import check_answer
from bitnet_core.traces.columns import FinishedSequence
from bitnet_core.traces.project import project
from bitnet_core.traces.schema import TraceMetadata
from bitnet_core.traces.vocabulary import Vocabulary
from tests.builders import completion_of_steps
from tests.traces.samples import random_cut, small_tokenizer, steps_for

TOKENIZER = small_tokenizer()
TABLE = TokenTable()
VOCABULARY = Vocabulary(TOKENIZER, TABLE)
TOP_K = 5
WORDS = ["the rain", "there then", '{"a": 1, "b": [2]}', "naïve café", "東京 🌧", "```\nplain\n```"]


def sequence(index: int, seed: int = 0) -> FinishedSequence:
    draw = random.Random(index + 1000 * seed)
    text = " ".join(draw.choice(WORDS) for _ in range(4))
    stops = draw.random() < 0.5
    ids = random_cut(text.encode(), TOKENIZER, draw) if index % 3 == 0 else TOKENIZER.encode_plain(text)
    steps = steps_for([*ids, TOKENIZER.eos_id] if stops else ids, TOKENIZER, draw, top_k=TOP_K, in_top=0.8)
    prompt = Prompt(({"role": "user", "content": f"prompt {index}"},))
    rendered = TOKENIZER.render_prompt(prompt.messages)
    finish = "stop" if stops else "length"
    answer = check_answer(completion_of_steps(steps, TABLE), VOCABULARY)
    return FinishedSequence(
        prompt_idx=index,
        sequence_hash=prompt.hash,
        request_key=f"key{index}",
        messages_json=json.dumps(prompt.messages),
        rendered_prompt=rendered,
        prompt_ids=TOKENIZER.encode(rendered),
        completion_text=text,
        finish_reason=finish,
        prompt_tokens=10,
        completion_tokens=len(steps),
        text_matches_bytes=True,
        answer=answer,
        projection=project(answer, finish, VOCABULARY),
    )


def metadata(keys: list[str], config: str = "config") -> TraceMetadata:
    return TraceMetadata(
        schema_version=schema.SCHEMA_VERSION,
        tokenizer="small",
        tokenizer_hash=TOKENIZER.hash,
        template_hash=TOKENIZER.template_hash,
        provider="embedded",
        teacher="teacher",
        sampling={"temperature": 0.8},
        vocab_size=TOKENIZER.vocab_size,
        top_k=TOP_K,
        config_hash=config,
        keys=keys,
        counts={},
    )


ORIGIN = {
    "provider": "embedded",
    "teacher": "teacher",
    "sampling_json": "{}",
    "logprob_mode": "raw",
    "logprob_temperature": 1.0,
}


def rewrite(path: Path, change: Callable[[list[dict[str, object]]], object], keep_metadata: bool = True) -> None:
    """Change the rows of a Parquet file as a user's script might."""
    key_values = pq.read_metadata(path).metadata
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    kept = {b"bitnet": key_values[b"bitnet"]} if keep_metadata else {}
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema.with_metadata(kept)), path)


def change_metadata(path: Path, **fields: object) -> None:
    """Give a file of a trace set other metadata, with its rows as they are."""
    found = json.loads(pq.read_metadata(path).metadata[b"bitnet"]) | fields
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"bitnet": json.dumps(found).encode()}), path)


def write_without_rows(path: Path) -> None:
    """Write a file of a trace set again without rows, and without the counts of those it had."""
    found = schema.read_metadata(pq.read_metadata(path).metadata)
    assert found is not None
    without_counts = replace(found, counts={}).as_key_values()
    pq.write_table(pq.read_schema(path).with_metadata(without_counts).empty_table(), path)


def set_in(row: int, column: str, value: object) -> Callable[[list[dict[str, object]]], object]:
    return lambda rows: rows[row].__setitem__(column, value)


def edit(row: int, column: str, change: Callable[[Any], object]) -> Callable[[list[dict[str, object]]], object]:
    return lambda rows: rows[row].__setitem__(column, change(rows[row][column]))


def write_set(folder: Path, *, shards: int, sequences: int, length: int) -> int:
    """Shards of made-up rows, written column by column; returns the number of completion tokens."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    top_k, tokens = 20, sequences * length
    logits = np.sort(rng.normal(0, 2, (tokens, top_k + 1)), axis=1)[:, ::-1]
    logprobs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    firsts = rng.integers(0, TOKENIZER.vocab_size - top_k, (tokens, 1))
    ids = (firsts + np.arange(top_k)).astype(np.int32)
    made_with = replace(metadata([]), top_k=top_k)
    for shard in range(shards):
        prompts = np.arange(shard * sequences, (shard + 1) * sequences)
        texts = [str(prompt) for prompt in prompts]

        def lists(values: npt.NDArray[Any], width: int) -> pa.Array:
            return pa.ListArray.from_arrays(pa.array(np.arange(0, values.size + 1, width, np.int32)), values.ravel())

        rows = {
            "prompt_idx": np.repeat(prompts, length),
            "step_idx": np.tile(np.arange(length, dtype=np.int32), sequences),
            "teacher_sample_id": ids[:, 0],
            "teacher_sample_text": [""] * tokens,
            "topk_ids": lists(ids, top_k),
            "topk_logprobs": lists(logprobs[:, :top_k], top_k),
            "other_logprob": logprobs[:, top_k],
            "is_struct_token": np.zeros(tokens, bool),
            "template_hash": [made_with.template_hash] * tokens,
            "tokenizer_hash": [made_with.tokenizer_hash] * tokens,
            "stream_pos": np.tile(np.arange(length, dtype=np.int32), sequences),
        }
        streams = {
            "prompt_idx": prompts,
            "prompt_text": texts,
            "completion_text": texts,
            "prompt_ids": lists(np.ones(sequences * 4, np.int32), 4),
            "completion_ids": lists(ids[:, 0], length),
            "is_struct": lists(np.zeros(tokens, bool), length),
            "finish_reason": ["length"] * sequences,
            "sequence_hash": texts,
        }
        for name, kind, columns in (
            (schema.kd_shard(shard), schema.KD, rows),
            (schema.kd_stream(shard), schema.STREAM, streams),
        ):
            table = pa.table(columns, schema=kind.with_metadata(made_with.as_key_values()))
            pq.write_table(table, folder / name)
    return shards * tokens
