"""The draft of an experiment: what was chosen so far, as the settings of its `.env`. It never has a secret in it.

A field that is empty, or holds what would be there anyway, is not in the draft.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bitnet_core.errors import UsageError
from bitnet_core.runs.catalog import STAGES
from bitnet_core.runs.experiment import is_name
from bitnet_core.settings import dotenv
from bitnet_core.settings.kinds import as_path
from bitnet_core.settings.layers import keeps_no_layers, kept_layers
from bitnet_core.settings.presets import EMBEDDED_LAYERS
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.settings.storage import SECTIONS
from bitnet_core.settings.unused import unused_of_start
from bitnet_core.storage.catalog import KINDS
from bitnet_core.teachers.prices import is_own
from bitnet_core.teachers.profiles import PROVIDERS, Provider
from bitnet_tui.labels import label
from bitnet_tui.view.guide.words import preset_words

STEPS = {
    "machine": "Machine",
    "teacher": "Teacher",
    "storage": "Storage",
    "student": "Student and budget",
    "review": "Review",
}
TEACHER, CHAT, BACKEND, SYNC = "TEACHER_PROVIDER", "PROVIDER", "STORAGE_BACKEND", "STORAGE_SYNC"
CANDIDATES = "TEACHER_TOP_LOGPROBS"
START, LAYERS = "STUDENT_INIT", "STUDENT_INIT_LAYERS"
ONLINE, OWN_ANSWERS = "TRAIN_ONLINE", "ON_POLICY_FRACTION"
SIZES = ("MINI_DIM", "MINI_LAYERS", "MINI_HEADS", "MINI_HEAD_DIM")
EMBEDDED, HERE = "embedded", "here"
"""`HERE` stands for no second copy; `local` for one in a folder."""
LENGTH, LONGEST_ANSWER, ANSWERS = "MAX_SEQ_LEN", "KD_MAX_TOKENS_PER_PROMPT", "KD_NUM_PROMPTS"
ENOUGH_ANSWERS = "320"
"""Of which a tenth is held out: enough prompts to measure on."""
_FOLLOWING = (LENGTH, ANSWERS)
"""Their defaults follow from other settings."""
ALWAYS = (TEACHER, "MINI_PRESET", LENGTH, ANSWERS, "BUDGET_EPOCHS", "FLIP_FRACTION")
"""Written into every `.env`, so that a later version's defaults don't change them."""
_OWN_DEFAULTS = {TEACHER: EMBEDDED, BACKEND: HERE}
LONGEST_NAME = 64
_PROMPT_TOKENS = 128
"""Room for a usual prompt in its chat template."""
_ELSEWHERE = "this teacher's weights are not on this machine"
_KIND_OF_MODEL = re.compile(r"(?:[-_.:](?:instruct|it|chat|latest|gguf)){1,5}$")
"""The end of a model's name that tells no two teachers apart."""
_CALLED = {EMBEDDED: "smollm2", "custom": "teacher", "hf": "teacher"}
"""Providers whose name says nothing of the teacher."""


