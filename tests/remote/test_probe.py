"""What a device says before anything is installed there, read from samples of JetPack 5, 6 and 7 and of a PC."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeir.errors import MissingDependency
from edgeir.remote import probe_script
from edgeir.remote.addresses import Device
from edgeir.remote.probe import Probe, probe, read_probe, require_usable

SAMPLES = Path(__file__).parent.parent / "runtime" / "samples"


def released(l4t: str) -> str:
    """The line of /etc/nv_tegra_release that a user of this release published."""
    for line in (SAMPLES / "nv_tegra_release.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{l4t} | "):
            return line.partition(" | ")[2]
    raise AssertionError(l4t)


def tegrastats(name: str) -> str:
    lines = (SAMPLES / f"tegrastats-{name}.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if "RAM" in line and not line.startswith("#"))


def words(**changes: Any) -> dict[str, Any]:
    """What the script gives on a machine that has nothing, with changes."""
    bare = {
        "python": "/usr/bin/python3", "python_version": "3.10.12", "venv": True, "root": "/home/u/.local/share/edgeir",
        "free_bytes": 10**10, "machine": "aarch64", "system": "Linux", "libc": "glibc 2.35", "processors": 8,
        "os_release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n', "meminfo": "MemTotal:       16031892 kB\n",
        "model": "", "nv_tegra_release": "", "nvidia_version": "", "nvpmodel": "", "tegrastats": "", "nvidia_smi": "",
        "tensorrt": "", "tensorrt_rtx": "", "libnvinfer": "", "programs": [],
    }  # fmt: skip
    assert changes.keys() <= bare.keys()
    return {**bare, **changes}


ORIN_NX = words(
    model="NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
    nv_tegra_release=released("36.4.3"),
    nvidia_version="NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build",
    nvpmodel="NV Power Mode: MAXN_SUPER\n0\n",
    tegrastats=tegrastats("orin-nx-jetpack6.2"),
    tensorrt="10.3.0",
    libnvinfer="10.3.0.30-1+cuda12.5",
    programs=["nvcc", "trtexec"],
)


def test_an_orin_nx_with_jetpack_6_2() -> None:
    found = read_probe(ORIN_NX)
    assert (found.l4t, found.jetpack, found.power_mode, found.driver) == ("36.4.3", "6.2", "MAXN_SUPER", "540.4.0")
    assert (found.tensorrt, found.tensorrt_in_python) == ("10.3.0", True)
    assert found.distribution == "Ubuntu 22.04.5 LTS"
    assert found.memory_bytes == 16031892 * 1024
    assert found.temperatures_c
    assert found.title == (
        "NVIDIA Jetson Orin NX Engineering Reference Developer Kit, aarch64, 15 GiB, JetPack 6.2 (L4T 36.4.3)"
    )
    require_usable(found, name="orin")
    assert json.loads(json.dumps(found.to_dict()))["programs"] == ["nvcc", "trtexec"]


@pytest.mark.parametrize(
    ("l4t", "stats", "jetpack"),
    [("35.3.1", "agx-orin-jetpack5", "5.1.1"), ("36.4.4", "agx-orin-jetpack6.2.1", "6.2.1"),
     ("38.4.0", "thor-jetpack7.1", "7.1"), ("39.2.1", "thor-jetpack7.2", "7.2.1")],
)  # fmt: skip
def test_jetpacks(l4t: str, stats: str, jetpack: str) -> None:
    found = read_probe(words(nv_tegra_release=released(l4t), tegrastats=tegrastats(stats)))
    assert (found.l4t, found.jetpack) == (l4t, jetpack)
    assert found.temperatures_c


def test_a_jetson_whose_python_does_not_see_tensorrt() -> None:
    found = read_probe({**ORIN_NX, "tensorrt": ""})
    assert (found.tensorrt, found.tensorrt_in_python) == ("10.3.0.30", False)


def test_a_pc_with_an_rtx_card() -> None:
    sample = (SAMPLES / "nvidia-smi.txt").read_text(encoding="utf-8")
    card = next(line for line in sample.splitlines() if line.startswith("GeForce"))
    found = read_probe(words(machine="x86_64", nvidia_smi=f"{card}\n", tensorrt_rtx="1.7.1.116"))
    assert found.gpus[0].memory_mib == 7979
    assert found.tensorrt_rtx == "1.7.1.116"
    assert found.title == "Ubuntu 22.04.5 LTS, x86_64, 15 GiB, GeForce RTX 2080"


def test_a_machine_that_says_nothing() -> None:
    found = read_probe(words(os_release="", meminfo=""))
    assert found == dataclasses.replace(found, model=None, l4t=None, jetpack=None, gpus=(), temperatures_c={})
    assert found.title == "Linux, aarch64"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"python_version": "3.8.10"}, r"Python is too old \(expected 3\.10 or later, got 3\.8\.10\)"),
        ({"venv": False}, r"cannot make virtual environments.*apt install python3-venv"),
        ({"system": "Windows"}, r"runs Windows .*WSL 2"),
    ],
)
def test_devices_that_cannot_be_used(change: dict[str, object], says: str) -> None:
    with pytest.raises(MissingDependency, match=rf"^old: .*{says}"):
        require_usable(read_probe(words(**change)), name="old")


def test_the_script_itself(tmp_path: Path) -> None:
    """As it is sent: through standard input, to a Python that has no edgeir in sight."""
    request = {"nonce": "n", "arguments": {"folder": str(tmp_path / "not" / "there")}}
    done = subprocess.run(
        [sys.executable, "-I", "-", json.dumps(request)],
        input=Path(probe_script.__file__).read_bytes(),
        capture_output=True,
        check=True,
        cwd=tmp_path,
    )
    line = done.stdout.decode().splitlines()[-1]
    found: Probe = read_probe(json.loads(line.removeprefix("edgeir-answer:n ")))
    assert found.root == str(tmp_path / "not" / "there")
    assert found.free_bytes > 0
    assert found.python_version == "%d.%d.%d" % sys.version_info[:3]  # noqa: UP031
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(("folder", "root"), [("~/x y", "home/x y"), ("x", "here/x"), ("~", "home"), ("/a/../b", "/b")])
def test_folders_that_are_not_absolute(tmp_path: Path, folder: str, root: str) -> None:
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-I", "-", json.dumps({"nonce": "n", "arguments": {"folder": folder}})],
        input=Path(probe_script.__file__).read_bytes(),
        capture_output=True,
        check=True,
        cwd=tmp_path / "here",
        env={**os.environ, "HOME": str(tmp_path / "home")},
    )
    found = json.loads(done.stdout.decode().splitlines()[-1].removeprefix("edgeir-answer:n "))
    assert found["root"] == (root if root.startswith("/") else str(tmp_path / root))
    assert found["free_bytes"] > 0


@pytest.mark.parametrize("path", ["", "edgeir", "~/edgeir", "/a\nb", "/a\x1b[2J", "/a/../b"])
@pytest.mark.parametrize("key", ["root", "python"])
def test_a_device_that_names_no_folder(path: str, key: str) -> None:
    class Orin:
        device = Device("orin", "ubuntu@orin")

        def script(self, *_: Any, **__: Any) -> dict[str, Any]:
            return words(**{key: path})

    with pytest.raises(MissingDependency, match="orin: the device names a folder that is none"):
        probe(Orin())  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32", reason="programs are played by shell scripts")
def test_programs_that_never_end_or_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, body in (("tegrastats", "while :; do echo RAM 1/2MB; sleep 0.1; done"), ("nvpmodel", "echo no; exit 3")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert probe_script.first_line("tegrastats", "--interval", "500") == "RAM 1/2MB\n"
    assert probe_script.said("nvpmodel", "-q") == ""
    assert probe_script.said("no-such-program") == ""
