"""The collect stage: ask the teacher for answers with logprobs, and write both layers of KD traces from them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from bitnet_core.collecting.journal import Journal
from bitnet_core.collecting.outstanding import PromptLength
from bitnet_core.collecting.requests import Collection, prompts_of
from bitnet_core.collecting.session import CollectSession, OpenTeacher
from bitnet_core.runs.context import StageContext
from bitnet_core.secrets.handover import is_distinctive
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.settings.values import CollectOptions, TeacherOptions, TokenizerOptions
from bitnet_core.stages.device import device_of
from bitnet_core.stages.scoring import open_embedded_to_score, require_able
from bitnet_core.teachers.embedded.files import ensure_files
from bitnet_core.teachers.identity import Identity, identify
from bitnet_core.teachers.opening import fetch_model, fetch_progress, open_teacher
from bitnet_core.teachers.prices import price_of
from bitnet_core.teachers.refusals import no_logprobs
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer


def run(ctx: StageContext) -> dict[str, Any]:
    """Collect what is missing, write what is not written; the summary counts the whole trace set."""
    options, teacher = CollectOptions.of(ctx.settings), TeacherOptions.of(ctx.settings)
    identity = identify(teacher)
    if identity.provider.logprobs == "no":
        raise no_logprobs(identity.provider.name, identity.model)
    require_able(identity, options)
    fetch_model(ctx, identity)
    wanted = options.tokenizer
    source = wanted.name or ensure_files(fetch_progress(ctx)).tokenizer_dir
    tokenizer = load_tokenizer(source, wanted.template, merge_system=wanted.merge_system)
    collection = Collection(options, identity, tokenizer, prompts_of(options))
    data, device = ctx.experiment.data, device_of(ctx.settings)
    opening: OpenTeacher = partial(open_teacher, ctx, teacher, device=device)
    if options.text_file:
        ctx.log(f"The teacher scores {collection.total:,} texts of {options.text_file} and writes none.")
        if identity.provider.name == "embedded":
            opening = partial(open_embedded_to_score, ctx, teacher, identity, device())
    with Journal.of(data) as journal:
        session = CollectSession(
            collection,
            journal,
            data,
            ctx,
            open_teacher=opening,
            price=price_of(identity.provider, identity.model, options.prices_file, address=identity.base_url),
            prompt_length=_prompt_length(ctx, options, identity, tokenizer),
            redact=ctx.redact,
            mask_answers=Redactor(filter(is_distinctive, ctx.secrets.values())).mask_body,
        )
        return session.run()


def _prompt_length(
    ctx: StageContext, options: CollectOptions, identity: Identity, student: StudentTokenizer
) -> PromptLength | None:
    """Measures prompts for the embedded teacher, whose memory is sized by the longest one."""
    if identity.provider.name != "embedded":
        return None
    own = options.tokenizer == TokenizerOptions()
    tokenizer = student if own else load_tokenizer(ensure_files(fetch_progress(ctx)).tokenizer_dir)

    def length(messages: Sequence[Mapping[str, str]]) -> int:
        return len(tokenizer.encode_prompt(messages).ids)

    return length
