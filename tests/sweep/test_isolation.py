"""Every way a command can end, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

psutil = pytest.importorskip("psutil", reason="psutil is not installed: no sweep can run here")

from edgeir.sweep.isolation import Ending, Limits, Stopped, run_isolated  # noqa: E402

GENEROUS = Limits(seconds=60, memory_bytes=1 << 30)
CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)', {mark!r}])"


def run(code: str, limits: Limits = GENEROUS, *arguments: str, **options: object) -> Ending:
    return run_isolated([sys.executable, "-c", textwrap.dedent(code), *arguments], limits, **options)  # type: ignore[arg-type]


def marked(mark: str) -> list[int]:
    """Processes whose command line holds ``mark``, this one aside."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if mark in " ".join(line) and process.pid != os.getpid() and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def gone(mark: str) -> bool:
    """Whether they are, given the moment that the kernel takes for it."""
    end = time.monotonic() + 5
    while marked(mark):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_a_command_that_ends_well() -> None:
    ending = run("import sys; print('answer'); sys.stderr.write('progress')")
    assert (ending.status, ending.reason, ending.output) == ("ok", "", "answer\n")
    assert ending.seconds < 30


def test_a_failure_says_edgeirs_sentence(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    code = "import sys; sys.stderr.write('[1/3] x\\nedgeir: the disk is full.\\nlast words\\n'); sys.exit(3)"
    ending = run(code, log=log)
    assert (ending.status, ending.reason) == ("failed", "exit code 3: the disk is full.")
    assert log.read_text().endswith("last words\n")
    again = run("import sys; sys.exit(1)", log=log)
    assert again.reason == "exit code 1: it said nothing", "a sentence of the run before"


def test_pythons_own_error() -> None:
    assert run("raise ValueError('seven')").reason == "exit code 1: ValueError: seven"


@pytest.mark.parametrize("kind", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_names_the_signal(kind: signal.Signals) -> None:
    code = f"import os, sys; sys.stderr.write('bad pointer\\n'); sys.stderr.flush(); os.kill(os.getpid(), {int(kind)})"
    ending = run(code)
    assert (ending.status, ending.reason) == ("crashed", f"{kind.name}: bad pointer")


def test_a_hang_is_killed_with_its_children() -> None:
    mark = f"edgeir-test-{time.time_ns()}"
    ending = run(CHILD.format(mark=mark), Limits(1.5, 1 << 30))
    assert ending.status == "timed out"
    assert ending.reason == "not done after 2 s, its limit"
    assert 1.4 < ending.seconds < 30
    assert gone(mark)


def test_a_child_that_left_the_group_is_killed_too() -> None:
    mark = f"edgeir-test-{time.time_ns()}"
    code = CHILD.format(mark=mark).replace("])", "], start_new_session=True)")
    assert run(code, Limits(1.5, 1 << 30)).status == "timed out"
    assert gone(mark)


def test_one_that_eats_memory() -> None:
    code = """
        import time
        eaten = []
        while True:
            eaten.append(bytearray(b'x') * (16 << 20))
            time.sleep(0.01)
    """
    ending = run(code, Limits(60, 200 << 20))
    assert ending.status == "out of memory"
    assert ending.peak_bytes > 200 << 20
    assert "its limit is 0.20 GiB" in ending.reason


def test_memory_of_children_counts() -> None:
    inner = "x = bytearray(b'x') * (150 << 20); import time; time.sleep(30)"
    code = f"import subprocess, sys; [subprocess.Popen([sys.executable, '-c', {inner!r}]) for _ in range(2)][0].wait()"
    assert run(code, Limits(60, 200 << 20)).status == "out of memory"


def test_what_a_command_leaves_behind_is_killed() -> None:
    mark = f"edgeir-test-{time.time_ns()}"
    code = CHILD.format(mark=mark).replace("subprocess.run", "subprocess.Popen")
    assert run(code).status == "ok"
    assert gone(mark)


def test_stopped_from_another_thread() -> None:
    mark = f"edgeir-test-{time.time_ns()}"
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(Stopped):
        run(CHILD.format(mark=mark), stop=stop)
    assert gone(mark)


@pytest.mark.skipif(sys.platform != "linux", reason="oom_score_adj is Linux's")
def test_the_kernel_would_take_it_first() -> None:
    assert run("print(open('/proc/self/oom_score_adj').read().strip())").output == "1000\n"


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_children_die_with_a_parent_that_is_killed(
    kind: signal.Signals, within: Callable[[float, Callable[[], bool]], bool]
) -> None:
    mark = f"edgeir-test-{time.time_ns()}"
    program = (
        "import sys; from edgeir.sweep.isolation import Limits, run_isolated; "
        f"run_isolated([sys.executable, '-c', {CHILD.format(mark=mark)!r}], Limits(600, 1 << 30))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    try:
        assert within(30, lambda: len(marked(mark)) == 4), "parent, warden, command and its child"
    finally:
        parent.send_signal(kind)
        parent.wait()
    assert within(10, lambda: not marked(mark)), "a child outlived its parent"
