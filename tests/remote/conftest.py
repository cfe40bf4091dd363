"""A board to talk to: a real sshd on loopback with a user of its own and an empty home; and small bundles."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from edgeir.bundle import BundleWriter
from edgeir.cli.main import _run as _run_command
from edgeir.manifest import Manifest
from edgeir.provenance import collect
from edgeir.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec, SizeRule, TensorSpec, WeightsSpec

SIDE = 32


@dataclass
class Board:
    """The machine that plays the board.

    Attributes:
        user: who is logged in there.
        home: their home, empty at first.
        address: ``USER@HOST``.
        port: of its ssh server.
        config: for ssh, with the key and the known hosts of these tests.
        python: an interpreter there that finds what edgeir needs.
        folder: everything of the server's.
    """

    user: str
    home: Path
    address: str
    port: int
    config: Path
    python: str
    folder: Path
    server: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def root(self) -> Path:
        """Folder of edgeir there."""
        return self.home / ".local" / "share" / "edgeir"

    def start(self) -> None:
        """Start the ssh server."""
        log = (self.folder / "sshd.log").open("ab")
        self.server = subprocess.Popen(
            [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        pytest.fail(f"sshd does not start: {(self.folder / 'sshd.log').read_text()}")

    def cut(self) -> None:
        """Kill the server and every connection that it holds; what users run there goes on."""
        assert self.server is not None
        for pid in _children(self.server.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.kill()
        self.server.wait()


def _children(pid: int) -> list[int]:
    """The server's processes that serve connections, those of users excepted, by /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            number = int(entry.name)
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid or parent in found:
                name = (entry / "comm").read_text().strip()
                if name.startswith("sshd"):
                    found += [number, *_children(number)]
    return found


