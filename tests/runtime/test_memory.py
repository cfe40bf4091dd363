"""Memory that is freed goes back to the system, and the peak of a runner is its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from edgeir.runtime.memory import give_back

FRAGMENTED = """
import sys
import numpy as np
from edgeir.runtime.memory import free_at_once

def resident_mib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) // 1024

if sys.argv[1] == "at-once":
    free_at_once()
np.ones(30 << 17)  # freed at once: glibc takes 30 MiB for a size that comes and goes, and keeps smaller ones
before = resident_mib()
blocks = [np.ones(4 << 17) for _ in range(64)]  # 4 MiB each
last = blocks[-1]
del blocks  # all but the last one, at the end of the heap
print(resident_mib() - before)
"""


def kept_mib(way: str) -> int:
    found = subprocess.run([sys.executable, "-c", FRAGMENTED, way], capture_output=True, text=True, check=True)
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_blocks_leave_the_process() -> None:
    assert kept_mib("as-usual") > 200  # else the second line would prove nothing
    assert kept_mib("at-once") < 20


def test_giving_back_frees_garbage() -> None:
    class Cycle:
        freed = 0

        def __del__(self) -> None:
            Cycle.freed += 1

    cycle = Cycle()
    cycle.itself = cycle  # type: ignore[attr-defined]
    del cycle
    give_back()
    assert Cycle.freed == 1
