"""Sentences of the core as the app says them: the key that does it in place of a command, a label in place of a name.

The core names remedies for the command line, also in records and events, which both read. So the app translates them
where it takes them in or shows them. `tests/tui/test_remedies.py` finds the sentences that nothing here knows.
"""

import re
from functools import cache

from bitnet_tui import key_names
from bitnet_tui.labels import by_label, first_setting, stage_title

_STAGES = ("teacher", "collect", "train", "eval", "dryrun")
_SAID = (
    (r"`bitnet --root (?:'[^']*'|\S+) ", "`bitnet "),
    (r"start again with `bitnet train --from 0`", "train again from step 0 ({experiment.run})"),
    (r"`bitnet train --from (?:0|STEP)`", "{experiment.checkpoints} Checkpoints, {checkpoints.resume}"),
    (r"`bitnet train --from \w+`", "Resume in Checkpoints ({experiment.checkpoints})"),
    (r"`bitnet pipeline --gate` then ends with exit code 3",
     "With “Gates end the pipeline” in Config ({experiment.config}), it then fails"),
    (r" \(`bitnet pipeline --gate`\)", ""),
    (r"`bitnet pipeline`", "Run pipeline ({experiment.pipeline})"),
    (r"`train --from STEP`", "Resume in Checkpoints ({experiment.checkpoints})"),
    (r"; `train --online`\)", ")"),
    (r"or train without --from to start again", "or run “Train the student” ({experiment.run}) to start again"),
    (r"`bitnet export hf` did not write", "no export wrote"),
    (r"`bitnet export hf`", "Export ({checkpoints.export}) for transformers"),
    (r"`bitnet (export gguf|export|verify-export)`", "Export ({checkpoints.export})"),
    (r"give --force to replace it, or --out another path", "move it away"),
    (r"give --out another path", "move it away"),
    (r"; give --no-verify", ""),
    (r"; leave out --create", ""),
    (r"allow it with `bitnet keys allow [^`]+`", "start it again to allow it"),
    (r"`bitnet keys addresses` lists what is", "API keys ({app.keys}) names what is"),
    (r"`bitnet keys delete \w+`", "delete it in API keys ({app.keys})"),
    (r"run `bitnet keys set`", "use API keys ({app.keys})"),
    (r"`bitnet keys(?: set)?(?: \w+)?`", "API keys ({app.keys})"),
    (r" \(--to vault\)", ""),
    (r"`bitnet config(?: --check)?`", "Config ({experiment.config})"),
    (r"`bitnet watch [^`]+`", "Follow ({experiment.follow})"),
    (r"`bitnet stop [^`]+`", "Stop ({experiment.stop})"),
    (r"`bitnet runs`", "the folder logs"),
    (r"`bitnet experiments(?: list)?(?: --all)?`", "the list of experiments"),
    (r"`bitnet open`", "Fetch in the list ({list.fetch})"),
    (r"run `bitnet store login`", "log in in the Storage step of a new experiment ({list.new})"),
    (r"`bitnet store login`", "the login in the Storage step of a new experiment ({list.new})"),
    (r"(?:run )?`bitnet store push --verify --force`", "Force push ({experiment.overwrite})"),
    (r"(?:run )?`bitnet store push --verify`", "Repair the copy ({experiment.repair})"),
    (r"(?:run )?`bitnet store push --force`", "Force push ({experiment.overwrite})"),
    (r"(?:run )?`bitnet store push`", "Push the copy ({experiment.push})"),
    (r"(?:run )?`bitnet store pull --force`", "Force pull ({experiment.replace})"),
    (r"--force may replace", "Force pull ({experiment.replace}) may replace"),
    (r"(?:run )?`bitnet store pull`", "Pull the copy ({experiment.pull})"),
    (r"`bitnet store (check|verify)`", "Verify the copy ({experiment.verify})"),
    (r"run `bitnet traces score`", "score them ({traces.score})"),
    (r"`bitnet traces score`", "Score ({traces.score})"),
    (r"(?:run )?`bitnet traces validate`", "Check traces ({traces.check})"),
    (r"`bitnet traces list`", "Traces ({experiment.traces})"),
    (r", or give --all\b", ""),
    (r"leave out --traces", "leave the traces out"),
    (r"not timed; leave out --no-probe, or give --tokens-per-s", "not timed"),
    (r"(?:; run `bitnet plan` there)?, or give --tokens-per-s", ""),
    (r"give its new place with --root", "open it from the list of experiments"),
    (r"give --root ", "open "),
    (r" \(--root\)", ""),
    (r"(?:run|fetch it again with) `bitnet bench get[^`]*`", "fetch it in Benchmarks ({experiment.benchmarks})"),
    (r"`bitnet demo`", "the demo ({list.demo})"),
)  # fmt: skip
_KEY = re.compile(r"\{([a-z-]+\.[a-z-]+)\}")


def in_app(sentence: str) -> str:
    """The sentence with the keys and actions of the app as its remedy, and settings by their labels."""
    return by_label(by_keys(sentence))


def offering(sentence: str) -> str:
    """As `in_app`; what is about a setting names the key that opens Config at it."""
    words = in_app(sentence)
    if not first_setting(sentence) or "Config" in words:
        return words
    return f"{words.rstrip('.')} ({key_names.key('experiment.config')} Config)."


def actions_in(sentence: str) -> tuple[str, ...]:
    """The actions, by their ids, whose keys `offering` names in a sentence of the core."""
    found: list[str] = []
    if "`" in sentence or "--" in sentence:
        for pattern, words in _patterns():
            if pattern.search(sentence):
                found += _KEY.findall(words)
                sentence = pattern.sub("", sentence)
    return (*found, *(["experiment.config"] if first_setting(sentence) else []))


def by_keys(sentence: str) -> str:
    """The sentence with keys and actions alone, where the caller puts the labels, or where it is a model's."""
    if "`" not in sentence and "--" not in sentence:
        return sentence
    for pattern, words in _patterns():
        sentence = pattern.sub(_with_keys(words), sentence)
    return sentence


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Compiled when the first sentence comes, which is after the first paint."""
    stages = ((rf"(?:run )?`bitnet {one}`", f"run {stage_title(one)} ({{experiment.run}})") for one in _STAGES)
    return tuple((re.compile(pattern), words) for pattern, words in (*_SAID, *stages))


def _with_keys(words: str) -> str:
    """The words with keys in place of actions. Only ours are read for actions: a sentence may have any brackets."""
    return _KEY.sub(lambda found: key_names.key(found[1]).replace("\\", r"\\"), words)
