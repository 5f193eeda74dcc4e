"""Made-up scores of a student on a trace set, in a file as `bitnet traces score` writes it."""

from pathlib import Path

import numpy as np

from bitnet_core.traces.browse import Browser
from bitnet_core.traces.scores import About, TokenScores, write


def made_scores(length: int, seed: int, top_k: int) -> TokenScores:
    draw = np.random.default_rng(seed)
    own = np.tile(np.arange(5, dtype=np.int32), (length, 1))
    logs = [np.log(draw.random(shape)).astype(np.float32) for shape in ((length,), (length,), (length, top_k))]
    kl = draw.random(length).astype(np.float32) * 9
    kl[0] = np.nan
    return TokenScores(kl, *logs, own, np.log(np.full((length, 5), 0.1, np.float32)))


def scored(data: Path, path: Path, *, content_hash: str = "") -> dict[int, TokenScores]:
    """Scores of every third trace in a file at `path`; one of them covers only the beginning of its answer."""
    browser = Browser(data)
    made = {
        index: made_scores(browser.trace(index)["completion_tokens"] - (index == 9), index, browser.top_k)
        for index in range(0, 20, 3)
    }
    about = About("c.pt", "sha", 7, 8, content_hash or browser.content_hash, browser.top_k, "held-out")
    write(path, about, made.items())
    return made
