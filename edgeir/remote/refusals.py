"""What OpenSSH says when it cannot connect, as one sentence with what to do about it: a literal table.

ssh ends with 255 for troubles of its own and says why in English, whatever the language here (its messages are not
translated; those of the system's resolver are asked for in English). First match wins.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeir.errors import MissingDependency


class Unreachable(MissingDependency):
    """A device that cannot be reached or refuses the login.

    Attributes:
        lost: the connection was there and broke, so that trying again makes sense.
    """

    lost = False


class Refused(Unreachable):
    """A login, a host key or a configuration that is wrong, and will be the next time."""


class ConnectionLost(Unreachable):
    """A connection that broke."""

    lost = True


@dataclass(frozen=True, slots=True)
class _Refusal:
    says: tuple[str, ...]
    what: str
    fix: str
    kind: type[Unreachable] = Unreachable


_REFUSALS = (
    _Refusal(
        ("REMOTE HOST IDENTIFICATION HAS CHANGED",),
        "the device shows another host key than the one known here",
        "If it was installed anew, forget the old key with 'ssh-keygen -R {host}' and connect once by hand: "
        "'{ssh}'. If not, somebody else may be answering.",
        Refused,
    ),
    _Refusal(
        ("Host key verification failed", "host key is known for"),
        "the host key of the device is not known here",
        "Connect once by hand, compare the fingerprint and accept it: {ssh}.",
        Refused,
    ),
    _Refusal(
        ("Could not resolve hostname", "Name or service not known"),
        "no machine of that name is known",
        "Check the address, or give the number.",
    ),
    _Refusal(
        ("Permission denied", "Too many authentication failures", "No supported authentication methods"),
        "the device refuses the login",
        "edgeir never asks for passwords: put your key there with 'ssh-copy-id', or name one with --identity.",
        Refused,
    ),
    _Refusal(
        ("Connection refused",),
        "no ssh server answers there",
        "Check --port, and that the device has an ssh server: sudo apt install openssh-server.",
    ),
    _Refusal(
        ("No route to host", "Network is unreachable", "Host is down"),
        "there is no way to it through the network",
        "Check that it is switched on, and the cable or the network.",
    ),
    _Refusal(
        ("Connection timed out", "Operation timed out", "timed out during banner exchange"),
        "it does not answer",
        "Check the address, that it is switched on, and firewalls in between.",
        ConnectionLost,
    ),
    _Refusal(
        ("Bad configuration option", "Bad owner or permissions", "Can't open user config file", "terminating,"),
        "ssh refuses its configuration",
        "Mend the file that it names.",
        Refused,
    ),
    _Refusal(
        ("subsystem request failed",),
        "the device's ssh server has no sftp",
        "Enable it there: 'Subsystem sftp internal-sftp' in sshd_config.",
    ),
    _Refusal(
        (
            "closed by remote host",
            "Connection closed",
            "Connection reset",
            "Broken pipe",
            "Connection to",
            "not responding",
            "kex_exchange_identification",
            "mux_client",
            "Control socket",
            "Session open refused",
        ),
        "the connection broke",
        "Run the same command again: it goes on where it was.",
        ConnectionLost,
    ),
)


def refusal(words: str, *, name: str, address: str, port: int | None) -> Unreachable:
    """The error for what ssh or sftp said.

    Args:
        words: all of its stderr.
        name: of the device.
        address: that was connected to.
        port: that was asked for.
    """
    host = address.rpartition("@")[2]
    ssh = f"ssh {'' if port is None else f'-p {port} '}{address}"
    known_as = host if port in (None, 22) else f"[{host}]:{port}"
    for one in _REFUSALS:
        if any(text in words for text in one.says):
            fix = one.fix.format(host=known_as, ssh=ssh)
            return one.kind(one.what, where=name, got=_telling(words, one.says), fix=fix)
    # Said nothing, or nothing that is known: a server that was killed says nothing.
    got = (words.strip().splitlines() or ["no reason stated"])[-1].strip()
    return ConnectionLost("the connection failed", where=name, got=got, fix=f"Try it by hand: {ssh}.")


def _telling(words: str, says: tuple[str, ...]) -> str:
    """The line that says it, without the rows of @ around."""
    for line in words.splitlines():
        if any(text in line for text in says):
            return line.strip(" @\r").rstrip(".!")
    return words.strip().splitlines()[-1]
