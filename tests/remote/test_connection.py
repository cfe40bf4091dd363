"""What ssh says becomes one sentence: a program of ours on the PATH says it in ssh's words. And how it is called."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeir.errors import MissingDependency, UsageError
from edgeir.remote.addresses import Device, check_address, check_name
from edgeir.remote.connection import Connection, RemoteFailed, quoted, stand_in
from edgeir.remote.probe import probe
from edgeir.remote.refusals import ConnectionLost, Unreachable, refusal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ssh is played by a shell script")
ORIN = Device("orin", "ubuntu@orin.local", port=2222, root="/home/ubuntu/.local/share/edgeir", python="/env/bin/python")


def in_python(code: str) -> str:
    """A program for `fake` that is Python."""
    return f'exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} "$@"'


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """``fake("exit 255")``: a shell script called ssh; what it was called with is written into the file given back."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def install(body: str) -> Path:
        for name in ("ssh", "sftp"):
            script = folder / name
            script.write_text(
                f'#!/bin/sh\nfor word in "$@"; do echo "$word"; done >> "{tmp_path}/{name}.words"\n{body}\n'
            )
            script.chmod(0o755)
        return tmp_path / "ssh.words"

    return install


REFUSALS = [
    ("ssh: connect to host orin.local port 2222: No route to host", "there is no way to it", "switched on"),
    ("ssh: connect to host orin.local port 2222: Network is unreachable", "there is no way to it", "network"),
    ("ssh: connect to host orin.local port 2222: Connection refused", "no ssh server answers there", "--port"),
    ("ssh: connect to host orin.local port 2222: Connection timed out", "it does not answer", "firewalls"),
    ("ssh: Could not resolve hostname orin.local: Name or service not known", "no machine of that name", "address"),
    ("ubuntu@orin.local: Permission denied (publickey,password).", "refuses the login", "ssh-copy-id"),
    (
        "Received disconnect from 10.0.0.2 port 22:2: Too many authentication failures",
        "refuses the login",
        "--identity",
    ),
    (
        "No ED25519 host key is known for orin.local and you have requested strict checking.\n"
        "Host key verification failed.",
        "host key of the device is not known here",
        "ssh -p 2222 ubuntu@orin.local",
    ),
    (
        "@@@@@@@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n@@@@@@@@@@@\n"
        "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\nHost key verification failed.",
        "another host key than the one known here",
        "ssh-keygen -R [orin.local]:2222",
    ),
    ("command-line: line 0: Bad configuration option: nonsense", "ssh refuses its configuration", "Mend"),
    ("Connection to orin.local closed by remote host.", "the connection broke", "goes on where it was"),
    ("client_loop: send disconnect: Broken pipe", "the connection broke", "goes on where it was"),
    ("", "the connection failed (got no reason stated)", "Try it by hand: ssh -p 2222 ubuntu@orin.local"),
]


@pytest.mark.parametrize(("words", "what", "fix"), REFUSALS)
def test_refusals(fake: Callable[[str], Path], words: str, what: str, fix: str) -> None:
    fake(f"printf '%s\\n' {shlex.quote(words)} >&2; exit 255")
    with Connection(ORIN) as connection, pytest.raises(Unreachable) as caught:
        connection.ask("state")
    text = str(caught.value)
    assert text.startswith(f"orin: {'the device' if what.startswith('refuses') else ''}".strip())
    assert what in text
    assert fix in text
    assert caught.value.exit_code == 3
    assert "@@@" not in text


def test_which_refusals_are_worth_another_try() -> None:
    lost = {words for words, _, _ in REFUSALS if refusal(words, name="a", address="b", port=None).lost}
    assert lost == {
        words for words, what, _ in REFUSALS if "broke" in what or "failed" in what or what.endswith("answer")
    }


def test_without_openssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match=r"ssh is not installed here.*openssh-client"):
        Connection(ORIN).__enter__()


def test_no_python_there(fake: Callable[[str], Path]) -> None:
    fake("echo 'sh: 1: python3: not found' >&2; exit 127")
    with Connection(ORIN) as connection, pytest.raises(MissingDependency, match=r"no program 'python3'.*python3-venv"):
        probe(connection)


