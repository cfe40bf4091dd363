"""The list of devices: kept whole, read strictly, offered by nearest name."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path

import pytest

from edgeir.errors import OutputError, UsageError
from edgeir.remote.addresses import (
    Device,
    device_named,
    devices_file,
    forget_device,
    keep_device,
    load_devices,
    save_devices,
)

ORIN = Device(
    "orin", "ubuntu@orin.local", 2222, "/keys/orin", None, "/home/ubuntu/.local/share/edgeir", "/e/bin/python"
)
THOR = Device("thor-1", "thor")


def test_round_trip(settings: Path) -> None:
    assert load_devices() == {}
    save_devices({"orin": ORIN, "thor-1": THOR})
    assert devices_file() == settings
    assert load_devices() == {"orin": ORIN, "thor-1": THOR}
    assert device_named("orin") == ORIN
    assert [path.name for path in settings.parent.iterdir()] == ["devices.json"]


def test_unknown_names(settings: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no device 'orin'\. Add it: edgeir device add"):
        device_named("orin")
    save_devices({"orin": ORIN})
    with pytest.raises(UsageError, match=r"Did you mean 'orin'\?"):
        device_named("orni")


def test_two_at_once(settings: Path) -> None:
    """A device that was added while another one was is not forgotten, nor is one that was removed kept."""
    save_devices({f"old{index}": ORIN for index in range(4)})
    meet = threading.Barrier(8)

    def work(index: int) -> None:
        meet.wait(20)
        if index % 2:
            forget_device(f"old{index // 2}")
        else:
            keep_device(dataclasses.replace(ORIN, name=f"new{index // 2}"))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(load_devices()) == ["new0", "new1", "new2", "new3"]
    assert [path.name for path in settings.parent.iterdir()] == ["devices.json"]


def entry(**changes: object) -> str:
    whole = {"address": "a@b", "port": None, "identity": None, "config": None, "root": "/r", "python": "/p"}
    return json.dumps({"version": 1, "devices": {"orin": {**whole, **changes}}})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read .*'version'"),
        ('{"version": 2, "devices": {}}', "comes from another edgeir"),
        (entry(prot=22), "cannot be read .*'prot'"),
        (entry(port="22"), "cannot be read"),
        (entry(python=5), "cannot be read"),
        (entry(address="-oProxyCommand=x"), "not an address"),
    ],
)
def test_lists_that_somebody_broke(settings: Path, text: str, says: str) -> None:
    settings.parent.mkdir(parents=True)
    settings.write_text(text)
    with pytest.raises(UsageError, match=says):
        load_devices()
    assert settings.read_text() == text


def test_a_folder_in_the_way(settings: Path) -> None:
    settings.parent.parent.mkdir(parents=True)
    settings.parent.write_text("a file")
    with pytest.raises(OutputError):
        save_devices({})