@dataclass(frozen=True)
class Draft:
    """`values` are the settings that were chosen; `source` is the experiment that this one is a copy of."""

    values: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    step: str = "machine"
    source: str = ""
    traces: bool | None = None
    """Whether it begins with those of its source; None = not said."""
    start: str = ""
    """What to start once it is made; empty = the default."""
    had_keys: frozenset[str] = frozenset()
    """The settings whose keys were typed, which the draft did not keep."""

    def get(self, name: str) -> str:
        """What counts for a setting now."""
        return self.values.get(name, self.default(name))

    def default(self, name: str) -> str:
        """What a setting is that was not chosen: what fits the rest of the draft, or in a copy what its source has.

        A sequence has room for the longest answer. A teacher that costs nothing gives as many answers as are needed.
        """
        if name == LENGTH and not self.source:
            return length_for(self.get(LONGEST_ANSWER)) or default(name)
        if name == ANSWERS and not self.source and self.is_free:
            return ENOUGH_ANSWERS
        return default(name)

    def having(self, name: str, text: str) -> "Draft":
        """The draft with this setting; an empty text is its default.

        So is the default itself, but not where it follows from others: what was typed there stays as it is.
        """
        kept = {one: value for one, value in self.values.items() if one != name}
        if text and (text != self.default(name) or (name in _FOLLOWING and name in self.values)):
            kept[name] = text
        moved = replace(self, values=kept)
        # What to start was chosen for a teacher: another one may cost money.
        return moved if moved.get(TEACHER) == self.get(TEACHER) else replace(moved, start="")

    @property
    def teacher(self) -> Provider:
        return PROVIDERS[self.get(TEACHER)]

    @property
    def is_free(self) -> bool:
        """Whether the teacher is the user's own, so that its answers cost nothing."""
        return is_own(self.teacher, self.address or None)

    @property
    def weights_here(self) -> bool:
        """Whether the teacher's weights are on this machine."""
        return self.teacher.name == EMBEDDED or self.teacher.wire == "transformers"

    @property
    def model(self) -> str:
        return "" if self.teacher.name == EMBEDDED else self.get(self.teacher.model_setting)

    @property
    def address(self) -> str:
        return self.get(self.teacher.base_url_setting) if asks_address(self.teacher) else ""

    @property
    def backend(self) -> str:
        """The kind of the storage target; empty if there is none."""
        chosen = self.get(BACKEND)
        return "" if chosen == HERE else chosen

    @property
    def empty(self) -> bool:
        """Whether there is nothing to keep."""
        return not self.values and not self.name and not self.start and self.traces is None


def default(name: str) -> str:
    """What a setting is without being set, as the guide shows it."""
    return _OWN_DEFAULTS.get(name, REGISTRY[name].default if name in REGISTRY else "")


def length_for(answer: str) -> str:
    """A sequence length with room for answers of `answer` tokens, at least the default; empty where none has."""
    if wrong(LONGEST_ANSWER, answer) or not answer:
        return ""
    longest, most = int(answer.replace("_", "")), int(REGISTRY[LENGTH].high)
    fits = math.ceil((longest + _PROMPT_TOKENS) / _PROMPT_TOKENS) * _PROMPT_TOKENS
    return str(max(int(default(LENGTH)), min(most, fits))) if longest < most else ""


def asks_address(provider: Provider) -> bool:
    """Whether its address is the user's own."""
    if provider.name == EMBEDDED or provider.wire == "transformers":
        return False
    return provider.local or not provider.base_url


def may_teach_online(draft: Draft) -> bool:
    """Whether the student has the tokenizer of a transformers model that teaches it, so that it may be asked."""
    if draft.teacher.wire != "transformers" or not draft.model:
        return False
    tokenizer = draft.get("TOKENIZER_NAME")
    return tokenizer == draft.model or (not tokenizer and draft.get(START) in ("teacher", draft.model))


def of_settings(values: Mapping[str, str], source: str) -> Draft:
    """The draft of a copy: the settings of an experiment as the guide has them."""
    draft = Draft(source=source)
    teacher = values.get(TEACHER) or values.get(CHAT) or EMBEDDED
    provider = PROVIDERS.get(teacher, PROVIDERS[EMBEDDED])
    moved = {"TEACHER_MODEL": provider.model_setting, "TEACHER_BASE_URL": provider.base_url_setting}
    backend = values.get(BACKEND, "local")
    if backend == "local" and not values.get("STORAGE_LOCAL_DIR"):
        backend = HERE
    own = {name: text for name, text in values.items() if name not in (*moved, TEACHER, BACKEND)}
    own |= {moved[name]: values[name] for name in moved if values.get(name) and moved[name] in REGISTRY}
    for name, text in fitted_last(own | {TEACHER: provider.name, BACKEND: backend}):
        draft = draft.having(name, text)
    return draft


def fitted_last(values: Mapping[str, str]) -> list[tuple[str, str]]:
    """The settings, with those last whose defaults follow from others."""
    return sorted(values.items(), key=lambda one: one[0] in _FOLLOWING)


def collects_same(draft: Draft, copied: Mapping[str, str]) -> bool:
    """Whether the draft would collect what an experiment with the `copied` settings has."""
    now = settings(draft)
    return all(now.get(name) == copied.get(name) for name in STAGES["collect"].settings)


# -- what gets written -----------------------------------------------------------------------------------------------


