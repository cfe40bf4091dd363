"""The compilers of kernels and plugins: where they are, which version, and how a call of one fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgeir.errors import BuildFailed, MissingDependency

CUDA_SOURCES = Path(__file__).parent / "cuda"
_SHOWN_LINES = 3
_HINTS = {
    "nvcc": "Install the CUDA toolkit (JetPack brings it) and put its bin folder on the PATH, or set CUDA_HOME.",
    "cmake": "Install CMake 3.18 or later.",
}


def find(program: str) -> Path:
    """The path of ``"nvcc"`` or ``"cmake"``: on the PATH, or of the CUDA toolkit that CUDA_HOME or /usr/local/cuda is.

    Raises:
        MissingDependency: it is nowhere.
    """
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders = os.pathsep.join(f"{home}{os.sep}bin" for home in homes if home)
    found = shutil.which(program) or shutil.which(program, path=folders)
    if found is None:
        raise MissingDependency(f"{program} is not on this machine", where="building plugins", fix=_HINTS[program])
    return Path(found)


def nvcc_version(nvcc: Path) -> str:
    """``"13.0.88"``.

    Raises:
        MissingDependency: it does not say.
    """
    said = run([str(nvcc), "--version"], what="nvcc --version")
    found = re.search(r"\bV(\d+(?:\.\d+)+)", said)
    if found is None:
        raise MissingDependency("does not say its version", where=str(nvcc), got=said.strip()[-200:])
    return found.group(1)


def run(command: Sequence[str], *, what: str) -> str:
    """What a compiler printed on stdout.

    Args:
        command: program and arguments.
        what: for the error.

    Raises:
        BuildFailed: it ended with another exit status than 0; the message has its first errors.
    """
    done = subprocess.run(list(command), capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines
        raise BuildFailed(
            f"{Path(command[0]).name} ended with exit status {done.returncode}",
            where=what,
            got=" | ".join(errors[:_SHOWN_LINES]) or "nothing printed",
        )
    return done.stdout
