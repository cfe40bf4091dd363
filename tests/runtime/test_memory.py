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


REUSED = """
import resource, sys
import numpy as np
from edgeir.runtime.memory import keep_for_reuse

if sys.argv[1] == "kept":
    keep_for_reuse()

def step():
    blocks = [np.ones(5 << 17) for _ in range(20)]  # 5 MiB each, written to
    blocks.append(np.ones(40 << 17))

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_kept_blocks_are_not_mapped_again() -> None:
    faults = {
        way: int(subprocess.run([sys.executable, "-c", REUSED, way], capture_output=True, text=True, check=True).stdout)
        for way in ("as-usual", "kept")
    }
    assert faults["as-usual"] > 5000  # 40 MiB anew in each of five steps alone are 51,200 pages of 4 KiB
    assert faults["kept"] < faults["as-usual"] / 10


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
