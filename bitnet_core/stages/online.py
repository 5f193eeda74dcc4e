"""The teacher of a training that asks it at every step: the model of the settings, loaded beside the student."""

from pathlib import Path

import torch

from bitnet_core.errors import BitnetError
from bitnet_core.model.config import StudentConfig
from bitnet_core.pretrained.source import require_same_tokens, tokens_of
from bitnet_core.pretrained.start import SMALLER_TEACHER, require_room
from bitnet_core.pretrained.teacher_model import teacher_model
from bitnet_core.pretrained.wanted import OTHERWISE
from bitnet_core.runs.context import StageContext
from bitnet_core.settings.values import OnlineOptions, TeacherOptions
from bitnet_core.teachers.opening import fetch_progress
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.traces.examples import Examples
from bitnet_core.traces.places import tokenizer as tokenizer_folder
from bitnet_core.training.online import OnlineTeacher


def open_online(
    ctx: StageContext, data: Path, examples: Examples, config: StudentConfig, device: torch.device
) -> OnlineTeacher | None:
    """The teacher, if TRAIN_ONLINE wants one; `data` is the folder of the traces that it is asked about.

    UsageError for a teacher whose weights are elsewhere. BitnetError if its tokenizer is not that of the traces, if
    the longest of the `examples` is too long for it, or if there is no room for it beside a student of `config`.
    Each of these is found before its weights are loaded.
    """
    if not OnlineOptions.of(ctx.settings).online:
        return None
    options = TeacherOptions.of(ctx.settings)
    model = teacher_model(options, device, fetch_progress(ctx), ctx.secret("HF_TOKEN"))
    name = model.identity.model
    ctx.progress(0, None, "models", f"loading {name}")
    tokenizer = load_tokenizer(tokenizer_folder(data))
    require_same_tokens(name, model.tokens(), tokens_of(tokenizer.definition), OTHERWISE)
    longest = int(examples.lengths_S.max(initial=0))
    if model.positions is not None and longest > model.positions:
        raise BitnetError(
            f"{name} reads at most {model.positions:,} tokens, and a text of the traces has {longest:,}; set "
            f"MAX_SEQ_LEN={model.positions}, or {OTHERWISE}."
        )
    require_room(config, device, "the teacher", model.weight_bytes, fix=SMALLER_TEACHER)
    states = model.states(device, config.vocab_size)
    ctx.log(
        f"{name} teaches online, in {str(model.dtype).removeprefix('torch.')} on {device}: its whole "
        "distribution at every position, on the held-out side too."
    )
    return OnlineTeacher(model.identity.origin, states, states.head_VE, tokenizer.eos_id)
