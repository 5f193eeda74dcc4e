"""Settings and providers as a person reads them: the label of each, and sentences with labels in place of names."""

import re

from bitnet_core.settings.registry import REGISTRY
from bitnet_core.text import capital

_LABELS = {
    "NAME": "Name",
    "TEACHER_PROVIDER": "Teacher",
    "TEACHER_TOP_LOGPROBS": "Candidates a step",
    "KD_TEACHER_TEMPERATURE": "Temperature while collecting",
    "KD_TEACHER_TOP_P": "Top-p while collecting",
    "MINI_PRESET": "Student",
    "STUDENT_INIT": "Start from",
    "MINI_DIM": "Width",
    "MINI_LAYERS": "Layers",
    "MINI_HEADS": "Heads",
    "MINI_HEAD_DIM": "Head size",
    "TOKENIZER_NAME": "Tokenizer",
    "MAX_SEQ_LEN": "Sequence",
    "KD_NUM_PROMPTS": "Answers",
    "TRAIN_BATCH_SIZE": "Batch size",
    "GRAD_ACCUM_STEPS": "Batches a step",
    "LR": "Learning rate",
    "GRAD_CLIP_NORM": "Gradient clip",
    "TOTAL_STEPS": "Steps",
    "BUDGET_TOKENS": "Token budget",
    "BUDGET_EPOCHS": "Epochs",
    "FLIP_FRACTION": "Flip to 4 bits at",
    "STORAGE_BACKEND": "Target",
    "STORAGE_NAME": "Name there",
    "STORAGE_SYNC": "When",
    "STORAGE_LOCAL_DIR": "Folder",
    "ICLOUD_DRIVE_DIR": "Folder",
    "GDRIVE_PROJECT_ROOT": "Mounted at",
    "ONEDRIVE_ROOT": "Folder",
    "DROPBOX_ROOT": "Folder",
    "BOX_ROOT_FOLDER_ID": "Folder id",
    "NC_WEBDAV_URL": "Address",
    "NC_ROOT_PATH": "Folder",
    "WEBDAV_ROOT_PATH": "Folder",
    "S3_ENDPOINT_URL": "Endpoint",
    "DYNAMO_ENDPOINT_URL": "Table server",
    "DYNAMO_REGION": "Table region",
    "AMPLIFY_REGION": "App region",
    "AMPLIFY_ENV": "Environment",
    "AWS_ACCESS_KEY_ID": "Access key",
    "AWS_SECRET_ACCESS_KEY": "Secret key",
    "AWS_DEFAULT_REGION": "Region",
    "FIREBASE_STORAGE_BUCKET": "Bucket",
    "FIREBASE_CREDENTIALS_JSON": "Account JSON",
    "MONGODB_ATLAS_URI": "Connection",
    "MONGODB_DB_NAME": "Database",
    "MONGODB_COLLECTION_PREFIX": "Prefix",
    "BOX_DEVELOPER_TOKEN": "Hourly token",
    "SUPABASE_SERVICE_ROLE_KEY": "Service key",
    "RCLONE_CONFIG": "Config file",
}
_PROVIDERS = {"custom": "Other server", "hf": "transformers"}
"""Providers that the guide calls otherwise than their setting."""
_PROVIDER = re.compile(
    rf"(?<![\w./=-])(?<!= )(?<!says )(?<!\ba )({'|'.join(_PROVIDERS)})"
    r"(?=[:;,.)](?!\w)| (?:at|refuses|gives|tells|depend|answers|is)\b)"
)
"""A provider in a sentence of the core, told from the same word of a server by what follows."""
_WORDS = re.compile(r"(?<![\w/.-])([A-Z][A-Z0-9_]+)\b(?!/)(?:=(\S*))?")
"""What may be a setting with its value; never a part of a path."""
_SAME_TWICE = re.compile(r"(“[^”]+”)(?: (?:or|and) \1)+")
"""Two settings may have one field."""
_OF_THE_PROGRAM = "BITNET_"
"""Begins the names of settings of the program itself, which are set where it is started: there a name is needed."""
_ABOUT_A_LINE = "is not a setting"
"""Said of a line of a file, which can only be corrected there, with a name."""


def label(name: str) -> str:
    """The label of a setting's field."""
    if name in _LABELS:
        return _LABELS[name]
    for suffix, words in (("_MODEL", "Model"), ("_BASE_URL", "Address"), ("_API_KEY", "Key"), ("HF_TOKEN", "Key")):
        if name.endswith(suffix):
            return words
    # All settings of a target begin with the same word, which its form does not repeat.
    own = name.partition("_")[2] if REGISTRY[name].section.startswith("Storage: ") else name
    words = own.lower().replace("_", " ").removesuffix(" url")
    return capital(words) if words != "url" else "Address"


def provider_words(name: str) -> str:
    """A provider as the guide names it."""
    return _PROVIDERS.get(name, name)


def by_label(sentence: str, *, keys: bool = False) -> str:
    """A sentence of the core with settings and providers as the guide names them.

    A key keeps its name, by which the list of API keys has it, unless `keys`: a form of the guide has a label for it.
    So does a setting of the program itself.
    """
    if _ABOUT_A_LINE in sentence:
        return sentence

    def labelled(found: re.Match[str]) -> str:
        name, value = found.groups()
        if not _has_field(name) and not (keys and name in REGISTRY):
            return found[0]
        return f"“{label(name)}”" + (f" = {value}" if value else "")

    labels = _SAME_TWICE.sub(r"\1", _WORDS.sub(labelled, sentence))
    return _PROVIDER.sub(lambda found: f"“{_PROVIDERS[found[1]]}”", labels)


def first_setting(sentence: str) -> str:
    """The first setting that a sentence of the core names and that Config changes; empty if it names none."""
    if _ABOUT_A_LINE in sentence:
        return ""
    names = (found[1] for found in _WORDS.finditer(sentence))
    return next(filter(_has_field, names), "")


def _has_field(name: str) -> bool:
    """Whether Config changes it."""
    return name in REGISTRY and not REGISTRY[name].secret and not name.startswith(_OF_THE_PROGRAM)
