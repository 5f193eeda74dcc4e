"""A trace set to look through: pages of its prompts, one trace token by token, its worst tokens, what was rejected.

Opened once, it answers from the mapped cache. It must not know torch: what a student gives is in a file of scores.
Shapes: S sequences, N tokens of a batch, C completion tokens, K candidates, T of the student's own.
"""

import codecs
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bitnet_core.errors import BitnetError, UsageError, raise_if_not_the_file
from bitnet_core.prompts.parquet import open_parquet
from bitnet_core.text import finite, flat
from bitnet_core.tokenizer.arrays import Array, Float64, Int64
from bitnet_core.tokenizer.finish import cut_by_filter
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import places, schema
from bitnet_core.traces.dataset import MappedSequences, TraceSequence, load_traces
from bitnet_core.traces.scores import ScoreFile, TokenScores
from bitnet_core.traces.shards import kd_shards

PROMPT_CHARS = 200
"""Of a prompt in a list."""
ANSWER_CHARS = 400
"""Of a rejected answer."""
MOST_ROWS = 1000
"""Of one page."""
_LARGEST_FIRST = ("tokens", "other", "kl")
"""The orders of a page that begin with the largest value, unless they are turned round."""
_BATCH_ROWS = 1024


class Browser:
    """One trace set, and what a student gives to its tokens if `scores` are of these traces.

    BitnetError for traces that are missing or break a rule, as for training.
    """

    def __init__(self, data_dir: Path, max_topk: int = 20, scores: ScoreFile | None = None) -> None:
        traces = load_traces(data_dir, max_topk, once=True)
        self._data = data_dir
        self._sequences = cast("MappedSequences", traces.sequences)
        self._tokenizer = own_tokenizer(data_dir)
        self.top_k = traces.top_k
        self.teacher = traces.teacher
        self.content_hash = self._sequences.content_hash
        made_of = None if scores is None else (scores.about.traces, scores.about.top_k)
        self.scores = scores if made_of == (self.content_hash, self.top_k) else None
        self._prompts = dict(_short_prompts(data_dir / schema.SEQUENCES_FILE))
        self._prompt_idx_S = self._sequences.prompt_idx_S
        self._place = {int(index): place for place, index in enumerate(self._prompt_idx_S)}
        self._other_S = self._sequences.other_mass_S()
        self._kl_S = np.full(len(self._sequences), np.nan)
        if self.scores is not None:
            scored_S = self._scored(self.scores)
            self._kl_S[scored_S] = self.scores.mean_kl_S()

    def _scored(self, scores: ScoreFile) -> Int64:
        """The places of what was scored. DamagedScores if some of it is not in these traces."""
        places_S = np.array([self._place.get(index, -1) for index in scores.prompt_idx_S.tolist()], np.int64)
        if np.any(places_S < 0) or np.any(scores.kl.lengths > self._sequences.completion_lengths_S[places_S]):
            raise scores.damaged()
        return places_S

    # -- many traces -------------------------------------------------------------------------------------

    def page(
        self,
        search: str = "",
        offset: int = 0,
        limit: int = 50,
        by: str = "number",
        around: int | None = None,
        *,
        turned: bool = False,
    ) -> dict[str, Any]:
        """Some of the traces that have `search` in their prompt or answer, in the order of a column.

        `by` is number, prompt, ended, or one of _LARGEST_FIRST; what has no value comes last, also if it is `turned`.
        `at` is the place among these of the trace with the number `around`, which the page then holds.
        """
        found_S = np.arange(len(self._sequences))
        if search:
            found_S = found_S[self._sequences.matching_S(search)]
        value_S = self._values_S(by)[found_S]
        falls = (by in _LARGEST_FIRST) is not turned
        found_S = found_S[np.argsort(-value_S if falls else value_S, kind="stable")]  # NaN comes last
        limit = min(limit, MOST_ROWS)
        at = np.flatnonzero(self._prompt_idx_S[found_S] == around) if around is not None else found_S[:0]
        if len(at):
            offset = int(at[0]) // max(1, limit) * limit
        shown = found_S[offset : offset + limit]
        return {
            "total": len(self._sequences),
            "matched": len(found_S),
            "offset": offset,
            "at": int(at[0]) if len(at) else None,
            "sequences": [self._line(int(place)) for place in shown],
        }

    def _values_S(self, by: str) -> Float64:
        """The numbers that put the traces in this order."""
        match by:
            case "number":
                return np.arange(len(self._sequences), dtype=np.float64)
            case "prompt":
                return _ranks([self._prompts.get(index, "") for index in self._prompt_idx_S.tolist()])
            case "ended":
                return _ranks(self._sequences.finish_reasons_S().tolist())
            case "tokens":
                return self._sequences.completion_lengths_S.astype(np.float64)
            case "kl":
                return self._kl_S
            case "other":
                return self._other_S
        raise BitnetError(f"Traces can't be sorted by {by}; use number, prompt, ended, tokens, other or kl.")

    def _line(self, place: int) -> dict[str, Any]:
        one = self._sequences[place]
        return {
            "prompt_idx": one.prompt_idx,
            "prompt": self._prompt(one),
            "tokens": len(one.completion_ids_C),
            "finish_reason": one.finish_reason,
            "heldout": one.heldout,
            "other": finite(float(self._other_S[place])),
            "kl": finite(float(self._kl_S[place])),
        }

    def _prompt(self, one: TraceSequence) -> str:
        return self._prompts.get(one.prompt_idx) or flat(one.prompt_text[:PROMPT_CHARS])

    def worst(self, limit: int, prompt_idx: int | None = None) -> list[dict[str, Any]]:
        """The tokens at which the student is furthest from the teacher; without scores, those of most Other mass."""
        limit = min(limit, MOST_ROWS)
        name = "other" if self.scores is None else "kl"
        return [
            {
                "prompt_idx": int(self._prompt_idx_S[place]),
                "prompt": self._prompt(self._sequences[place]),
                "position": position,
                "token": self._spelling(int(self._sequences[place].completion_ids_C[position])),
                name: value,
            }
            for value, place, position in self._worst(limit, prompt_idx)
        ]

    def _worst(self, limit: int, prompt_idx: int | None) -> list[tuple[float, int, int]]:
        """(value, place, position), the largest first."""
        if prompt_idx is not None:
            place = self._place_of(prompt_idx)
            kl_C = self.scores.kl_C(prompt_idx) if self.scores is not None else _other(self._sequences[place])
            values = np.zeros(0) if kl_C is None else kl_C
            return [(value, place, position) for value, position in _largest(values, limit)]
        if self.scores is None:
            return self._sequences.most_other(limit)
        kl, owners = self.scores.kl, self.scores.prompt_idx_S
        found = []
        for value, at in _largest(kl.values, limit):
            row = int(np.searchsorted(kl.starts, at, side="right")) - 1
            found.append((value, self._place[int(owners[row])], at - int(kl.starts[row])))
        return found

    def rejected(self, examples: int = 3) -> list[dict[str, Any]]:
        """Why answers were rejected, the commonest reason first, with the first answers of each."""
        counts: Counter[str] = Counter()
        shown: dict[str, list[dict[str, Any]]] = {}
        names = ["prompt_idx", "messages_json", "completion_text", "finish_reason", "rejected"]
        for row in _rows(self._data / schema.SEQUENCES_FILE, names):
            # An earlier version kept what a content filter cut; it is left out when the traces are read.
            if reason := row["rejected"] or ("cut_by_filter" if cut_by_filter([row["finish_reason"]])[0] else ""):
                counts[reason] += 1
                if len(kept := shown.setdefault(reason, [])) < examples:
                    kept.append(
                        {
                            "prompt_idx": row["prompt_idx"],
                            "prompt": _last_message(row["messages_json"]),
                            "answer": (row["completion_text"] or "")[:ANSWER_CHARS],
                            "finish_reason": row["finish_reason"],
                        }
                    )
        return [{"reason": name, "answers": count, "examples": shown[name]} for name, count in counts.most_common()]

    # -- one trace ---------------------------------------------------------------------------------------

    def trace(self, prompt_idx: int | None = None, most_rows: int | None = None) -> dict[str, Any]:
        """One sequence (the first if `prompt_idx` is None): its texts, and each of its first positions."""
        place = 0 if prompt_idx is None else self._place_of(prompt_idx)
        one = self._sequences[place]
        completion = one.completion_ids_C.tolist()
        shown = len(completion) if most_rows is None else min(most_rows, len(completion))
        rebuilt = self._tokenizer.decode(completion)
        scored = self.scores.of(one.prompt_idx, self._tokenizer.vocab_size) if self.scores is not None else None
        steps = self._teacher_steps(one.prompt_idx, len(completion))
        texts = _stretches(self._tokenizer, completion)
        return {
            **self._line(place),
            "prompt_tokens": len(one.prompt_ids_P),
            "completion_tokens": len(completion),
            "prompt_text": one.prompt_text,
            "completion_text": one.completion_text,
            "rebuilt_text": rebuilt,
            "rebuilt_is_same": rebuilt == one.completion_text,
            "positions": [
                {
                    "position": position,
                    "token": self._spelling(completion[position]),
                    "text": texts[position],
                    "structure": bool(one.is_struct_C[position]),
                    "teacher": steps.get(position),
                    **self._candidates(one, position, scored),
                    **self._student(position, scored),
                }
                for position in range(shown)
            ],
        }

    def _place_of(self, prompt_idx: int) -> int:
        if prompt_idx not in self._place:
            raise UsageError(
                f"{self._data} has no sequence {prompt_idx}; `bitnet traces list` lists those that it has."
            )
        return self._place[prompt_idx]

    def _candidates(self, one: TraceSequence, position: int, scored: TokenScores | None) -> dict[str, Any]:
        if not one.kd_valid_C[position]:
            return {"candidates": None, "other": None}
        by_student = scored.candidates_CK[position] if scored is not None and _has(scored, position) else None
        return {
            "candidates": [
                {
                    "token": self._spelling(int(index)),
                    "probability": math.exp(value),
                    "student": None if by_student is None else _probability(by_student[rank]),
                }
                for rank, (index, value) in enumerate(
                    zip(one.topk_ids_CK[position], one.topk_logprobs_CK[position].tolist(), strict=True)
                )
                if value > -math.inf
            ],
            "other": math.exp(one.other_logprob_C[position]),
        }

    def _student(self, position: int, scored: TokenScores | None) -> dict[str, Any]:
        """What the student gives to this token; nothing where it was not scored."""
        if scored is None or not _has(scored, position):
            return {"kl": None, "student": None, "student_other": None, "student_top": None}
        own = zip(scored.top_ids_CT[position], scored.top_CT[position], strict=True)
        return {
            "kl": finite(float(scored.kl_C[position])),
            "student": _probability(scored.observed_C[position]),
            "student_other": _probability(scored.other_C[position]),
            "student_top": [
                {"token": self._spelling(int(index)), "probability": _probability(value)} for index, value in own
            ],
        }

    def _spelling(self, index: int) -> str:
        return self._tokenizer.token_bytes(index).decode("utf-8", errors="replace")

    def _teacher_steps(self, prompt_idx: int, tokens: int) -> dict[int, dict[str, Any]]:
        """At each position the teacher's token that it is a piece of: its text, first position, number of pieces."""
        text_at = self._teacher_texts(prompt_idx)
        begins = sorted(text_at)
        steps: dict[int, dict[str, Any]] = {}
        for first, end in itertools.pairwise([*begins, tokens]):
            step = {"token": text_at[first], "first": first, "pieces": end - first}
            steps |= dict.fromkeys(range(first, end), step)
        return steps

    def _teacher_texts(self, prompt_idx: int) -> dict[int, str]:
        columns = ["prompt_idx", "stream_pos", "teacher_sample_text"]
        for path in kd_shards(self._data):
            try:
                with open_parquet(path, columns) as file:
                    groups = [group for group in range(file.num_row_groups) if _may_hold(file, group, prompt_idx)]
                    table = file.read_row_groups(groups, columns)
                    rows = table.filter(pc.equal(table.column("prompt_idx"), prompt_idx)).to_pylist()
            except (pa.ArrowException, OSError, KeyError, IndexError) as error:
                raise_if_not_the_file(error, path)
                raise BitnetError(f"{path} is damaged or not Parquet; run `bitnet traces validate`.") from error
            if rows:
                return {row["stream_pos"]: row["teacher_sample_text"] or "" for row in rows}
        return {}


