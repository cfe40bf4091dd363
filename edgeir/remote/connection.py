"""One device over `ssh` and `sftp`: commands, files and answers of `edgeir.remote.board`; nothing asks a person.

Host keys are judged by the user's own ssh: nothing here switches that off. Several calls share one connection where the
system can do that (ControlMaster), which is closed with the block.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeir import errors
from edgeir.errors import EdgeIRError, MissingDependency
from edgeir.remote.addresses import Device, check_address
from edgeir.remote.refusals import ConnectionLost, refusal
from edgeir.subprocesses import run_module

ANSWER = "edgeir-answer"
BEGIN = "edgeir-begin"
_LONGEST_FOLDER = 80  # of the socket of a shared connection: the system takes some 100 characters, ssh adds 17
_LONGEST_WORD = 32_000  # one argument may have 128 KiB on Linux, and quotes make it longer
_OWN_TROUBLE = 255  # ssh: "exits with the exit status of the remote command or with 255 if an error occurred"
_OPTIONS = (
    "BatchMode=yes",  # never ask: not for a password, not about a host key
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "RequestTTY=no",
    "LogLevel=ERROR",  # no banners among the reasons
)


class RemoteFailed(Exception):
    """A command that ended with something else than 0 there.

    Attributes:
        code: its exit status.
        output: what it printed.
        errors: its stderr.
    """

    def __init__(self, code: int, output: str, errors: str) -> None:
        super().__init__(f"exit status {code}")
        self.code = code
        self.output = output
        self.errors = errors


class Connection:
    """Context manager: a device that commands are run on.

    Args:
        device: where to.

    Raises:
        MissingDependency: OpenSSH's programs are not installed here; raised on entering.
        UsageError: the address is none.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._control: Path | None = None

    def __enter__(self) -> Connection:
        check_address(self.device.address)
        for program in ("ssh", "sftp"):
            if shutil.which(program) is None:
                raise MissingDependency(
                    f"{program} is not installed here", fix="Install OpenSSH's client programs (openssh-client)."
                )
        if sys.platform != "win32":  # OpenSSH for Windows cannot share connections
            self._control = Path(tempfile.mkdtemp(prefix="edgeir-"))
            if len(os.fsencode(self._control)) > _LONGEST_FOLDER:  # each call then connects by itself
                self._control.rmdir()
                self._control = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._control is not None:
            if any(self._control.iterdir()):
                command = ["ssh", *self._options(), "-O", "exit", "--", self._ssh_address()]
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=10)
            shutil.rmtree(self._control, ignore_errors=True)
            self._control = None

    def run(self, command: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 120) -> str:
        """What ``command`` prints on the device.

        Args:
            command: program and arguments; quoted for the shell there.
            stdin: what it reads.
            timeout_s: the connection is given up after that many seconds.

        Raises:
            Unreachable: ssh cannot connect, or the connection broke.
            RemoteFailed: the command ended with another status than 0.
        """
        try:
            code, output, words = _called(self._ssh(command), stdin, timeout_s=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ConnectionLost(
                "it does not answer", where=self.device.name, expected=f"an answer within {timeout_s:.0f} s"
            ) from error
        if code == _OWN_TROUBLE:
            raise self._refusal(words)
        if code:
            raise RemoteFailed(code, output, words)
        return output

    def script(self, python: str, source: str, arguments: Any, *, timeout_s: float = 120) -> dict[str, Any]:
        """The answer of a Python program that is sent there through standard input.

        Args:
            python: an interpreter there.
            source: the program; its one argument is JSON.
            arguments: JSON-ready.
            timeout_s: as for `run`.

        Raises:
            Unreachable, RemoteFailed: see `run`.
            EdgeIRError: what the program itself reports.
        """
        nonce = secrets.token_hex(8)
        words = json.dumps({"nonce": nonce, "arguments": arguments})
        return self._answer(self.run([python, "-", words], stdin=source.encode(), timeout_s=timeout_s), nonce)

    def ask(self, question: str, timeout_s: float = 300, **arguments: Any) -> dict[str, Any]:
        """What the edgeir that is installed there answers, see `edgeir.remote.board`.

        Raises:
            Unreachable: see `run`.
            MissingDependency: edgeir is not there any more.
            EdgeIRError: what it reports, with the device's name.
        """
        nonce = secrets.token_hex(8)
        *command, words = self._board(question, nonce, arguments)
        through = words.encode() if len(words) > _LONGEST_WORD else b""
        try:
            output = self.run([*command, "-" if through else words], stdin=through, timeout_s=timeout_s)
        except RemoteFailed as failed:
            if ANSWER in failed.output:
                return self._answer(failed.output, nonce)
            raise self.broken(failed) from failed
        return self._answer(output, nonce)

    def listen(self, question: str, on_line: Callable[[bytes], None], **arguments: Any) -> dict[str, Any]:
        """As `ask`, with every line before the answer passed on as it comes.

        Raises:
            Unreachable, MissingDependency, EdgeIRError: see `ask`.
        """
        nonce = secrets.token_hex(8)
        mark, begin = f"{ANSWER}:{nonce} ".encode(), f"{BEGIN}:{nonce}\n".encode()
        answer, begun = b"", False
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                self._ssh(self._board(question, nonce, arguments)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                env=_environment(),
            )
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    if line.startswith(mark):
                        answer = line
                    elif line == begin:  # what came before is a login shell's
                        begun = True
                    elif begun and line.endswith(b"\n"):  # one that broke off with the connection comes again whole
                        on_line(line)
                code = process.wait()
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
                process.stdout.close()
            said.seek(0)
            words = said.read().decode("utf-8", "replace")
        if answer:
            return self._answer(answer.decode("utf-8", "replace"), nonce)
        if code == _OWN_TROUBLE or code < 0:
            raise self._refusal(words)
        raise self.broken(RemoteFailed(code, "", words))

    def transfer(self, batch: Sequence[str], folder: Path) -> None:
        """Run commands of sftp, in order, up to the first that fails.

        Args:
            batch: lines such as ``put a b``; names must need no quotes or come from `quoted`.
            folder: what names of files here are relative to.

        Raises:
            Unreachable: see `run`.
            RemoteFailed: a command failed.
        """
        command = ["sftp", *self._options(port="-P"), "-b", "-", "-q", "--", self._sftp_address()]
        code, output, words = _called(command, "".join(f"{line}\n" for line in batch).encode(), folder=folder)
        if code == _OWN_TROUBLE:
            raise self._refusal(words)
        if code:
            raise RemoteFailed(code, output, words)

    def broken(self, failed: RemoteFailed) -> EdgeIRError:
        """The error for a board whose edgeir does not answer."""
        got = (failed.errors.strip().splitlines() or [f"exit status {failed.code}"])[-1]
        if "No space left on device" in failed.errors:
            return errors.OutOfSpace("the disk of the device is full", where=self.device.name, fix="Free some space.")
        return MissingDependency(
            "edgeir does not run there",
            where=self.device.name,
            got=got,
            fix=f"Install it again: edgeir device add {self.device.name} {self.device.address}.",
        )

    def _board(self, question: str, nonce: str, arguments: dict[str, Any]) -> list[str]:
        words = json.dumps({"nonce": nonce, "root": self.device.root, **arguments})
        return [self.device.python, "-c", run_module("edgeir.remote.board"), question, words]

    def _answer(self, output: str, nonce: str) -> dict[str, Any]:
        """The answer among whatever a login shell printed before it."""
        mark = f"{ANSWER}:{nonce} "
        for line in reversed(output.splitlines()):
            if line.startswith(mark):
                answer: dict[str, Any] = json.loads(line.removeprefix(mark))
                if "error" in answer:
                    raise _raised(answer["error"], self.device.name)
                return answer
        raise MissingDependency("the device gave no answer", where=self.device.name, got=output.strip()[-80:])

    def _refusal(self, words: str) -> EdgeIRError:
        device = self.device
        return refusal(words, name=device.name, address=device.address, port=device.port)

    def _ssh(self, command: Sequence[str]) -> list[str]:
        return ["ssh", *self._options(), "--", self._ssh_address(), shlex.join(command)]

    def _ssh_address(self) -> str:
        user, at, host = self.device.address.rpartition("@")
        return f"{user}{at}{host.removeprefix('[').removesuffix(']')}"  # ssh knows no brackets

    def _sftp_address(self) -> str:
        user, at, host = self._ssh_address().rpartition("@")
        # sftp takes HOST:PATH, so that an IPv6 address needs brackets.
        return f"{user}{at}[{host}]" if ":" in host else self._ssh_address()

    def _options(self, port: str = "-p") -> list[str]:
        device = self.device
        words = [word for option in _OPTIONS for word in ("-o", option)]
        if self._control is not None:
            for option in ("ControlMaster=auto", f"ControlPath={self._control}/c", "ControlPersist=60"):
                words += ["-o", option]
        if device.config is not None:
            words += ["-F", device.config]
        if device.identity is not None:
            words += ["-i", device.identity, "-o", "IdentitiesOnly=yes"]
        if device.port is not None:
            words += [port, str(device.port)]
        return words


def stand_in(place: Path, source: Path) -> None:
    """Make ``place`` read as ``source``: a link, or a copy where the system lets users make none (Windows)."""
    try:
        place.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, place)


