"""The shards of a folder as one trace set: of one configuration, none of them twice, none lacking."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.traces import schema, writer
from bitnet_core.traces.shards import AGAIN, Shard, kd_shards


def open_shards(data_dir: Path) -> list[Shard]:
    """All shards of a trace set, in order; BitnetError if there are none, or not all of them are one set."""
    shards = [Shard(path) for path in kd_shards(data_dir)]
    for shard in shards[1:]:
        require_one_configuration(shard, shards[0])
    for _, error in copies(shards):
        raise error
    if incomplete := lacking(data_dir, shards):
        raise incomplete
    return shards


def require_one_configuration(shard: Shard, first: Shard) -> None:
    ours, its = shard.metadata, first.metadata
    if (ours.config_hash, ours.tokenizer_hash) != (its.config_hash, its.tokenizer_hash):
        raise BitnetError(f"{shard.path} was made with other settings than {first.path.name}; {AGAIN}.")


def copies(shards: Sequence[Shard]) -> Iterator[tuple[Shard, BitnetError]]:
    """Each shard with answers of another one, and its error: they would be trained on, and counted, twice.

    Shards are pieces of one list of answers, so of two that overlap one begins in the other.
    """
    begins: dict[str, Shard] = {}
    overlaps: list[tuple[Shard, Shard]] = []
    for shard in shards:
        if keys := shard.metadata.keys:
            other = begins.setdefault(keys[0], shard)
            overlaps += [(shard, other)] * (other is not shard)
    for shard in shards:
        overlaps += [(begins[key], shard) for key in shard.metadata.keys[1:] if key in begins]
    for shard, other in overlaps:
        problem = (
            f"{shard.path} has answers that {other.path.name} has, too, like a copy that a backup or a cloud folder "
            f"leaves; move it and {shard.stream_path.name} away."
        )
        yield shard, BitnetError(problem)


def lacking(data_dir: Path, shards: Sequence[Shard]) -> BitnetError | None:
    """An error if shards are missing that SEQUENCES_FILE was made with, as where a set was copied in part."""
    whole = writer.metadata_of(data_dir / schema.SEQUENCES_FILE)  # a projection has none
    if whole is None or whole.config_hash != shards[0].metadata.config_hash:
        return None
    made, *counts = (one.counts.get("sequences") for one in (whole, *(shard.metadata for shard in shards)))
    known = [count for count in counts if count is not None]
    if made is None or len(known) < len(counts) or (found := sum(known)) >= made:
        return None
    return BitnetError(
        f"{data_dir} has {found:,.0f} of the {made:,.0f} sequences that were collected: shards are missing; copy "
        "them there, too, or run `bitnet collect` to write them again (the answers that were paid for are kept)."
    )