def settings(draft: Draft) -> dict[str, str]:
    """What the experiment's `.env` will have, in the registry's order: what was chosen and has an effect."""
    chosen = {name: text for name in ALWAYS if (text := draft.get(name))} | {
        name: value for name, value in draft.values.items() if name in REGISTRY and name not in SECRET_NAMES
    }
    backend = draft.backend
    if not backend:
        chosen.pop(BACKEND, None)
    counts = {name: value for name, value in chosen.items() if _counts(name, draft, backend)}
    return {name: counts[name] for name in REGISTRY if name in counts}


def _counts(name: str, draft: Draft, backend: str) -> bool:
    section = REGISTRY[name].section
    if section.startswith("Storage"):
        if name in (BACKEND, SYNC, "STORAGE_NAME", "STORAGE_CHECKPOINTS"):
            return bool(backend)
        return section in SECTIONS.get(backend, ()) and (section != "Storage" or backend == "local")
    if section == "Chat provider" and name != CHAT:
        used = {draft.get(TEACHER), draft.get(CHAT)}
        return any(name in (PROVIDERS[one].model_setting, PROVIDERS[one].base_url_setting) for one in used)
    return name in ALWAYS or name not in unused_of_start(draft.values)


def differing(draft: Draft) -> frozenset[str]:
    """The settings to be written that differ from their defaults."""
    return frozenset(name for name, value in settings(draft).items() if value != default(name))


def env_text(draft: Draft) -> str:
    """The experiment's `.env`. What it says comes back from it unchanged."""
    return dotenv.new_text(draft.name, settings(draft))


def overrides(draft: Draft, root: Path) -> dict[str, str]:
    """The same for a command that is asked before there is an experiment: relative paths start at its folder."""
    found = settings(draft)
    for name, value in found.items():
        if REGISTRY[name].kind == "path":
            try:
                found[name] = str(as_path(value, root))
            except ValueError:  # the command says what is wrong with it
                continue
    return found


def suggested_name(draft: Draft, taken: frozenset[str]) -> str:
    """A name that is free in any case of letters: teacher and student, or that of the source and a number."""
    stem = draft.source or f"{_teacher_words(draft)}-{preset_words(draft.get('MINI_PRESET'))}"
    stem = "".join(char if is_name(f"a{char}") else "-" for char in stem)[: LONGEST_NAME - 6]
    stem = stem if is_name(stem) else "experiment"
    numbered = (f"{stem}-{number}" for number in range(2, len(taken) + 3))
    known = {one.casefold() for one in taken}
    return next(one for one in ((stem,) if not draft.source else ()) + tuple(numbered) if one.casefold() not in known)


