"""Over a real sshd: the board's disk is a small tmpfs. One sentence, nothing lost, the next try goes on."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeir.bundle import Bundle
from edgeir.errors import OutOfSpace
from edgeir.remote import bundles, transfers
from edgeir.remote.addresses import device_named, load_devices, save_devices
from edgeir.remote.bundles import push
from edgeir.remote.connection import Connection

pytestmark = pytest.mark.slow


@dataclasses.dataclass(frozen=True)
class Disk:
    """A small disk of the board's, and edgeir's folder on it."""

    path: Path

    def resize(self, megabytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(self.path)], check=True)

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file())


@pytest.fixture
def disk(orin: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    path = orin.folder / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=14m,mode=777", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        path.rmdir()
        pytest.skip(f"no tmpfs can be mounted here ({mounted.stderr.strip()}): no full disk is played")
    save_devices({**load_devices(), "orin": dataclasses.replace(device_named("orin"), root=str(path / "edgeir"))})
    (path / "edgeir").mkdir(mode=0o777)
    (path / "edgeir").chmod(0o777)
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
        path.rmdir()


def test_a_bundle_that_does_not_fit(
    disk: Disk, cli: Callable[..., Any], make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_bundle(tmp_path / "gain.edgeir", megabytes=1)
    cli("device", "push", "orin", path).done()
    before = disk.files()
    make_bundle(path, gain=0.25, megabytes=20)
    cli("device", "push", "orin", path).sentence(3, "orin: the disk of the device is too full", "push again")
    assert disk.files() == before
    assert Bundle.open(disk.path / "edgeir/bundles/gain.edgeir").manifest.name == "gain"
    disk.resize(64)
    cli("device", "push", "orin", path).done()
    assert len(Bundle.open(disk.path / "edgeir/bundles/gain.edgeir").manifest.artifacts) == 3


def test_a_disk_that_fills_up_on_the_way(
    disk: Disk, make_bundle: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else writes while files come: the room that was there when the push began is gone."""
    for module in (bundles, transfers):
        monkeypatch.setattr(module, "SPARE_BYTES", 0)
    opened = Bundle.open(make_bundle(tmp_path / "gain.edgeir", megabytes=9))
    send = bundles._send

    def while_others_write(*arguments: Any) -> None:
        (disk.path / "theirs").write_bytes(bytes(8_000_000))
        send(*arguments)

    with Connection(device_named("orin")) as connection:
        monkeypatch.setattr(bundles, "_send", while_others_write)
        with pytest.raises(OutOfSpace, match="the disk of the device is too full for the bundle"):
            push(connection, opened)
        assert disk.files() == ["theirs"]
        monkeypatch.setattr(bundles, "_send", send)
        (disk.path / "theirs").unlink()
        assert push(connection, opened).files == 3


def test_a_build_without_room(
    disk: Disk, cli: Callable[..., Any], make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_bundle(tmp_path / "gain.edgeir", side=256, wide=True)
    cli("device", "push", "orin", path).done()
    before = Bundle.open(disk.path / "edgeir/bundles/gain.edgeir").manifest
    (disk.path / "theirs").write_bytes(bytes(11 * 2**20))
    cli("device", "build", "orin", path, "--target", "ort").sentence(
        3, "orin: ", "the disk has too little room for an engine", "Free some space"
    )
    assert Bundle.open(disk.path / "edgeir/bundles/gain.edgeir").manifest == before
    (disk.path / "theirs").unlink()
    cli("device", "build", "orin", path, "--target", "ort").done()
    after = Bundle.open(disk.path / "edgeir/bundles/gain.edgeir").manifest
    assert [note.runtime for note in after.engines] == ["ort"]


def test_adding_without_room(disk: Disk, orin: Any, cli: Callable[..., Any]) -> None:
    disk.resize(2)
    added = cli(
        "device", "add", "small", orin.address, "--port", orin.port, "--ssh-config", orin.config,
        "--python", orin.python, "--folder", disk.path / "edgeir",
    )  # fmt: skip
    added.sentence(3, "small: the disk of the device has too little room")
    assert disk.files() == []
    assert "small" not in load_devices()
