"""The sums over a trace set's shards, from the counts that each shard was written with."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


class Summary:
    """What a trace set holds, and what was rejected or repaired, by reason."""

    def __init__(self, shards: Iterable[Mapping[str, float]]) -> None:
        """`shards`: the counts in each shard's metadata."""
        self.rejected: Counter[str] = Counter()
        self.repairs: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self._other_mass = 0.0
        for counts in shards:
            self._add(counts)

    def _add(self, counts: Mapping[str, float]) -> None:
        for name, value in counts.items():
            kind, _, reason = name.partition(":")
            if name == "other_mass":
                self._other_mass += value
            elif kind == "rejected":
                self.rejected[reason] += int(value)
            elif kind == "repaired":
                self.repairs[reason] += int(value)
            else:
                self._sums[name] += int(value)

    @property
    def sequences(self) -> int:
        return self._sums["sequences"]

    def record(self) -> dict[str, Any]:
        """For the run's summary: counts and shares."""
        sums, rows = self._sums, self._sums["rows"]
        return {
            "sequences": sums["sequences"],
            "tokens": sums["tokens"],
            "teacher_tokens": sums["steps"],
            "kd_rows": rows,
            "coverage": rows / sums["tokens"] if sums["tokens"] else None,
            "other_mass_mean": self._other_mass / rows if rows else None,
            "rejected": dict(self.rejected),
            "repaired": dict(self.repairs),
            "candidates_merged": sums["merged"],
            "candidates_unmapped": sums["unmapped"],
            "candidates_mean": sums["candidates"] / rows if rows else None,
            "steps_clamped": sums["clamped"],
            "rows_recut": sums["recut"],
            "unreported_bytes": sums["unreported"],
        }
