"""The answers of a baseline that has not ended, one JSON line each: the next run of the stage goes on with them.

An answer is taken over only where all that decides it and its figures is the same. A line that can't be read counts
as none. That an answer can't be kept stops no baseline.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from bitnet_core.errors import explained
from bitnet_core.files.regular import read_bounded
from bitnet_core.runs.reporter import Reporter
from bitnet_core.teachers.answers.result import ChatResult

FILE = ".teacher_answers.part"
"""In the reports folder. Its name keeps it from being stored elsewhere: its latencies are this machine's."""
_MOST_BYTES = 1 << 28
_Count = Annotated[int, Meta(ge=0)]
_Seconds = Annotated[float, Meta(ge=0)]


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to `question`, a hash; `same` is one of what decides it besides. `seconds` is its latency."""

    same: str
    question: str
    text: str
    finish_reason: str
    prompt_tokens: _Count
    completion_tokens: _Count
    timings: dict[str, float]
    seconds: _Seconds = 0.0
    first_token_s: _Seconds | None = None
    memory_bytes: _Count | None = None
    """The most that the teacher had taken until then."""

    @property
    def result(self) -> ChatResult:
        """What the figures need of it."""
        return ChatResult(
            text=self.text,
            finish_reason=self.finish_reason,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            timings=self.timings,
            model="",
            body=b"",
        )


class KeptAnswers:
    """Reads what an earlier run has left at `path`, and adds to it."""

    def __init__(self, path: Path, same: str, reporter: Reporter, mask: Callable[[str], str] = str) -> None:
        """`mask` hides keys in a text."""
        self._path, self._same, self._reporter, self._mask = path, same, reporter, mask
        self._told = False
        self._found = {one.question: one for one in _read(path) if one.same == same}

    def __len__(self) -> int:
        return len(self._found)

    def get(self, question: str) -> KeptAnswer | None:
        return self._found.get(question)

    def put(
        self,
        question: str,
        result: ChatResult,
        *,
        seconds: float = 0.0,
        first_token_s: float | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        """Append an answer, on a line of its own: the last one may be cut short. An alert tells the first failure."""
        kept = KeptAnswer(
            same=self._same,
            question=question,
            text=self._mask(result.text),
            finish_reason=self._mask(result.finish_reason),
            prompt_tokens=result.prompt_tokens,
            completion_tokens=result.completion_tokens,
            timings=dict(result.timings),
            seconds=seconds,
            first_token_s=first_token_s,
            memory_bytes=memory_bytes,
        )
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(b"\n" + msgspec.json.encode(kept) + b"\n")
        except OSError as error:
            self._tell(error)

    def _tell(self, error: OSError) -> None:
        if self._told:
            return
        self._told = True
        self._reporter.alert(
            "warning",
            "answers_not_kept",
            f"{self._path} can't be written {explained(error, 'check who may write there')}.",
            "The baseline continues; if it is interrupted, the next run asks again for what is missing there.",
        )

    def remove(self) -> None:
        """The stage has ended: its report has them all."""
        with contextlib.suppress(OSError):  # a folder in its place, which `put` has told of
            self._path.unlink(missing_ok=True)


def _read(path: Path) -> list[KeptAnswer]:
    found = []
    try:
        data = read_bounded(path, _MOST_BYTES)
    except OSError:
        return []
    for line in data.splitlines():
        try:
            found.append(msgspec.json.decode(line, type=KeptAnswer))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return found
