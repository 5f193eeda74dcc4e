"""Processes: their memory, and children that answer, hang or die."""

import errno
import fcntl
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from bitnet_core import process
from bitnet_core.errors import BitnetError
from bitnet_core.runs.around import LoadReader

_HANGING = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(60)
"""


def _start(code: str, *arguments: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)


def test_a_child_that_answers() -> None:
    with _start("print(input()[::-1])") as child:
        assert process.communicate(child, 30, "abc\n")[0] == "cba\n"


def test_a_child_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    with _start(_HANGING, str(noted)) as child:
        deadline = time.monotonic() + 60
        while not (noted.exists() and noted.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(child, 0.05)
    while process.identify(int(noted.read_text())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.identify(int(noted.read_text())) is None
    process.kill_group(child.pid)


def test_a_helper_that_dies_before_it_reads_its_job_leaves_a_complaint() -> None:
    with tempfile.TemporaryFile("w+") as log:
        assert process.last_line(log) == ""
        with process.start_helper("no_such_module", ["job"] * 100_000, log) as helper:
            assert process.pipe_of(helper.stdout).read() == ""
        assert "no_such_module" in process.last_line(log)


@pytest.mark.parametrize("module", ["bitnet_core", "bitnet_core.stages", "pip"])
def test_a_file_of_the_working_folder_is_not_run_in_the_place_of_a_module(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may be anybody's, and a stage holds keys."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(process.__file__).parents[1]))
    for name in ("argparse", "random", "secrets", "json", "msgspec", "pathlib"):
        (tmp_path / f"{name}.py").write_text(f"open('ran', 'a').write('{name} ')\n")
    subprocess.run(process.python(module, "--help"), capture_output=True, check=False, timeout=120)
    assert not (tmp_path / "ran").exists()


def test_in_a_checkout_that_is_not_installed_modules_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(process.__file__).parents[1])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = process.python("bitnet_core", "--version")
    without_packages = [command[0], "-S", *command[1:]]  # of what is installed, an editable install of ours included
    assert subprocess.run(without_packages, capture_output=True, text=True, check=True, timeout=120).stdout


def test_the_lines_of_a_helper_come_one_by_one_and_as_it_wrote_them() -> None:
    code = "import sys; sys.stdout.write('a\\n\\n' + 'b' * 200_000 + '\\nnaïve'); sys.stdout.flush(); input()"
    with _start(code) as child:
        lines = process.lines_of(child, "It")
        assert [next(lines), next(lines), len(next(lines))] == ["a", "", 200_000]
        process.pipe_of(child.stdin).close()
        assert list(lines) == ["naïve"]


def test_the_lines_of_a_helper_are_read_from_a_descriptor_of_any_number() -> None:
    """A process may have thousands of files and sockets open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    try:
        with _start("print('a')") as child:
            with process.pipe_of(child.stdout) as pipe:
                child.stdout = os.fdopen(fcntl.fcntl(pipe, fcntl.F_DUPFD, 1500))
            assert list(process.lines_of(child, "It")) == ["a"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_helper_that_says_nothing_is_given_up_and_looks_after_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(process, "_LOOK_SECONDS", 0.05)
    with _start("print('alive', flush=True); input()") as child:
        lines = process.lines_of(child, "llama.cpp", lambda: looked.append(1))
        assert next(lines) == "alive"
        monkeypatch.setattr(process, "_SILENCE_SECONDS", 0.1)
        with pytest.raises(BitnetError, match=r"^llama\.cpp gave no sign of life for 0 s; close other programs and"):
            next(lines)
        child.kill()
    assert looked


def test_of_a_long_log_only_the_end_is_read() -> None:
    with tempfile.TemporaryFile("w+") as log:
        os.truncate(log.fileno(), 1 << 40)
        os.pwrite(log.fileno(), "\nthe last \udcff\n \n".encode(errors="surrogateescape"), 1 << 40)
        assert process.last_line(log) == "the last \ufffd"


def test_memory_of_this_process_and_of_others() -> None:
    held = bytearray(b"\1") * (64 << 20)
    assert process.peak_rss_bytes() >= process.rss_bytes() * 0.95 > len(held)
    assert process.rss_bytes(os.getpid()) > len(held)
    with _start("") as child:
        child.communicate()
    assert process.rss_bytes(child.pid) == 0


def test_available_memory_respects_the_containers_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = process.available_bytes()
    assert free > 0
    monkeypatch.setattr(process, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    assert process.available_bytes() == 300000
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 50000\n")
    assert process.available_bytes() == 350000
    (tmp_path / "memory.max").write_text("max\n")
    assert process.available_bytes() > 350000


@pytest.mark.parametrize(
    ("own", "group", "names"),
    [
        ("0::/user.slice/job.scope\n", "user.slice/job.scope", ("memory.max", "memory.current")),
        ("0::/user.slice/job.scope\n", "user.slice", ("memory.max", "memory.current")),
        (
            "5:cpu:/elsewhere\n4:hugetlb,memory:/jobs/a:b\n0::/\n",
            "memory/jobs/a:b",
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ),
        ("4:memory:/not/shown/here\n", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")),
    ],
)
def test_a_limit_of_any_group_that_holds_this_process_counts(
    own: str, group: str, names: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a scope of systemd and a job of a batch system have one."""
    monkeypatch.setattr(process, "_CGROUP", tmp_path)
    monkeypatch.setattr(process, "_OWN_GROUPS", tmp_path / "own")
    (tmp_path / "own").write_text(own)
    assert process.available_bytes() > 300000
    (tmp_path / group).mkdir(parents=True, exist_ok=True)
    (tmp_path / group / names[0]).write_text("1000000\n")
    (tmp_path / group / names[1]).write_text("700000\n")
    (tmp_path / group / "memory.stat").write_text("total_inactive_file 0\n")
    assert process.memory() == (300000, 1000000)


def test_processes_killed_for_lack_of_memory_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_VM_COUNTERS", tmp_path / "vmstat")
    assert process.oom_kills() is None
    (tmp_path / "vmstat").write_text("pgfault 9\noom_kill_x 3\noom_kill 4\n")
    assert process.oom_kills() == 4


_FIRST = """
import os, pathlib, sys
from bitnet_core import process
from bitnet_core.errors import BitnetError
from bitnet_core.runs.around import LoadReader
process.let_others_go_first(int(sys.argv[1]))
group = pathlib.Path("/proc/self/autogroup")
print(os.nice(0), *(group.read_text().split() if group.exists() else []))
"""


@pytest.mark.parametrize("own_session", [True, False])
def test_a_process_that_lets_others_go_first_takes_no_more_than_its_own_session_along(*, own_session: bool) -> None:
    """In a session of its own a nice value alone means nothing to the others."""
    group, before = Path("/proc/self/autogroup"), os.nice(0)
    was = group.read_text().split() if group.exists() else []  # nothing to read outside of every session
    command = [sys.executable, "-c", _FIRST, "7"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=own_session).stdout
    niceness, *session = said.split()
    assert int(niceness) == min(19, before + 7)
    assert session[-1:] == (["7"] if session and own_session else was[-1:])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the memory of a process")
def test_a_process_that_grows_past_its_limit_gets_no_memory() -> None:
    code = """
import os
from bitnet_core.process import limit_growth
limit_growth(256 << 20, 8)
held = bytearray(200 << 20)
try:
    bytearray(1 << 30)
except MemoryError:
    print("refused")
try:
    print(len([os.dup(0) for _ in range(9)]))
except OSError:
    print("no file")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\nno file\n"


def test_what_a_proc_without_the_system_s_files_lacks_is_found_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `mount -t proc -o subset=pid` makes it; where nothing is mounted there, no process can be recognised."""

    def absent(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/proc/stat")

    known = process.memory()[1]
    monkeypatch.setattr(process, "_BOOT_ID", Path("/nowhere"))
    for name in ("boot_time", "virtual_memory", "cpu_times"):
        monkeypatch.setattr(psutil, name, absent)
    assert process.boot_id.__wrapped__() == "boot-unknown"
    available, total = process.memory()
    assert 0 < available < total
    assert total == pytest.approx(known, rel=0.05)
    assert LoadReader()._cpu() is None
    monkeypatch.setattr(process, "identify", lambda _: None)
    with pytest.raises(BitnetError, match=r"^/proc is not mounted, so .*; mount it\.$"):
        process.current()
