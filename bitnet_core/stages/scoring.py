"""Teachers for given texts: which can score them, and the embedded one's weights in this process.

llama.cpp's server gives no probabilities of a prompt, and token by token it would be as slow as writing.
"""

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from bitnet_core.errors import UsageError
from bitnet_core.runs.context import StageContext
from bitnet_core.settings.values import CollectOptions, TeacherOptions
from bitnet_core.teachers.embedded.files import ensure_files
from bitnet_core.teachers.identity import Identity
from bitnet_core.teachers.opening import fetch_progress, open_in_process
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.teacher import Teacher
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.steps import TokenTable

if TYPE_CHECKING:
    import torch

    from bitnet_core.teachers.hf.chat import TransformersChat


def require_able(identity: Identity, options: CollectOptions) -> None:
    """UsageError for a teacher that can't score an answer which it did not write, or can't draw candidates."""
    here = identity.provider.wire == "transformers" or (identity.provider.name == "embedded" and options.text_file)
    if options.rows == "sampled" and not here:
        raise UsageError(
            f"KD_ROWS=sampled draws from a whole distribution, and {identity.provider.name} tells only the likeliest "
            "tokens; set TEACHER_PROVIDER=hf, or KD_TEXT_FILE with embedded, or KD_ROWS=top."
        )
    if options.text_file and not identity.provider.scores:
        able = ", ".join(name for name, provider in PROVIDERS.items() if provider.scores)
        raise UsageError(
            f"KD_TEXT_FILE has texts to score, and {identity.provider.name} gives logprobs only of what it writes "
            f"itself; choose a teacher of {able}, or leave KD_TEXT_FILE empty."
        )


def open_embedded_to_score(
    ctx: StageContext,
    options: TeacherOptions,
    identity: Identity,
    device: "torch.device",
    *,
    parallel: int = 1,
    table: TokenTable | None = None,
    **_of_a_server: int,
) -> AbstractAsyncContextManager[Teacher]:
    """The embedded teacher as a transformers model with the same weights, dequantised."""

    def load() -> "TransformersChat":
        from bitnet_core.pretrained.choose import open_source
        from bitnet_core.pretrained.llama import as_llama
        from bitnet_core.pretrained.wanted import Wanted
        from bitnet_core.teachers.hf.chat import TransformersChat
        from bitnet_core.teachers.hf.model import around, pick_dtype

        model = as_llama(open_source(Wanted("", ""), fetch_progress(ctx)), pick_dtype(options, device))
        tokenizer = load_tokenizer(ensure_files(fetch_progress(ctx)).tokenizer_dir)
        loaded = around(model.to(device), tokenizer, options)
        return TransformersChat(identity.provider, identity.model, loaded, parallel=parallel, table=table)

    return open_in_process(ctx, identity.model, load)
