"""A model as lm-evaluation-harness takes one (extra `lm-eval`); on the same items it gives our numbers."""

from collections.abc import Callable, Sequence
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.suites.likelihood import Scored, TextScorer

Writer = Callable[[str, int, Sequence[str]], str]
"""From a prompt, the most tokens and stop strings to a greedy answer, cut before the first stop string."""
_MOST_TOKENS = 256


def lm_eval_model(scorer: TextScorer, write: Writer) -> Any:
    """An `lm_eval.api.model.LM` for `simple_evaluate(model=…)`. BitnetError if the extra is not installed."""
    try:
        from lm_eval.api.model import LM
    except ImportError as error:
        raise BitnetError("lm-evaluation-harness is not installed; run pip install 'bitnet-tui[lm-eval]'.") from error

    class Adapter(LM):  # type: ignore[misc] # lm_eval has no types that mypy reads
        def loglikelihood(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
            scores = scorer.score([request.args for request in requests])
            return [(score.logprob, score.is_greedy) for score in map(_answered, scores)]

        def loglikelihood_rolling(self, requests: list[Any], **_: Any) -> list[float]:
            return [_answered(scorer.score_whole(request.args[0])).logprob for request in requests]

        def generate_until(self, requests: list[Any], **_: Any) -> list[str]:
            return [_write(write, *request.args) for request in requests]

    return Adapter()


def _answered(score: Scored | None) -> Scored:
    if score is None:
        raise BitnetError("The model can't score an item of this task; choose one with a longer context.")
    return score


def _write(write: Writer, prompt: str, options: dict[str, Any]) -> str:
    if options.get("do_sample") and options.get("temperature", 1.0) > 0:
        raise BitnetError("The task asks for samples, and answers here are greedy; set do_sample to false in it.")
    until = options.get("until") or []
    return write(prompt, int(options.get("max_gen_toks", _MOST_TOKENS)), [until] if isinstance(until, str) else until)