def test_edgeir_is_gone(fake: Callable[[str], Path]) -> None:
    fake("echo 'sh: 1: /env/bin/python: not found' >&2; exit 127")
    with (
        Connection(ORIN) as connection,
        pytest.raises(MissingDependency, match=r"does not run there.*edgeir device add"),
    ):
        connection.ask("state")


def test_how_ssh_is_called(fake: Callable[[str], Path]) -> None:
    words = fake("echo hello from a login shell")
    device = Device("orin", "ubuntu@orin.local", port=2222, identity="/a key", config="/a config", python="/env/python")
    with Connection(device) as connection:
        assert connection.run(["echo", "it's $HOME", "*"]) == "hello from a login shell\n"
    said = words.read_text().splitlines()
    for option in ("BatchMode=yes", "ConnectTimeout=10", "ControlMaster=auto", "ForwardAgent=no", "IdentitiesOnly=yes"):
        assert option in said
    assert not any("StrictHostKeyChecking" in word or "UserKnownHostsFile" in word for word in said)
    assert said[said.index("-p") + 1] == "2222"
    assert said[said.index("-i") + 1] == "/a key"
    assert said[said.index("-F") + 1] == "/a config"
    at = said.index("--")
    assert said[at + 1] == "ubuntu@orin.local"
    assert shlex.split(said[at + 2]) == ["echo", "it's $HOME", "*"]


def test_sftp_and_ipv6(fake: Callable[[str], Path], tmp_path: Path) -> None:
    fake("cat > /dev/null; exit 1")
    with Connection(Device("a", "me@fe80::1", port=22)) as connection, pytest.raises(RemoteFailed):
        connection.transfer(["put a b"], tmp_path)
    said = (tmp_path / "sftp.words").read_text().splitlines()
    assert said[-1] == "me@[fe80::1]"
    assert said[said.index("-P") + 1] == "22"


@pytest.mark.parametrize("address", ["me@[::1]", "me@::1"])
def test_an_address_in_brackets(fake: Callable[[str], Path], tmp_path: Path, address: str) -> None:
    """To ssh it goes without them, to sftp with them."""
    words = fake("cat > /dev/null")
    with Connection(Device("a", check_address(address))) as connection:
        connection.run(["true"])
        connection.transfer(["put a b"], tmp_path)
    assert "me@::1" in words.read_text().splitlines()
    assert (tmp_path / "sftp.words").read_text().splitlines()[-1] == "me@[::1]"


def test_a_long_question_comes_through_standard_input(fake: Callable[[str], Path]) -> None:
    """A manifest with many engines is longer than an argument may be."""
    code = (
        "import json, shlex, sys; words = shlex.split(sys.argv[-1])[-1]; "
        "given = json.loads(sys.stdin.read() if words == '-' else words); "
        "print('edgeir-answer:' + given['nonce'], json.dumps({'how': words == '-', 'long': len(given['manifest'])}))"
    )
    fake(in_python(code))
    with Connection(ORIN) as connection:
        assert connection.ask("assemble", manifest="x" * 300_000) == {"how": True, "long": 300_000}
        assert connection.ask("assemble", manifest="x") == {"how": False, "long": 1}


def test_a_board_reads_a_long_question(tmp_path: Path) -> None:
    given = json.dumps({"nonce": "n", "root": str(tmp_path), "folder": "a/b"})
    command = [sys.executable, "-m", "edgeir.remote.board", "make", "-"]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("edgeir-answer:n {}\n")
    assert (tmp_path / "a" / "b").is_dir()


def test_what_a_login_shell_says_is_no_line_of_a_job(fake: Callable[[str], Path]) -> None:
    code = (
        "import json, shlex, sys; nonce = json.loads(shlex.split(sys.argv[-1])[-1])['nonce']; "
        "print('Welcome!\\n\\nedgeir-begin:' + nonce + '\\nfirst\\nsecond\\nedgeir-answer:' + nonce + ' {}')"
    )
    fake(in_python(code))
    lines: list[bytes] = []
    with Connection(ORIN) as connection:
        assert connection.listen("follow", lines.append) == {}
    assert lines == [b"first\n", b"second\n"]


