"""Provenance tells how, never who or on which machine."""

from __future__ import annotations

import getpass
import json
import platform
import re
from datetime import datetime, timezone
from pathlib import Path

import pytest

import edgeir
from edgeir import provenance
from edgeir.errors import UsageError
from edgeir.provenance import Provenance, collect, installed_versions, public_command


@pytest.mark.parametrize(
    ("given", "public"),
    [
        (["/opt/bin/edgeir", "export", "--model", "exda-tiny"], ("edgeir", "export", "--model", "exda-tiny")),
        (["edgeir", "run", "/a/c.edgeir", "x.png", "-o", "../o/"], ("edgeir", "run", "c.edgeir", "x.png", "-o", "o")),
        (["edgeir", "run", "--out=/a/b/c.png"], ("edgeir", "run", "--out=c.png")),
        (["edgeir", "run", "-o/a/b/c.png"], ("edgeir", "run", "-oc.png")),
        (["edgeir", "run", r"C:\Users\somebody\in.png"], ("edgeir", "run", "in.png")),
        (["edgeir", "run", "~/in.png"], ("edgeir", "run", "in.png")),
        (["/site/edgeir/__main__.py", "doctor"], ("edgeir", "doctor")),
        (
            ["edgeir", "export", "--size", "256x256", "--drift-budget", "0.02"],
            ("edgeir", "export", "--size", "256x256", "--drift-budget", "0.02"),
        ),
        (["edgeir"], ("edgeir",)),
        ([], ()),
    ],
)
def test_paths_become_their_last_part(given: list[str], public: tuple[str, ...]) -> None:
    assert public_command(given) == public


def test_words_that_name_user_and_machine_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance.platform, "node", lambda: "Orin-Lab7.example.org")
    monkeypatch.setattr(provenance.getpass, "getuser", lambda: "ada")
    monkeypatch.setattr(provenance.Path, "home", lambda: Path("/people/lovelace"))
    command = public_command(
        ["edgeir", "export", "--out", "/people/lovelace", "ada", "orin-lab7.edgeir", "for-ada_2.png", "adam.png"]
    )
    assert command == ("edgeir", "export", "--out", "_", "_", "_.edgeir", "for-ada_2.png", "adam.png")
    assert public_command(["edgeir", "run", "--out=/x/for-ada.png"])[2] == "--out=for-_.png"


def test_nothing_names_the_machine_the_user_or_a_folder_of_theirs() -> None:
    home, user, node = Path.home(), getpass.getuser(), platform.node()
    argv = ["edgeir", "export", "--checkpoint", f"{home}/secret/w.safetensors", f"--out={home}", f"{user}@{node}:x"]
    text = json.dumps(collect(seconds=1.0, argv=argv).to_dict())
    assert str(home) not in text
    assert "secret" not in text
    words = set(re.findall(r"[A-Za-z0-9_.-]+", text.lower()))
    assert user.lower() not in words
    assert node.lower() not in words


def test_a_container_without_a_user_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(provenance.getpass, "getuser", nobody)
    monkeypatch.setattr(provenance.platform, "node", lambda: "")
    assert public_command(["edgeir", "run", "a/b.png"]) == ("edgeir", "run", "b.png")


def test_collect() -> None:
    made = collect(seconds=1.23456, argv=["edgeir", "export"], gpu="NVIDIA Orin")
    assert made.command == ("edgeir", "export")
    assert made.seconds == 1.235
    assert made.device.gpu == "NVIDIA Orin"
    assert made.device.machine
    assert made.device.processor
    assert made.device.processors >= 1
    created = datetime.fromisoformat(made.created)
    assert created.tzinfo == timezone.utc
    assert abs((datetime.now(timezone.utc) - created).total_seconds()) < 60
    assert collect(seconds=0, argv=[]).device.gpu is None


def test_versions() -> None:
    versions = installed_versions()
    assert versions["python"] == platform.python_version()
    assert versions["edgeir"] == edgeir.__version__
    assert "numpy" in versions
    assert "pytest" not in versions


def test_versions_of_what_is_not_installed_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_the_gpu_build(name: str) -> str:
        if name == "onnxruntime-gpu":
            return "9.9"
        raise provenance.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(provenance.metadata, "version", only_the_gpu_build)
    assert installed_versions() == {"python": platform.python_version(), "onnxruntime": "9.9"}


def test_round_trip_through_json() -> None:
    made = collect(seconds=2.5, argv=["edgeir", "export"])
    assert Provenance.from_dict(json.loads(json.dumps(made.to_dict())), where="x") == made


def test_a_broken_one_names_the_field() -> None:
    data = collect(seconds=0, argv=[]).to_dict()
    del data["device"]["machine"]
    with pytest.raises(UsageError, match=r"m\.json: the provenance cannot be read \(got KeyError: 'machine'\)"):
        Provenance.from_dict(data, where="m.json")
