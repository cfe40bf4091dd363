"""The script that makes the environment on a device, run here: offline from wheels, again, and when it cannot."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgeir.remote import install_script

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="boards are POSIX machines")


def wheel(folder: Path, name: str, version: str, requires: str = "") -> Path:
    """A wheel with one module that knows its version."""
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},"
        for path, text in files.items()
    ]
    files[f"{name}-{version}.dist-info/RECORD"] = "\n".join([*rows, f"{name}-{version}.dist-info/RECORD,,"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


def call(root: Path, name: str, *, requirements: list[str] | None = None, again: bool = False) -> dict[str, object]:
    """The answer of the script, as a device gives it."""
    arguments = {
        "root": str(root), "name": name, "wheel": "wheels/edgeir_like-1.0-py3-none-any.whl", "extras": "",
        "requirements": requirements or [], "wheels": "wheels", "system": False, "again": again,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-", json.dumps({"nonce": "n", "arguments": arguments})],
        input=Path(install_script.__file__).read_text(),
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, object] = json.loads(done.stdout.split("edgeir-answer:n ")[1])
    return answer


def test_offline_and_again(tmp_path: Path) -> None:
    root = tmp_path / "a folder"
    wheel(root / "wheels", "edgeir_like", "1.0", "Requires-Dist: needed\n")
    wheel(root / "wheels", "needed", "2.0")
    (root / "envs" / "old").mkdir(parents=True)
    made = call(root, "one")
    assert made == {"python": str(root / "envs" / "one" / "bin" / "python"), "made": True}
    code = "import edgeir_like, needed; print(edgeir_like.VERSION, needed.VERSION)"
    said = subprocess.run([str(made["python"]), "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["1.0", "2.0"]
    assert sorted(path.name for path in root.iterdir()) == ["envs"]  # wheels are gone, and so is the old environment
    assert sorted(path.name for path in (root / "envs").iterdir()) == [".lock", "one"]
    assert call(root, "one") == {**made, "made": False}


def test_an_environment_in_use_stays(tmp_path: Path) -> None:
    import fcntl

    for name in ("old", "new"):
        (tmp_path / "envs" / name).mkdir(parents=True)
    lock = tmp_path / "jobs" / "build" / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        install_script.forget_others(str(tmp_path), "new")
        assert (tmp_path / "envs" / "old").is_dir()
    install_script.forget_others(str(tmp_path), "new")
    assert [path.name for path in (tmp_path / "envs").iterdir()] == ["new"]


def test_two_at_once(tmp_path: Path) -> None:
    """As after a connection that broke: pip goes on there, and the second call touches nothing of it."""
    import fcntl

    (tmp_path / "envs" / "one").mkdir(parents=True)
    with (tmp_path / "envs" / ".lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert call(tmp_path, "one") == {"busy": True}
    assert (tmp_path / "envs" / "one").is_dir()


def test_an_environment_is_not_made_anew_under_a_job(tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "envs" / "one").mkdir(parents=True)
    (tmp_path / "envs" / "one" / "ready").touch()
    lock = tmp_path / "jobs" / "build" / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert call(tmp_path, "one", again=True) == {"working": True}
    assert (tmp_path / "envs" / "one" / "ready").is_file()


def test_a_wheel_that_is_missing_leaves_nothing(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "edgeir_like", "1.0")
    answer = call(tmp_path, "one", requirements=["onnxruntime"])
    assert "onnxruntime" in str(answer["words"])
    assert not answer["full"]
    assert [path.name for path in (tmp_path / "envs").iterdir()] == [".lock"]
    assert (tmp_path / "wheels").is_dir()  # for the next try


@pytest.mark.parametrize(
    ("words", "full"),
    [("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", True), ("no", False)],
)
def test_a_full_disk_is_told_from_other_troubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, full: bool
) -> None:
    monkeypatch.setattr(install_script, "run", lambda command: words)
    answer = install_script.install(str(tmp_path), "one", "w", "", [], None, False, False)
    assert answer == {"words": words, "full": full}
