"""A process to be killed by a test: push_child.py push|pull ROOT SETTINGS KEYS, the last two as JSON."""

import json
import sys
from pathlib import Path

from bitnet_core.runs.experiment import Experiment
from bitnet_core.settings.resolve import resolve
from bitnet_core.storage.copy import open_copy
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.newest import newest_state
from bitnet_core.storage.pull import Pull
from bitnet_core.storage.push import Push


def main(what: str, root: str, settings: str, keys: str) -> None:
    resolved = resolve(json.loads(settings), environ={}, cwd=Path(root).parent, root=Path(root))
    experiment = Experiment.from_settings(resolved.checked())
    with open_copy(experiment, Keys(json.loads(keys))) as copy:
        sys.stdout.write("began\n")
        sys.stdout.flush()
        if what == "push":
            pushed = Push(experiment, copy.place, copy.state).run()
            sys.stdout.write(f"{pushed.sent_files} {pushed.sent_bytes} {peak_bytes()}\n")
        else:
            published = newest_state(copy.place).published
            pulled = Pull(experiment, copy.place, copy.state, published).run(published.manifest.files)
            sys.stdout.write(f"{len(pulled.files)} {pulled.bytes}\n")


def peak_bytes() -> int:
    """The most memory that this process has had; `ru_maxrss` would count that of the process that started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main(*sys.argv[1:])