@pytest.fixture(scope="session")
def board() -> Iterator[Board]:
    """The board; skips where it cannot be made."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the board is played by Linux's sshd and useradd")
    programs = ("ssh", "sftp", "ssh-keygen", "useradd", "userdel", "runuser")
    missing = [name for name in programs if shutil.which(name) is None]
    if shutil.which("sshd") is None and not Path("/usr/sbin/sshd").exists():
        missing.append("sshd")
    if missing:
        pytest.skip(f"not on this machine: {', '.join(missing)} (apt-get install openssh-server); no board is played")
    if os.geteuid() != 0:
        pytest.skip("a user of its own needs root: the board is not played")
    folder = Path(tempfile.mkdtemp(prefix="edgeir-board-"))
    folder.chmod(0o711)
    user = f"board{secrets.token_hex(3)}"
    try:
        yield from _played(user, folder)
    finally:
        subprocess.run(["userdel", user], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _played(user: str, folder: Path) -> Iterator[Board]:
    home = folder / "home"
    _run("useradd", "--home-dir", str(home), "--create-home", "--skel", "/var/empty", "--shell", "/bin/sh", user)
    if subprocess.run(["runuser", "-u", user, "--", "ls", str(home)], capture_output=True, check=False).returncode:
        pytest.skip(f"another user may not enter {folder}: no board is played (TMPDIR names the folder around it)")
    _run("usermod", "--password", "*", user)  # no password, and not locked either
    for key in ("host", "login"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
    (folder / "authorized").write_bytes((folder / "login.pub").read_bytes())
    (folder / "authorized").chmod(0o644)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"AllowUsers {user}\nSubsystem sftp internal-sftp\n"
    )
    kind, key = (folder / "host.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    (folder / "ssh_config").write_text(
        f"Host *\n  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
        f"  IdentityFile {folder}/login\n  IdentitiesOnly yes\n"
    )
    python = _python_of(user, home)
    made = Board(user, home, f"{user}@127.0.0.1", port, folder / "ssh_config", python, folder)
    made.start()
    try:
        yield made
    finally:
        made.cut()
        _end_all_of(user)


def _end_all_of(user: str) -> None:
    """End what the board's user still runs; nobody else has that number."""
    number = int(_output("id", "-u", user))
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if entry.stat().st_uid == number:
                os.kill(int(entry.name), signal.SIGKILL)
    time.sleep(0.1)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _python_of(user: str, home: Path) -> str:
    """A Python that the board's user may run, with the libraries of these tests in its sight.

    A device gets them from its own pip; here a file in the user's own site-packages names the folder of this
    environment, which is what --system-site-packages lets an environment see.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    here = sysconfig.get_paths()["purelib"]
    tried = []
    for python in dict.fromkeys((getattr(sys, "_base_executable", sys.executable), f"/usr/bin/python{version}")):
        code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run(
            ["runuser", "-u", user, "--", python, "-c", code], capture_output=True, text=True, check=False, cwd="/"
        )
        if done.stdout.strip() == version:
            break
        tried.append(python)
    else:
        pytest.skip(f"no Python {version} with venv that another user may run (tried {', '.join(tried)})")
    if subprocess.run(["runuser", "-u", user, "--", "ls", here], capture_output=True, check=False).returncode:
        pytest.skip(f"another user may not read {here}: no board is played")
    site = home / ".local" / "lib" / f"python{version}" / "site-packages"
    site.mkdir(parents=True)
    (site / "libraries.pth").write_text(f"{here}\n")
    _run("chown", "-R", user, str(home))
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the board cannot be played: {command[0]} says {done.stderr.strip()}")


@dataclass(frozen=True)
class Outcome:
    """How one command ended."""

    code: int
    out: str
    err: str

    def sentence(self, code: int, *words: str) -> str:
        """The line that says what is wrong; fails unless the command ended with ``code`` and with that line."""
        assert self.code == code, (self.code, self.out, self.err)
        last = self.err.splitlines()[-1]
        assert last.startswith("edgeir: "), self.err
        assert "Traceback" not in self.err
        assert "defect" not in self.err
        for word in words:
            assert word in last, (word, last)
        return last

    def done(self) -> Outcome:
        """Itself, if the command ended well."""
        assert self.code == 0, self.err
        return self


Cli = Callable[..., Outcome]


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """``wait_for(condition)``: until it holds; fails if it never does."""

    def wait(condition: Callable[[], object], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it never came"
            time.sleep(0.02)

    return wait


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """``cli("device", "list")``: a command in this process."""

    def run(*arguments: object) -> Outcome:
        words = [str(argument) for argument in arguments]
        capsys.readouterr()
        code = _run_command(words, debug=False)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def installed(board: Board, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What ``edgeir device add`` said of the board, once: the environment there takes some seconds."""
    home = tmp_path_factory.mktemp("config")
    words = ["device", "add", "orin", board.address, "--port", str(board.port), "--ssh-config", str(board.config)]
    words += ["--python", board.python, "--system-site-packages", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", "from edgeir.cli.main import main; main()", *words],
        env={**os.environ, "XDG_CONFIG_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {"answer": done.stdout, "said": done.stderr, "devices": (home / "edgeir" / "devices.json").read_bytes()}


@pytest.fixture
def orin(board: Board, installed: dict[str, object], settings: Path) -> Iterator[Board]:
    """The board, added under the name ``orin``, with no bundles and no jobs on it."""
    settings.parent.mkdir(parents=True)
    settings.write_bytes(installed["devices"])
    yield board
    for name in ("bundles", "incoming", "jobs", "runs"):
        shutil.rmtree(board.root / name, ignore_errors=True)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder of the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "edgeir" / "devices.json"


def write_bundle(
    folder: Path,
    *,
    gain: float = 0.5,
    side: int = SIDE,
    megabytes: float = 0.0,
    wide: bool = False,
    broken: bool = False,
) -> Path:
    """A bundle whose network multiplies by ``gain``; ONNX Runtime runs it.

    ``megabytes`` of noise make it large, with ``wide`` the graph holds a factor for every pixel, with ``broken`` it is
    none.
    """
    shape = f"float[1,3,{side},{side}]"
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 20]> g ({shape} {INPUT_NAME}) => ({shape} {OUTPUT_NAME}) '
        f"<float[1] gain = {{{gain}}}> {{ {OUTPUT_NAME} = Mul({INPUT_NAME}, gain) }}"
    )
    if wide:
        factors = np.full((1, 3, side, side), gain, np.float32)
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(factors, "gain"))
    manifest = Manifest(
        name="gain",
        precision="fp32",
        input=TensorSpec(INPUT_NAME, (1, 3, side, side)),
        batch=1,
        model=ModelSpec(
            "gain", "exda", {}, SizeRule(8, 16), weights=WeightsSpec(source="checkpoint", trained=True, sha256="0" * 64)
        ),
        provenance=collect(seconds=1, argv=["edgeir", "export"]),
    )
    with BundleWriter(folder, force=True) as writer:
        for name, role in (("model.onnx", "model"), ("reference.onnx", "reference")):
            model.graph.name = role
            writer.path(name).write_bytes(b"no graph" if broken else model.SerializeToString())
            writer.add(name, role)
        if megabytes:
            noise = np.random.default_rng(0).bytes(int(megabytes * 1e6))
            writer.path("report.html").write_bytes(noise)
            writer.add("report.html", "report-html")
        writer.commit(manifest)
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A small bundle."""
    return write_bundle(tmp_path / "gain.edgeir")


@pytest.fixture
def make_bundle() -> Callable[..., Path]:
    """Writes bundles, see `write_bundle`."""
    return write_bundle


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture of noise, 24x40."""
    path = tmp_path / "my picture's [1].png"  # a name that shells and sftp would make something else of
    values = np.random.default_rng(1).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


@pytest.fixture(scope="session")
def me() -> str:
    """Name of the user these tests run as."""
    return getpass.getuser()
