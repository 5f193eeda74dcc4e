"""The logprobs of the embedded teacher's server against a forward pass of transformers over the same file.

Measured over 32 answers of 64 tokens (`python -m tests.teachers.embedded_parity 32 64`); the figures are beside the
limits in `tests/traces/test_real_answers.py`. The server multiplies 4-bit weights by 8-bit activations, transformers
the same weights by float32; that, and the server's prompt cache, explains the difference.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bitnet_core.collecting.journal import Journal
from bitnet_core.stages import collect
from bitnet_core.teachers.embedded.files import EmbeddedFiles, ensure_files
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import stage_context
from tests.teacher_fixtures import read_soon

# Of SmolLM2-135M. transformers takes 5 s to read it from the header of the GGUF.
CONFIG = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class Parity:
    """Differences between the stored top 20 of every step and the full softmax of transformers."""

    first: np.ndarray
    """Logprob of the most likely candidate, in nats."""
    rest: np.ndarray
    """Logprobs of the other candidates, in nats."""
    mass: np.ndarray
    """Probability of all 20 together."""
    shared: np.ndarray
    """How many of the 20 are among the top 20 of transformers."""
    shifted: np.ndarray
    """Like `first`, but against the step before: what an error of one step would look like."""


def collect_answers(root: Path, prompts: int, tokens: int) -> None:
    values = {"KD_NUM_PROMPTS": str(prompts), "KD_MAX_TOKENS_PER_PROMPT": str(tokens), "TEACHER_TOP_LOGPROBS": "20"}
    collect.run(stage_context(root, "collect", values))


def compare(root: Path, files: EmbeddedFiles) -> Parity:
    """The answers that were collected there against transformers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer(files.tokenizer_dir)
    with read_soon():
        model = LlamaForCausalLM.from_pretrained(
            files.gguf.parent, gguf_file=files.gguf.name, config=LlamaConfig(**CONFIG), dtype=torch.float32
        )
    streams = {row["prompt_idx"]: row for row in pq.read_table(root / "data" / "kd_stream_000.parquet").to_pylist()}
    texts = raw_texts(root / "data")
    steps: dict[int, list[dict[str, Any]]] = {}
    for row in pq.read_table(root / "data" / "teacher_shard_000.parquet").to_pylist():
        steps.setdefault(row["prompt_idx"], []).append(row)
    assert steps.keys() == texts.keys()
    ends = sorted(tokenizer.special_ids)
    first, rest, mass, shared, shifted = [], [], [], [], []
    for prompt_idx, rows in steps.items():
        said = b"".join(row["bytes_before"] + row["token_bytes"] for row in rows)
        assert said.decode(errors="ignore") == texts[prompt_idx]
        assert streams[prompt_idx]["completion_text"] == said.decode(errors="replace")
        ids, places = [*streams[prompt_idx]["prompt_ids"]], []
        for row in rows:
            unreported = unreported_ids(row, tokenizer)
            if unreported is None:
                break
            ids += unreported
            places.append(len(ids) - 1)
            ids.append(row["token_id"])
        with torch.inference_mode():
            logits_TV = model(torch.tensor([ids])).logits[0].float()
        own_TV = torch.log_softmax(logits_TV, -1).numpy()
        for place, row in zip(places, rows, strict=False):
            ours, theirs = own_TV[place], np.array(row["top_logprobs"])
            known = candidate_ids(row["top_bytes"], ours, tokenizer, ends)
            gap = np.abs(ours[known] - theirs)
            first.append(gap[0])
            rest += gap[1:].tolist()
            mass.append(abs(np.exp(ours[known]).sum() - np.exp(theirs).sum()))
            shared.append(len(set(known.tolist()) & set(np.argpartition(ours, -20)[-20:].tolist())))
            shifted.append(abs(own_TV[place - 1][known[0]] - theirs[0]))
    return Parity(np.array(first), np.array(rest), np.array(mass), np.array(shared), np.array(shifted))


def raw_texts(data: Path) -> dict[int, str]:
    """The text of each answer as it arrived, read from the journal's raw bodies without our own reader."""
    with Journal.of(data) as journal:
        bodies = {
            row["prompt_idx"]: journal.get(row["request_key"])
            for row in pq.read_table(data / "sequences.parquet").to_pylist()
        }
    return {
        prompt_idx: json.loads(entry.body)["choices"][0]["message"]["content"]
        for prompt_idx, entry in bodies.items()
        if entry is not None
    }


def unreported_ids(row: dict[str, Any], tokenizer: StudentTokenizer) -> list[int] | None:
    """Ids of the tokens before a step that the server did not report, which are all but the last of a character.

    None if they can't be known.
    """
    if not row["bytes_before"]:
        return []
    cut = tokenizer.encode_bytes(row["bytes_before"] + row["token_bytes"])
    return cut[:-1] if cut[-1] == row["token_id"] else None


def candidate_ids(spelled: list[bytes], ours: np.ndarray, tokenizer: StudentTokenizer, ends: list[int]) -> np.ndarray:
    """Ids of the candidates. End tokens have no bytes: those listed are taken for the likeliest ones, in order."""
    free = sorted(ends, key=lambda index: -ours[index])
    return np.array([tokenizer.ids_by_bytes[data] if data else free.pop(0) for data in spelled])


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        collect_answers(Path(folder), int(sys.argv[1]), int(sys.argv[2]))
        parity = compare(Path(folder), ensure_files())
    for name, values in vars(parity).items():
        shares = ", ".join(f"{share} % {np.percentile(values, share):.4g}" for share in (1, 50, 95, 99, 100))
        sys.stdout.write(f"{name}: {len(values)} values, mean {values.mean():.4g}; {shares}\n")
