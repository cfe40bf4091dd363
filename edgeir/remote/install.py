"""Installing this edgeir on a device: a wheel is sent, and an environment made.

Dependencies come from the device's own pip, or from a folder of wheels that is sent along.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from edgeir.errors import BuildFailed, MissingDependency, OutOfSpace, UsageError
from edgeir.remote.addresses import Device
from edgeir.remote.connection import Connection, RemoteFailed, quoted
from edgeir.remote.probe import Probe, absolute, no_python
from edgeir.remote.wheel import content_digest

INSTALL_TIMEOUT_S = 3600.0  # wheels of a GPU runtime are gigabytes, and pip's own mirror may be slow
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?\s*([<>=!~][=<>!~A-Za-z0-9.,*+ -]*)?")


@dataclass(frozen=True, slots=True)
class Installation:
    """What to install.

    Attributes:
        wheel: of edgeir.
        requirements: what else, in pip's words (``"onnxruntime"``, ``"tensorrt-rtx-cu13"``).
        extras: of edgeir (``"nvml"``).
        wheels: a folder of wheels to install from in place of an index, ``None`` for the device's own pip settings.
        system: let the environment see the system's packages, such as JetPack's TensorRT.
        again: make the environment anew even where it is there.
    """

    wheel: Path
    requirements: tuple[str, ...]
    extras: tuple[str, ...] = ()
    wheels: Path | None = None
    system: bool = False
    again: bool = False


def check_requirements(words: Sequence[str]) -> tuple[str, ...]:
    """``words``, if pip can take each for nothing but a requirement.

    Raises:
        UsageError: one is something else.
    """
    for word in words:
        if not _REQUIREMENT.fullmatch(word):
            raise UsageError("no requirement of pip", where="--with", expected="such as onnxruntime", got=repr(word))
    return tuple(words)


def install(
    connection: Connection, found: Probe, what: Installation, say: Callable[[str], None] = lambda text: None
) -> Device:
    """Make the environment on a device; gives the device with its ``root`` and ``python``.

    Args:
        connection: to it.
        found: what it is.
        what: to install.
        say: told what is sent.

    Raises:
        Unreachable: see `Connection.run`.
        MissingDependency: another installation is running there, or with ``again`` a job in this environment.
        OutOfSpace: the disk there is full; what was half made is removed.
        BuildFailed: pip could not install it.
    """
    device = replace(connection.device, root=found.root)
    name = _environment_name(found, what)
    files = [what.wheel, *(sorted(what.wheels.glob("*.whl")) if what.wheels is not None else ())]
    sizes = sum(path.stat().st_size for path in files)
    if found.free_bytes < 4 * sizes:  # the wheels, what is in them, and room to breathe
        raise OutOfSpace(
            "the disk of the device has too little room",
            where=device.name,
            expected=f"{4 * sizes / 1e6:.0f} MB",
            got=f"{found.free_bytes / 1e6:.0f} MB",
            fix="Free some space there.",
        )
    python = found.python
    _make_folder(connection, python, found, "wheels")
    ready = _is_ready(connection, found, name)
    if ready and not what.again:
        say("it is installed already")
    else:
        say(f"sending {len(files)} wheel{'s' if len(files) > 1 else ''}, {sizes / 1e6:.1f} MB")
        batch = [f"put {quoted(str(path.resolve()))} {quoted(f'{found.root}/wheels/{path.name}')}" for path in files]
        try:
            connection.transfer(batch, what.wheel.parent)
        except RemoteFailed as failed:
            raise _not_sent(connection, python, found, failed) from failed
        say("making the environment there: pip installs edgeir and what it needs")
    answer = _script(
        connection,
        python,
        {
            "root": found.root,
            "name": name,
            "wheel": f"wheels/{what.wheel.name}",
            "extras": f"[{','.join(what.extras)}]" if what.extras else "",
            "requirements": list(what.requirements),
            "wheels": None if what.wheels is None else "wheels",
            "system": what.system,
            "again": what.again,
        },
    )
    if answer.get("busy"):
        raise _busy(device.name)
    if answer.get("working"):
        raise MissingDependency(
            "a job is running in this environment there",
            where=device.name,
            fix=f"Wait for it, or end it: edgeir device stop {device.name} BUNDLE.",
        )
    if answer.get("full"):
        raise OutOfSpace("the disk of the device is full", where=device.name, fix="Free some space there.")
    if "words" in answer:
        raise BuildFailed(
            "edgeir could not be installed there",
            where=device.name,
            got=str(answer["words"]),
            fix="A device without a network takes wheels from here: --wheels FOLDER.",
        )
    return replace(device, python=absolute(str(answer["python"]), name=device.name))


def _environment_name(found: Probe, what: Installation) -> str:
    """The same for the same things: installing twice is done once."""
    parts = [content_digest(what.wheel), found.python, found.python_version, str(what.system)]
    parts += [*what.requirements, *what.extras]
    if what.wheels is not None:
        parts += [f"{path.name} {path.stat().st_size}" for path in sorted(what.wheels.glob("*.whl"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _script(connection: Connection, python: str, arguments: dict[str, object]) -> dict[str, object]:
    source = resources.files("edgeir.remote").joinpath("install_script.py").read_text(encoding="utf-8")
    try:
        return connection.script(python, source, arguments, timeout_s=INSTALL_TIMEOUT_S)
    except RemoteFailed as failed:
        raise no_python(connection, python, failed) from failed


def _make_folder(connection: Connection, python: str, found: Probe, name: str) -> None:
    # Engines are programs: nobody else on the device shall write there, nor read.
    code = (
        "import os, sys; root, name = sys.argv[1:]; "
        "os.path.isdir(root) or os.makedirs(root, mode=0o700); os.makedirs(os.path.join(root, name), exist_ok=True)"
    )
    try:
        connection.run([python, "-c", code, found.root, name])
    except RemoteFailed as failed:
        got = (failed.errors.strip().splitlines() or ["no reason stated"])[-1]
        if "No space" in got:
            raise OutOfSpace(
                "the disk of the device is full", where=connection.device.name, fix="Free some space there."
            ) from failed
        raise MissingDependency(
            "edgeir's folder cannot be made there", where=f"{connection.device.name}:{found.root}", got=got
        ) from failed


def _is_ready(connection: Connection, found: Probe, name: str) -> bool:
    """Whether the environment is there; wheels are not sent over those that somebody installs from.

    Raises:
        MissingDependency: another installation is running there.
    """
    code = (
        "import fcntl, os, sys\n"
        "try: fcntl.flock(open(sys.argv[1] + '/.lock'), fcntl.LOCK_SH | fcntl.LOCK_NB)\n"
        "except BlockingIOError: sys.exit(3)\n"
        "except OSError: pass\n"
        "sys.exit(not os.path.isfile(sys.argv[1] + '/' + sys.argv[2] + '/ready'))"
    )
    try:
        connection.run([found.python, "-c", code, f"{found.root}/envs", name])
    except RemoteFailed as failed:
        if failed.code == 3:
            raise _busy(connection.device.name) from failed
        return False
    return True


def _busy(name: str) -> MissingDependency:
    return MissingDependency(
        "another installation is running there",
        where=name,
        fix="It goes on when its connection breaks. Run the command again when it is done.",
    )


def _not_sent(connection: Connection, python: str, found: Probe, failed: RemoteFailed) -> Exception:
    """Whether the disk is to blame; the wheels that came are removed, so that nothing is left of the try."""
    code = (
        "import shutil, sys; shutil.rmtree(sys.argv[1] + '/wheels', True); print(shutil.disk_usage(sys.argv[1]).free)"
    )
    name = connection.device.name
    got = (failed.errors.strip().splitlines() or ["no reason stated"])[-1]
    if "Failure" in failed.errors or "No space" in failed.errors:
        connection.run([python, "-c", code, found.root])
        return OutOfSpace("the disk of the device is full", where=name, got=got, fix="Free some space there.")
    return MissingDependency("the wheels cannot be written there", where=name, got=got)
