"""What installs is ``edgeir`` and nothing generic, all of it, and no module exists under two names."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
MAPPED = {"export": "edgeir.export", "calibrate": "edgeir.calibrate", "train": "edgeir.train"}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def packages_on_disk() -> set[str]:
    found = set()
    for folder, name in {"edgeir": "edgeir", **MAPPED}.items():
        for file in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join([name, *file.parent.relative_to(ROOT / folder).parts]))
    return found


def test_every_package_is_in_the_table() -> None:
    table = project()["tool"]["setuptools"]
    assert set(table["packages"]) == packages_on_disk()
    assert table["packages"] == sorted(table["packages"])
    assert table["package-dir"] == {name: folder for folder, name in MAPPED.items()}


def test_every_folder_of_code_is_a_package() -> None:
    for folder in ("edgeir", *MAPPED):
        for file in (ROOT / folder).rglob("*.py"):
            assert (file.parent / "__init__.py").is_file(), f"{file.parent.relative_to(ROOT)} has no __init__.py"


@pytest.fixture(scope="module")
def wheel(built_wheel: Path) -> list[str]:
    """Names in the wheel."""
    with zipfile.ZipFile(built_wheel) as archive:
        return archive.namelist()


def test_the_wheel_holds_edgeir_and_nothing_else(wheel: list[str]) -> None:
    top = {name.split("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"edgeir"}
    assert len(top) == 2


def test_the_wheel_holds_every_module(wheel: list[str]) -> None:
    for folder, name in {"edgeir": "edgeir", **MAPPED}.items():
        for file in (ROOT / folder).rglob("*.py"):
            place = Path(*name.split("."), file.relative_to(ROOT / folder)).as_posix()
            assert place in wheel, f"{place} is missing from the wheel"


def test_the_wheel_holds_what_is_not_python(wheel: list[str]) -> None:
    assert "edgeir/py.typed" in wheel
    assert "edgeir/report/report.html.j2" in wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
    for folder, name in {"edgeir": "edgeir", **MAPPED}.items():
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and file.suffix not in {".py", ".pyc"} and not file.name.startswith("."):
                place = Path(*name.split("."), file.relative_to(ROOT / folder)).as_posix()
                assert place in wheel, f"{place} is not in the package-data table of pyproject.toml"


@pytest.mark.parametrize("folder", sorted(MAPPED))
def test_a_folder_refuses_its_bare_name(folder: str) -> None:
    result = python(f"import {folder}", ROOT)
    assert result.returncode == 1
    assert f"ImportError: this folder is the package edgeir.{folder}: run 'pip install -e .'" in result.stderr


@pytest.mark.parametrize("name", [*sorted(MAPPED), "tests", "benchmarks", "tools"])
def test_no_generic_name_is_installed(name: str, tmp_path: Path) -> None:
    result = python(
        f"import importlib.util as u; spec = u.find_spec({name!r}); print(spec and (spec.origin or spec.loader))",
        tmp_path,
    )
    assert str(ROOT) not in result.stdout
    if name in MAPPED:
        assert result.stdout.strip() == "None"


def test_the_users_own_train_wins(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("WHOSE = 'mine'\n")
    result = python("import train, edgeir.train; print(train.WHOSE, edgeir.train.__name__)", tmp_path)
    assert result.stdout.split() == ["mine", "edgeir.train"], result.stderr


def test_the_constraints_fit_the_requirements() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {}
    for line in lines:
        if line and not line.startswith("#"):
            pin = Requirement(line)
            (exact,) = pin.specifier
            assert exact.operator == "==", line
            assert "+" not in exact.version, f"{line}: a local version is not to be had everywhere"
            pinned[canonicalize_name(pin.name)] = exact.version
    table = project()["project"]
    extras = table["optional-dependencies"]
    # All but TensorRT's own, which cannot be installed everywhere.
    installed = ("export", "train", "rtx", "report", "sweep", "fleet", "nvml", "gpu", "video", "dev")
    for text in [*table["dependencies"], *(text for extra in installed for text in extras[extra])]:
        wanted = Requirement(text)
        if wanted.name == "edgeir":  # another extra
            continue
        assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)]), text
