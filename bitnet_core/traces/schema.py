"""Parquet schemas of both trace layers and of the metadata they carry. Data only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

SCHEMA_VERSION = 1
PROJECTION_VERSION = 6
"""Version of the way from an answer to rows. Shards of another version are made again from the kept answers."""
METADATA_KEY = b"bitnet"
MOST_TOKENS = 1 << 22
"""Of a vocabulary. The largest in use have a quarter of a million."""
MOST_CANDIDATES = 100
"""Of a step: the most that TEACHER_TOP_LOGPROBS may be. Readers make room for as many as a file claims."""

SEQUENCES_FILE = "sequences.parquet"
TOKENIZER_FOLDER = "_tokenizer"
OLD_TOKENIZER_FOLDER = "tokenizer"
"""Its name in version 0.1.0, at which Parquet readers stumble."""
TOKENIZER_FIX = "run `bitnet collect` to write it again"
"""What to do about a damaged TOKENIZER_FOLDER."""


def teacher_shard(index: int) -> str:
    return f"teacher_shard_{index:03d}.parquet"


def kd_shard(index: int) -> str:
    return f"kd_shard_{index:03d}.parquet"


def kd_stream(index: int) -> str:
    return f"kd_stream_{index:03d}.parquet"


def sequences_part(index: int) -> str:
    """The file with a shard's rows of SEQUENCES_FILE."""
    return f".sequences/part_{index:03d}.parquet"


def stream_of(kd_path: Path) -> Path:
    """The stream file that belongs to a KD shard."""
    return kd_path.with_name(kd_path.name.replace("kd_shard_", "kd_stream_"))


SEQUENCES = pa.schema(
    [
        ("prompt_idx", pa.int64()),
        ("sequence_hash", pa.string()),
        ("request_key", pa.string()),
        ("messages_json", pa.string()),
        ("rendered_prompt", pa.string()),
        ("completion_text", pa.string()),
        ("provider", pa.string()),
        ("teacher", pa.string()),
        ("sampling_json", pa.string()),
        ("logprob_mode", pa.string()),
        ("logprob_temperature", pa.float32()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("text_matches_bytes", pa.bool_()),
        ("rejected", pa.string()),
    ]
)


def teacher_steps(top_k: int) -> pa.Schema:
    """One row per teacher step; candidate lists are `top_k` long, padded with b"" and -inf.

    A candidate is stored as its bytes (b"" for an end token): another tokenizer could not use its id.
    """
    return pa.schema(
        [
            ("prompt_idx", pa.int64()),
            ("step_idx", pa.int32()),
            ("token_id", pa.int32()),
            ("token_bytes", pa.binary()),
            ("logprob", pa.float32()),
            ("top_count", pa.int32()),
            ("top_bytes", pa.list_(pa.binary(), top_k)),
            ("top_logprobs", pa.list_(pa.float32(), top_k)),
            ("other_logprob", pa.float32()),
            ("mass_clamped", pa.bool_()),
            ("sampled_in_top", pa.bool_()),
            # Bytes of tokens that the server did not report: they are in the text, but have no step.
            ("bytes_before", pa.binary()),
        ]
    )


KD = pa.schema(
    [
        ("prompt_idx", pa.int64()),
        ("step_idx", pa.int32()),
        ("teacher_sample_id", pa.int32()),
        ("teacher_sample_text", pa.string()),
        ("topk_ids", pa.list_(pa.int32())),
        ("topk_logprobs", pa.list_(pa.float32())),
        ("other_logprob", pa.float32()),
        ("is_struct_token", pa.bool_()),
        ("template_hash", pa.string()),
        ("tokenizer_hash", pa.string()),
        ("stream_pos", pa.int32()),
    ]
)

STREAM = pa.schema(
    [
        ("prompt_idx", pa.int64()),
        ("prompt_text", pa.string()),
        ("completion_text", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("completion_ids", pa.list_(pa.int32())),
        ("is_struct", pa.list_(pa.bool_())),
        ("finish_reason", pa.string()),
        ("sequence_hash", pa.string()),
    ]
)


@dataclass(frozen=True)
class TraceMetadata:
    """What a trace set was made with: JSON under the key `bitnet` in the metadata of every file."""

    schema_version: int
    tokenizer: str
    tokenizer_hash: str
    template_hash: str
    provider: str
    teacher: str
    sampling: Mapping[str, Any]
    vocab_size: int
    top_k: int
    config_hash: str
    """Hash of everything but the requests that decides the content: teacher, sampling, tokenizer, template."""
    keys: Sequence[str]
    """Keys of the requests whose answers are in the file, in order; empty in SEQUENCES_FILE."""
    counts: Mapping[str, float]
    sampling_sent: Mapping[str, Any] = field(default_factory=dict)
    """The sampling fields of the requests as they were sent; null for one that the server has fixed. A field that is
    missing had the server's own default."""
    probe: Mapping[str, Any] = field(default_factory=dict)
    """What the probe found out about the teacher before the first answer was paid for. In SEQUENCES_FILE
    `also_served` names the models that answered beside `served_model`, and `fingerprints` those under which it
    answered, if they were several."""
    projection: int = 1
    """PROJECTION_VERSION when the file was made."""
    made_from: str = ""
    """Hash of a shard's input: the statuses of its answers or, for a projection, its shard of teacher space."""

    def as_key_values(self) -> dict[str, str]:
        """As a Parquet file's own key-values."""
        return {METADATA_KEY.decode(): json.dumps(asdict(self), sort_keys=True)}


def read_metadata(key_values: Mapping[bytes, bytes] | None) -> TraceMetadata | None:
    """The metadata in a file's key-values, checked by type; None if there is none that this program understands."""
    try:
        text = (key_values or {})[METADATA_KEY]
        found = msgspec.json.decode(text, type=TraceMetadata)
        known = msgspec.json.decode(text, type=dict[str, msgspec.Raw]).keys() <= TraceMetadata.__annotations__.keys()
    except (KeyError, ValueError, RecursionError):  # ValueError: of msgspec, and bytes that are not UTF-8
        return None
    sizes = 1 <= found.vocab_size <= MOST_TOKENS and 1 <= found.top_k <= MOST_CANDIDATES
    return found if known and sizes else None


def is_of_newer_version(key_values: Mapping[bytes, bytes] | None) -> bool:
    """Whether a newer version wrote a file.

    Its format or its way from an answer to rows is a later one, or its metadata has more fields than ours.
    """
    try:
        found = msgspec.json.decode((key_values or {})[METADATA_KEY], type=dict[str, msgspec.Raw])
        version = msgspec.json.decode(found["schema_version"], type=int)
        projection = msgspec.json.decode(found.get("projection", b"1"), type=int)
    except (KeyError, ValueError, RecursionError):
        return False
    more = found.keys() - TraceMetadata.__annotations__.keys()
    needed = {one.name for one in fields(TraceMetadata) if one.default is MISSING and one.default_factory is MISSING}
    later = version > SCHEMA_VERSION or projection > PROJECTION_VERSION
    return later or (version == SCHEMA_VERSION and bool(more) and needed <= found.keys())