def _teacher_words(draft: Draft) -> str:
    """The teacher as one calls it: its model without the publisher and the kind, or else its provider."""
    model = re.split(r"[/\\]", draft.model.rstrip("/\\"))[-1].lower()
    return _KIND_OF_MODEL.sub("", model)[: LONGEST_NAME // 2] or _CALLED.get(draft.teacher.name, draft.teacher.name)


# -- what is wrong ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What is wrong with one field: `name` is its setting, `NAME` that of the experiment, empty for a whole step."""

    step: str
    name: str
    why: str
    offer: str = ""
    """A value that would be right, if one is known."""
    subject: str = ""
    """What it is about if not the field itself."""
    stops: bool = True
    """Whether nothing comes of the experiment so; else it only does worse."""


def faults(draft: Draft, taken: frozenset[str]) -> tuple[Fault, ...]:
    """Everything that has to be mended before the experiment can be made, in the order of the steps."""
    found = [*_teacher_faults(draft), *_storage_faults(draft), *_start_faults(draft)]
    known = {one.name for one in found}
    for name, value in settings(draft).items():
        if name not in known and (why := wrong(name, value)):
            found.append(Fault(step_of(name), name, why, draft.default(name)))
    found.sort(key=lambda one: list(STEPS).index(one.step))
    return (*found, *_name_faults(draft, taken))


def candidates(draft: Draft) -> int:
    """How many candidates a step the draft asks for."""
    text = draft.get(CANDIDATES)
    return int(text) if text.isdecimal() else 0


def wrong(name: str, value: str) -> str:
    """What is allowed for a setting if this value is not; empty if it is."""
    if not value:
        return ""
    if "${" in value or not (value.isprintable() or REGISTRY[name].multiline):
        return "plain text only"
    setting = REGISTRY[name]
    try:
        setting.parse(value, Path("/"))
    except ValueError as error:
        if setting.kind == "bool" or setting.choices:
            return setting.allowed()
        return str(error).removeprefix("it must be ").removeprefix("it ")
    return ""


def is_on(draft: Draft, name: str) -> bool:
    """Whether a switch is on, or a number is not 0."""
    try:
        return bool(REGISTRY[name].parse(draft.get(name), Path("/")))
    except ValueError:
        return False


def _lacks_layers(text: str) -> bool:
    """Whether the embedded teacher lacks layers that are to be kept. A text that is not a list is another fault."""
    if keeps_no_layers(text) or wrong(LAYERS, text):
        return False
    try:
        kept_layers(text, EMBEDDED_LAYERS)
    except UsageError:
        return True
    return False


def step_of(name: str) -> str:
    """The step that has a setting's field; those without one are shown in the review."""
    section = REGISTRY[name].section
    if section.startswith("Storage"):
        return "storage"
    if section in ("Teacher", "Chat provider") or name.startswith("KD_TEACHER"):
        return "teacher"
    return "student" if name in STUDENT_FIELDS or name == "FLIP_FRACTION" else "review"


def visited(draft: Draft) -> frozenset[str]:
    """The steps that a draft shows to have been at: those that have values, and those before the last one."""
    names = list(STEPS)
    return frozenset(names[: names.index(draft.step) + 1]) | {step_of(name) for name in draft.values}


STUDENT_FIELDS = (
    *("MINI_PRESET", START, "LR", "BUDGET_EPOCHS", "BUDGET_TOKENS", "TOTAL_STEPS"),
    *(ANSWERS, LENGTH, "TOKENIZER_NAME", *SIZES),
)
"""In the order of how often they are changed."""


def _teacher_faults(draft: Draft) -> Iterator[Fault]:
    provider = draft.teacher
    if provider.name == EMBEDDED:
        return
    if not draft.model:
        yield Fault("teacher", provider.model_setting, "which model?")
    if asks_address(provider) and not provider.base_url and not draft.address:
        yield Fault("teacher", provider.base_url_setting, "which address?")
    most = provider.max_top_logprobs
    if most is not None and candidates(draft) > most:
        yield Fault("teacher", CANDIDATES, f"this teacher gives at most {most}", str(most))


def _storage_faults(draft: Draft) -> Iterator[Fault]:
    if draft.backend:
        for name in KINDS[draft.backend].needs:
            if not draft.get(name):
                yield Fault("storage", name, "needed for this target")


def _start_faults(draft: Draft) -> Iterator[Fault]:
    """Training would refuse them, after all traces were collected and paid for."""
    elsewhere, online = not draft.weights_here, is_on(draft, ONLINE)
    if draft.get(START) == "teacher" and elsewhere:
        yield Fault("student", START, _ELSEWHERE, default(START))
    if online and elsewhere:
        yield Fault(step_of(ONLINE), ONLINE, _ELSEWHERE, default(ONLINE))
    if is_on(draft, OWN_ANSWERS) and not online:
        yield Fault(step_of(OWN_ANSWERS), OWN_ANSWERS, f"needs “{label(ONLINE)}”", default(OWN_ANSWERS))
    if draft.get(START) == "teacher" and draft.teacher.name == EMBEDDED and _lacks_layers(draft.get(LAYERS)):
        yield Fault(step_of(LAYERS), LAYERS, f"the teacher has {EMBEDDED_LAYERS} layers")
    if "MINI_PRESET" in unused_of_start(draft.values):
        for name in SIZES:
            if draft.get(name):
                yield Fault("student", name, "leave it empty: the model to start from gives the shape")


def _name_faults(draft: Draft, taken: frozenset[str]) -> Iterator[Fault]:
    if draft.name and not is_name(draft.name):
        yield Fault("review", "NAME", "up to 64 letters, digits, dots, dashes or underscores")
    elif draft.name in taken:
        yield Fault("review", "NAME", "exists already", suggested_name(draft, taken))
    elif not draft.name:
        yield Fault("review", "NAME", "give it a name", suggested_name(draft, taken))
