"""Where a file comes from: the command, the versions, the device and the time, and nothing that names a person.

Provenance travels with every bundle and report, so it must be safe to hand to a stranger: paths are reduced to
their last part, and the words that name the user or the machine are replaced.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path, PureWindowsPath
from typing import Any

from edgeir.errors import UsageError

# Name in a provenance -> the distributions that can provide it, the first one installed is taken.
_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "edgeir": ("edgeir",),
    "numpy": ("numpy",),
    "torch": ("torch",),
    "onnx": ("onnx",),
    "onnx-ir": ("onnx-ir",),
    "onnxscript": ("onnxscript",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt_rtx": ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx"),
}
_WORD = re.compile(r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)*")
_SHORT_OPTION_WITH_PATH = re.compile(r"^(-[A-Za-z])(.*[/\\].*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Device:
    """The kind of computer, never which one.

    Attributes:
        machine: instruction set (``"x86_64"``, ``"aarch64"``).
        processor: model of the processor or of the board, ``"unknown"`` where the system does not say.
        processors: logical processors.
        gpu: name of the GPU as a runtime reported it, ``None`` when no GPU took part.
    """

    machine: str
    processor: str
    processors: int
    gpu: str | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """How one file was made.

    Attributes:
        command: the command line, program first; every path is reduced to its last part.
        versions: package name to version, of those that are installed, and ``"python"``.
        device: the kind of computer.
        seconds: wall time of the work in seconds.
        created: end of the work, ISO 8601 in UTC with seconds.
    """

    command: tuple[str, ...]
    versions: Mapping[str, str]
    device: Device
    seconds: float
    created: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "command": list(self.command),
            "versions": dict(self.versions),
            "device": asdict(self.device),
            "seconds": self.seconds,
            "created": self.created,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str) -> Provenance:
        """Read what `to_dict` wrote; ``where`` names the file in errors.

        Raises:
            UsageError: a field is missing or of the wrong kind.
        """
        try:
            device = data["device"]
            gpu = device["gpu"]
            return cls(
                command=tuple(str(part) for part in data["command"]),
                versions={str(name): str(version) for name, version in data["versions"].items()},
                device=Device(
                    machine=str(device["machine"]),
                    processor=str(device["processor"]),
                    processors=int(device["processors"]),
                    gpu=None if gpu is None else str(gpu),
                ),
                seconds=float(data["seconds"]),
                created=str(data["created"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                "the provenance cannot be read", where=where, got=f"{type(error).__name__}: {error}"
            ) from error


def collect(*, seconds: float, argv: Sequence[str] | None = None, gpu: str | None = None) -> Provenance:
    """Provenance of work that ends now.

    Args:
        seconds: wall time of the work in seconds.
        argv: the command line, program first; ``sys.argv`` by default.
        gpu: name of the GPU, only where a runtime reported it.
    """
    return Provenance(
        command=public_command(sys.argv if argv is None else argv),
        versions=installed_versions(),
        device=Device(
            machine=platform.machine() or "unknown",
            processor=_processor(),
            processors=os.cpu_count() or 1,
            gpu=gpu,
        ),
        seconds=round(seconds, 3),
        created=datetime.now(timezone.utc).replace(microsecond=0).isoformat(),
    )


def installed_versions() -> dict[str, str]:
    """Versions of Python and of those packages edgeir works with that are installed; imports none of them."""
    versions = {"python": platform.python_version()}
    for name, distributions in _PACKAGES.items():
        for distribution in distributions:
            try:
                versions[name] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
            break
    return versions


def public_command(argv: Sequence[str]) -> tuple[str, ...]:
    """``argv`` as it may be shown to anybody: program, options and last parts of paths.

    >>> public_command(["/opt/bin/edgeir", "run", "some/where/a.edgeir", "--out=/data/x.png"])
    ('edgeir', 'run', 'a.edgeir', '--out=x.png')
    """
    private = _private_words()
    return tuple(
        _program(part) if index == 0 else part if index == 1 and part.isalpha() else _public(part, private)
        for index, part in enumerate(argv)
    )


def _program(part: str) -> str:
    """Name of the program; ``python -m`` and friends are edgeir all the same."""
    name = PureWindowsPath(part).name
    return "edgeir" if name in {"", "__main__.py", "-c", "-m"} else name


def _public(part: str, private: frozenset[str]) -> str:
    if part.startswith("--"):
        option, equals, value = part.partition("=")
        return f"{option}{equals}{_last_part(value, private)}" if equals else option
    if match := _SHORT_OPTION_WITH_PATH.match(part):
        return match[1] + _last_part(match[2], private)
    return _last_part(part, private)


def _last_part(value: str, private: frozenset[str]) -> str:
    """The last part of a path (both kinds of slashes), without the words that name the user or the machine."""
    name = PureWindowsPath(value).name if "/" in value or "\\" in value else value
    return _WORD.sub(lambda match: _hidden(match[0], private), name)


def _hidden(word: str, private: frozenset[str]) -> str:
    if word.lower() in private:
        return "_"
    return "-".join("_" if piece.lower() in private else piece for piece in word.split("-"))


def _private_words() -> frozenset[str]:
    """Lower-case words that name the user or the machine here."""
    node = platform.node()
    words: list[str] = [node, node.split(".")[0], Path.home().name if _has_home() else ""]
    with contextlib.suppress(KeyError, OSError, ImportError):  # no such user in this container
        words.append(getpass.getuser())
    return frozenset(word.lower() for word in words if word)


def _has_home() -> bool:
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


def _processor() -> str:
    """Model of the board (Jetson) or of the processor, from what the system publishes about its kind."""
    try:
        board = Path("/proc/device-tree/model").read_text(encoding="utf-8").strip("\0 \n")
        if board:
            return board
    except OSError:
        pass
    try:
        lines: Iterable[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = ()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Processor", "Hardware"} and value.strip():
            return value.strip()
    return platform.processor() or "unknown"