def test_a_shared_connection_that_holds_on_to_stderr(fake: Callable[[str], Path], tmp_path: Path) -> None:
    """As OpenSSH before 8.5 leaves it behind: the call is over when ssh is, not when that is."""
    fake("cat > /dev/null; sleep 20 > /dev/null < /dev/null & exit 0")
    started = time.monotonic()
    with Connection(ORIN) as connection:
        connection.run(["true"])
        connection.transfer(["put a b"], tmp_path)
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(("length", "shared"), [(10, True), (120, False)])
def test_a_socket_needs_a_short_path(
    fake: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, length: int, shared: bool
) -> None:
    words = fake("exit 0")
    with tempfile.TemporaryDirectory(prefix="e", dir="/tmp") as short:
        folder = Path(short) / ("x" * length)
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(folder))
            with Connection(ORIN) as connection:
                connection.run(["true"])
        assert not list(folder.iterdir())
    assert ("ControlMaster=auto" in words.read_text()) == shared


def test_an_answer_among_the_noise_of_a_login_shell(fake: Callable[[str], Path]) -> None:
    code = (
        "import json, shlex, sys; words = shlex.split(sys.argv[-1]); nonce = json.loads(words[-1])['nonce']; "
        "print('Welcome!\\nedgeir-answer:0000 {}'); print('edgeir-answer:' + nonce, json.dumps({'fine': 1})); "
        "print('Bye')"
    )
    fake(in_python(code))
    with Connection(ORIN) as connection:
        assert connection.ask("state") == {"fine": 1}


def test_an_error_of_the_board_keeps_its_kind(fake: Callable[[str], Path]) -> None:
    error = {
        "kind": "OutOfSpace",
        "what": "it is full",
        "where": "there",
        "expected": None,
        "got": None,
        "fix": "Free.",
    }
    code = (
        "import json, shlex, sys; nonce = json.loads(shlex.split(sys.argv[-1])[-1])['nonce']; "
        f"print('edgeir-answer:' + nonce, {json.dumps(json.dumps({'error': error}))}); sys.exit(1)"
    )
    fake(in_python(code))
    from edgeir.errors import OutOfSpace

    with Connection(ORIN) as connection, pytest.raises(OutOfSpace, match=r"^orin:there: it is full\. Free\.$"):
        connection.ask("state")


@pytest.mark.parametrize(
    "address",
    ["-oProxyCommand=touch${IFS}x", "me@-oProxyCommand=x", "", "me@", "a b", "me@host;ls", "me@host/x", "-l@host",
     "$(x)@h", "me@host\n", "`id`@host"],
)  # fmt: skip
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UsageError, match="not an address"):
        check_address(address)
    with pytest.raises(UsageError):
        Connection(Device("a", address)).__enter__()


@pytest.mark.parametrize("address", ["orin", "ubuntu@orin", "u_1@10.0.0.2", "me@fe80::1%eth0", "a.b@host-1.local"])
def test_addresses(address: str) -> None:
    assert check_address(address) == address


@pytest.mark.parametrize("name", ["", "-x", "a/b", "..", "a b", "a\n", "x" * 64])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UsageError, match="no name"):
        check_name(name)


@pytest.mark.parametrize("name", ["plain", "it's", 'quo"te', "back\\slash", "a [1]*?", "#x"])
def test_quotes_of_sftp(name: str, tmp_path: Path) -> None:
    """The program itself says which file it was asked for: its own server program at the other end of a pipe."""
    server = next(
        (path for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server") if Path(path).exists()), ""
    )
    if not server:
        pytest.skip("sftp-server is not on this machine: quotes are not tried on it")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / name).write_text("content")
    done = subprocess.run(
        ["sftp", "-q", "-b", "-", "-D", server],
        input=f"get {quoted(str(tmp_path / 'there' / name))} got\n",
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got").read_text() == "content"


def test_lost_is_a_kind_of_unreachable() -> None:
    assert issubclass(ConnectionLost, Unreachable)
    value: Any = refusal("Connection reset by peer", name="a", address="b", port=None)
    assert value.lost


def test_where_links_may_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("content")
    stand_in(tmp_path / "link", tmp_path / "a")
    assert (tmp_path / "link").is_symlink()

    def refuse(*_: object) -> None:
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    stand_in(tmp_path / "copy", tmp_path / "a")
    assert (tmp_path / "copy").read_text() == "content"
    assert not (tmp_path / "copy").is_symlink()
