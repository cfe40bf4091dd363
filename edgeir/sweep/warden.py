"""Runs one command for `edgeir.sweep.isolation` and outlives nobody: ``python -I -S warden.py FD COMMAND ...``.

It leads a process group of its own, with the command inside. When whoever started it is gone, killed outright
included, the descriptor ``FD`` (one end of a socket pair) ends, and the whole group is killed. The command's exit
status, negative for a signal, goes back through the same descriptor as one line.

Standard library only, and started without site-packages: it is up in a few milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_KILL_FIRST = b"1000"  # proc(5): the kernel's first choice when memory runs out
_LOOK_S = 0.02


def _prepare() -> None:
    """In the child, before the command: die with the warden, and be what the kernel kills when memory runs out."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):
        handle = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        try:
            os.write(handle, _KILL_FIRST)
        finally:
            os.close(handle)


def _main() -> None:
    link, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(link, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_prepare)
    while child.poll() is None:
        readable, _, _ = select.select([link], [], [], _LOOK_S)
        if readable and not os.read(link, 1):
            os.killpg(0, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.write(link, f"{child.returncode}\n".encode())


if __name__ == "__main__":
    _main()