def quoted(path: str) -> str:
    """A path as sftp's batch files take it: in quotes, where its wildcards mean themselves."""
    return '"' + "".join(f"\\{mark}" if mark in '\\"' else mark for mark in path) + '"'


def _raised(error: dict[str, Any], device: str) -> EdgeIRError:
    kind = getattr(errors, str(error.get("kind")), EdgeIRError)
    if not (isinstance(kind, type) and issubclass(kind, EdgeIRError)):
        kind = EdgeIRError
    where = error.get("where")
    return kind(
        str(error.get("what")),
        where=f"{device}:{where}" if where else device,
        expected=error.get("expected"),
        got=error.get("got"),
        fix=error.get("fix"),
    )


def _called(
    command: Sequence[str], stdin: bytes, *, folder: Path | None = None, timeout_s: float | None = None
) -> tuple[int, str, str]:
    """Exit code, output and stderr of a program.

    Its stderr is a file: before OpenSSH 8.5 the process that keeps a shared connection open holds on to it, and reading
    a pipe to its end would last as long as that does.
    """
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(
            command,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=said,
            cwd=folder,
            check=False,
            timeout=timeout_s,
            env=_environment(),
        )
        said.seek(0)
        return done.returncode, done.stdout.decode("utf-8", "replace"), said.read().decode("utf-8", "replace")


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}
