"""Settings as a person reads them: the label of a field, and sentences of commands without names or commands."""

import re

from bitnet_core.settings.registry import REGISTRY
from bitnet_core.text import capital
from bitnet_tui.remedies import in_app

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
    "DYNAMO_ENDPOINT_URL": "Endpoint",
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
_NAMES = re.compile(r"\b(" + "|".join(sorted(REGISTRY, key=len, reverse=True)) + r")\b(?:=(\S*))?")
_SAME_TWICE = re.compile(r"(“[^”]+”)(?: (?:or|and) \1)+")
"""Two settings may have one field."""
_COMMANDS = (
    (re.compile(r"`bitnet keys set (\w+)` keeps it in the OS keyring"), r"type it into \1"),
    (re.compile(r"`bitnet store login`"), "Log in"),
    (re.compile(r"\brun Log in\b"), "log in"),
    (re.compile(r" in \.env\b"), " here"),
)


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


def preset_words(name: str) -> str:
    """A preset in a word that fits a narrow line."""
    return name.removeprefix("smollm2-")


def about(name: str) -> str:
    """What a setting is, and what it may be."""
    setting = REGISTRY[name]
    help_words = setting.help.removeprefix("local: ")
    text = plain(capital(help_words))
    return text if setting.choices or setting.kind not in ("int", "float") else f"{text} {_allowed(name)}"


def _allowed(name: str) -> str:
    allowed = REGISTRY[name].allowed()
    return f"{capital(allowed)}."


def plain(sentence: str) -> str:
    """A sentence of a command as the guide says it: fields by their labels, buttons in place of commands."""
    for command, words in _COMMANDS:
        sentence = command.sub(words, sentence)
    return re.sub(r" {2,}", " ", in_words(sentence))


def in_words(sentence: str) -> str:
    """A sentence of the core in the app's words, with settings by their labels."""
    return _SAME_TWICE.sub(r"\1", _NAMES.sub(_quoted, in_app(sentence)))


def first_setting(sentence: str) -> str:
    """The first setting that a sentence of the core names; empty if it names none."""
    found = _NAMES.search(sentence)
    return found[1] if found else ""


def _quoted(found: re.Match[str]) -> str:
    return f"“{label(found[1])}”" + (f" = {found[2]}" if found[2] else "")
