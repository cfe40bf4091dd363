"""Peak memory of one runner, measured in a process of its own: ``python -m edgeir.runtime.memory BUNDLE BACKEND``."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path

from edgeir.errors import MissingDependency
from edgeir.subprocesses import run_module

# malloc.h of glibc
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4


def peak_memory_bytes(bundle: Path, backend: str, *, checkpoint: Path | None = None, timeout_s: float = 600) -> int:
    """Peak resident memory of opening a backend and restoring one batch, in bytes, interpreter included.

    Raises:
        MissingDependency: the process could not run that backend, the message is its own; or it took longer than
            ``timeout_s`` seconds.
    """
    command = [sys.executable, "-c", run_module("edgeir.runtime.memory"), str(bundle), backend]
    if checkpoint is not None:
        command.append(str(checkpoint))
    what = f"the memory of the backend '{backend}' could not be measured"
    try:
        finished = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MissingDependency(what, expected=f"an answer within {timeout_s:.0f} s", got="none") from error
    if finished.returncode != 0:
        raise MissingDependency(what, got=(finished.stderr.strip().splitlines() or ["no reason stated"])[-1])
    return int(json.loads(finished.stdout.splitlines()[-1])["peak_bytes"])


def give_back() -> None:
    """Give memory that Python and the C library keep for later back to the system, where that can be asked for.

    Tracing leaves about a gigabyte of cyclic garbage and of freed blocks, which would stand beside what comes next.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # glibc has it
    if trim is not None:
        trim(0)


def free_at_once() -> None:
    """Have the C library give blocks of 1 MiB and more back to the system as soon as they are freed, from now on.

    glibc raises that limit to 32 MiB by itself when large blocks come and go, and keeps smaller ones in a heap that can
    only shrink at its end. Without an arena of its own, ONNX Runtime needed 7.4 GiB for a graph at 512x320 that way,
    and 0.55 GiB with the limit fixed at 256 KiB.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def keep_for_reuse() -> None:
    """Have the C library keep freed blocks of any size for the next allocation, from now on.

    The opposite of `free_at_once`, for a process that allocates the same sizes again and again: a training step on a
    CPU spent half of its time in the kernel, mapping and clearing pages that the step before had given back.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 64 << 20)


def _main() -> None:
    import numpy as np

    from edgeir.bundle import Bundle
    from edgeir.runtime.opening import graph_input, open_session

    bundle = Bundle.open(sys.argv[1], verify=False)
    graph = graph_input(bundle.manifest)
    session = open_session(bundle, sys.argv[2], checkpoint=Path(sys.argv[3]) if len(sys.argv) > 3 else None)
    session.run(np.zeros((graph.batch, bundle.manifest.model.channels, *graph.optimum), np.float32))
    sys.stdout.write(json.dumps({"peak_bytes": _own_peak_bytes()}) + "\n")


def _own_peak_bytes() -> int:
    """Peak resident memory of this process since its program started.

    Linux's ``ru_maxrss`` survives exec and so counts the process that started this one: a parent that has loaded
    PyTorch would hide every smaller figure. ``VmHWM`` begins with the program.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, other systems kibibytes


if __name__ == "__main__":
    _main()
