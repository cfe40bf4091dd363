"""The devices a user has named: one JSON file in their configuration folder, and what an address may look like."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edgeir.errors import UsageError, nearest
from edgeir.storage import alone, atomic_write_bytes, writing

FILE_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# What ssh takes as USER@HOST: a host name, an alias of ssh_config, an IPv4 or IPv6 address.
_HOST = re.compile(r"[A-Za-z0-9_\[:][A-Za-z0-9._:%\]-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\$?")


@dataclass(frozen=True, slots=True)
class Device:
    """One device.

    Attributes:
        name: what the user calls it.
        address: ``USER@HOST``, or ``HOST`` alone where ssh's configuration knows the user.
        port: of its ssh server, ``None`` for what ssh's configuration says.
        identity: private key file, ``None`` for ssh's own choice.
        config: configuration file for ssh in place of the user's, ``None`` for the user's.
        root: edgeir's folder there, absolute.
        python: the interpreter of the environment that edgeir was installed into there, absolute.
    """

    name: str
    address: str
    port: int | None = None
    identity: str | None = None
    config: str | None = None
    root: str = ""
    python: str = ""


def check_name(name: str) -> str:
    """``name``, if a device may be called that.

    Raises:
        UsageError: it may not.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            "no name for a device", where="NAME", expected="letters, digits, '.', '_' and '-'", got=repr(name)
        )
    return name


def check_address(address: str) -> str:
    """``address``, if it is one that ssh cannot take for an option or a command.

    >>> check_address("ubuntu@192.168.55.1")
    'ubuntu@192.168.55.1'

    Raises:
        UsageError: it is not.
    """
    user, at, host = address.rpartition("@")
    if not _HOST.fullmatch(host) or (at and not _USER.fullmatch(user)):
        raise UsageError("not an address", where="USER@HOST", expected="such as ubuntu@192.168.55.1", got=repr(address))
    return address


def devices_file() -> Path:
    """``devices.json`` in this user's configuration folder for edgeir; it need not exist."""
    if sys.platform == "win32":
        home = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    else:
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "edgeir" / "devices.json"


def load_devices(file: Path | None = None) -> dict[str, Device]:
    """All devices by name, in the order they were added.

    Raises:
        UsageError: the file is not what edgeir writes.
    """
    path = file or devices_file()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    try:
        data = json.loads(text)
        version = data["version"]
        listed = data["devices"]
        if version == FILE_VERSION:
            return {name: _device(name, entry) for name, entry in listed.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            "the list of devices cannot be read",
            where=str(path),
            got=f"{type(error).__name__}: {error}",
            fix="Mend it, or remove it and add the devices again.",
        ) from error
    raise UsageError(
        "the list of devices comes from another edgeir", where=str(path), expected=str(FILE_VERSION), got=str(version)
    )


def save_devices(devices: Mapping[str, Device], file: Path | None = None) -> None:
    """Write all devices, replacing the file in one step.

    Raises:
        OutOfSpace, OutputError: it cannot be written; the old one is then whole.
    """
    path = file or devices_file()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    entries = {name: {key: value for key, value in asdict(device).items() if key != "name"}
               for name, device in devices.items()}  # fmt: skip
    text = json.dumps({"version": FILE_VERSION, "devices": entries}, indent=2) + "\n"
    atomic_write_bytes(path, text.encode())


def keep_device(device: Device, file: Path | None = None) -> None:
    """Write ``device`` into the list, in the place of another of its name.

    Raises:
        UsageError, OutOfSpace, OutputError: see `load_devices` and `save_devices`.
    """
    with _changing(file or devices_file()) as path:
        save_devices({**load_devices(path), device.name: device}, path)


def forget_device(name: str, file: Path | None = None) -> None:
    """Remove a device from the list.

    Raises:
        UsageError, OutOfSpace, OutputError: see `load_devices` and `save_devices`.
    """
    with _changing(file or devices_file()) as path:
        save_devices({key: device for key, device in load_devices(path).items() if key != name}, path)


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[Path]:
    """Of two commands that change the list at once, the second changes what the first wrote."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.with_name(f".{path.name}.lock")):
        yield path


def device_named(name: str) -> Device:
    """The device called ``name``.

    Raises:
        UsageError: there is none; offers the nearest.
    """
    devices = load_devices()
    if name not in devices:
        fix = nearest(name, devices) if devices else "Add it: edgeir device add NAME USER@HOST."
        raise UsageError(f"there is no device '{name}'", fix=fix)
    return devices[name]


def _device(name: str, entry: Any) -> Device:
    known = {field.name for field in fields(Device)} - {"name"}
    if unknown := set(entry) - known:
        raise KeyError(min(unknown))
    device = Device(name=check_name(name), **entry)
    check_address(device.address)
    texts = (device.identity, device.config, device.root, device.python)
    if any(not isinstance(text, str | None) for text in texts) or not isinstance(device.port, int | None):
        raise TypeError(name)
    return device