def own_tokenizer(data_dir: Path) -> StudentTokenizer:
    """The tokenizer that the traces were made with. BitnetError if it is not stored with them."""
    folder = places.tokenizer(data_dir)
    if not folder.is_dir():
        raise BitnetError(
            f"{data_dir} has no {schema.TOKENIZER_FOLDER} folder; run `bitnet collect` again to write it."
        )
    return load_tokenizer(folder, fix=schema.TOKENIZER_FIX)


def _stretches(tokenizer: StudentTokenizer, ids: Sequence[int]) -> list[str]:
    """The text of each token, which together are the whole; a character cut in pieces is in its last one."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    last = len(ids) - 1
    return [decoder.decode(tokenizer.text_bytes(index), final=place == last) for place, index in enumerate(ids)]


def _has(scored: TokenScores, position: int) -> bool:
    return position < len(scored.kl_C)


def _probability(logprob: Any) -> float | None:
    return finite(math.exp(float(logprob)))


def _other(one: TraceSequence) -> Float64:
    return np.where(one.kd_valid_C, np.exp(one.other_logprob_C, dtype=np.float64), np.nan)


def _largest(values: Array, limit: int) -> Iterator[tuple[float, int]]:
    """(value, place) of the largest finite ones, in their order."""
    known: Int64 = np.flatnonzero(np.isfinite(values))
    best = known[np.argsort(-values[known], kind="stable")[:limit]]
    return ((float(values[place]), int(place)) for place in best)


def _may_hold(file: Any, group: int, prompt_idx: int) -> bool:
    """Whether a row group may have rows of this prompt, by the range that the file gives."""
    column = file.schema_arrow.get_field_index("prompt_idx")
    found = file.metadata.row_group(group).column(column).statistics
    return found is None or not found.has_min_max or found.min <= prompt_idx <= found.max


# -- the answers as they were asked for ------------------------------------------------------------------


def _short_prompts(path: Path) -> Iterator[tuple[int, str]]:
    for row in _rows(path, ["prompt_idx", "messages_json"]):
        yield row["prompt_idx"], _last_message(row["messages_json"])


def _last_message(messages_json: Any) -> str:
    """What the user said last, on one line and cut; empty if it can't be read."""
    try:
        content = json.loads(messages_json)[-1]["content"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return ""
    return flat(content[:PROMPT_CHARS]) if isinstance(content, str) else ""


def _rows(path: Path, names: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of the file of all answers, a batch in memory at a time; none where there is no such file."""
    try:
        with open_parquet(path, names) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=names):
                batch.validate(full=True)
                yield from batch.to_pylist()
    except FileNotFoundError:
        return
    except (pa.ArrowException, OSError, KeyError, IndexError) as error:
        raise_if_not_the_file(error, path)
        raise BitnetError(f"{path} is damaged or not Parquet; run `bitnet collect` again to write it.") from error


def _ranks(texts: Sequence[str]) -> Float64:
    """The places of the texts in their order, whatever the case of their letters; equal ones have the same."""
    order = {text: float(place) for place, text in enumerate(sorted({text.casefold() for text in texts}))}
    return np.array([order[text.casefold()] for text in texts], dtype=np.float64)
