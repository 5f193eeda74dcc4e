"""Shares out among the workers what pytest does to every test file of a fresh clone: it rewrites the assertions.

Each worker imports all files at the same time as the others, found none of theirs rewritten, and did it all itself.
Nothing is imported here: tests are parametrised by classes in the order of their imports, which must stay the same.
"""

import sys

import pytest
from _pytest.assertion import rewrite


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    worker = getattr(session.config, "workerinput", None)
    named = session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    if worker is None or named or sys.dont_write_bytecode:
        return
    first, root = int(worker["workerid"].removeprefix("gw")), session.config.rootpath
    files = sorted(file for place in session.config.args for file in (root / place).rglob("test_*.py"))
    for file in files[first :: worker["workercount"]]:
        kept = rewrite.get_cache_dir(file) / f"{file.stem}{rewrite.PYC_TAIL}"
        if rewrite._read_pyc(file, kept) is None and rewrite.try_makedirs(kept.parent):
            source_hash, code = rewrite._rewrite_test(file, session.config)
            rewrite._write_pyc(session.config.stash[rewrite.assertstate_key], code, source_hash, kept)
