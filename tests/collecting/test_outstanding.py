"""What is asked again: prompts that failed in an earlier run, whatever the clock says, and none twice in one run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.collecting.journal import Journal, StoredAnswer
from bitnet_core.collecting.outstanding import Outstanding

FAILED, USABLE = StoredAnswer("no_answer", b""), StoredAnswer("ok", b"said")
_MOST_ATTEMPTS = 3


def outstanding(journal: Journal, count: int) -> Outstanding:
    """Of a collection of `count` requests in one shard, whose keys are their numbers."""
    collection: Any = SimpleNamespace(
        options=SimpleNamespace(max_attempts=_MOST_ATTEMPTS),
        requests=lambda: (SimpleNamespace(key=str(number)) for number in range(count)),
        shard_of=lambda _: 0,
        shard_size=lambda _: count,
    )
    check: Any = SimpleNamespace(refuses=lambda _: False)
    return Outstanding(collection, journal, check)


@given(
    before=st.lists(st.sampled_from([None, "ok", "1", "2", "3"]), min_size=1, max_size=8),
    usable=st.sets(st.integers(0, 7)),
    shift=st.sampled_from([-1e12, -3600.0, 0.0, 3600.0, 1e12]),
)
def test_failures_of_earlier_runs_are_asked_once_at_the_end_whatever_the_clock_says(
    tmp_path_factory: pytest.TempPathFactory, before: list[str | None], usable: set[int], shift: float
) -> None:
    path: Path = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    with Journal(path) as journal:
        for number, found in enumerate(before):
            for _ in range(int(found) if found and found != "ok" else found == "ok"):
                journal.put(str(number), USABLE if found == "ok" else FAILED)
        journal._db.execute("update answers set at = at + ?", (shift,))
        asked = []
        for request in outstanding(journal, len(before)).requests(lambda: False):
            asked.append(int(request.key))
            journal.put(request.key, USABLE if asked[-1] in usable else FAILED)
    numbers = range(len(before))
    assert asked == [n for n in numbers if before[n] is None] + [n for n in numbers if before[n] in ("1", "2")]
