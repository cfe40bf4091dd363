"""``edgeir plugins``: build, list, check, on stand-ins for the compilers, the library and the GPU."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeir.errors import MissingDependency
from edgeir.ops import table
from edgeir.ops.tensorrt import checking, library
from edgeir.ops.tensorrt.library import BuildKey, BuiltLibrary
from edgeir.runtime import cuda_driver


def said(**changes: Any) -> dict[str, Any]:
    """What a right library says of itself."""
    ops = [
        {
            "name": op.name,
            "types": [field.dtype for field in (*op.inputs, *op.outputs)],
            "attributes": [attribute.name for attribute in op.attributes],
        }
        for op in table.FUSED_OPS
    ]
    return {"namespace": "edgeir", "version": "1", "ops": ops, **changes}


@pytest.fixture
def make_library(tmp_path: Path) -> Callable[..., Path]:
    """``make_library(said())``: a library that says this, among the built ones of the folder ``plugins``."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler on this machine: no library to check is made")

    def make(text: dict[str, Any] | None, *, sources: str | None = None) -> Path:
        key = BuildKey(sources or library.sources_digest(), ("87",), "13.0.88", "10.3.0")
        place = tmp_path / "plugins" / key.name
        place.mkdir(parents=True)
        source = tmp_path / "library.c"
        name = "edgeir_plugins_describe" if text is not None else "something_else"
        source.write_text(f"const char* {name}(void) {{ return {json.dumps(json.dumps(text))}; }}", encoding="utf-8")
        made = place / library.LIBRARY
        subprocess.run([compiler, "-shared", "-fPIC", str(source), "-o", str(made)], check=True)
        record = {"sources": key.sources, "architectures": ["87"], "cuda": key.cuda, "tensorrt": key.tensorrt}
        (place / library.RECORD).write_text(json.dumps(record), encoding="utf-8")
        return made

    return make


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise MissingDependency("NVIDIA's driver is not on this machine", where="CUDA")

    monkeypatch.setattr(cuda_driver, "CudaDevice", refuse)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        name, architecture = "FAKE 40", "87"

        def __enter__(self) -> Device:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(cuda_driver, "CudaDevice", Device)


def test_nothing_built(cli: Any, tmp_path: Path) -> None:
    outcome = cli("plugins", "list", "--out", tmp_path)
    assert outcome.code == 0
    assert "3 fused ops; 0 libraries" in outcome.out
    assert "None. edgeir plugins build makes one." in outcome.out
    cli("plugins", "check", "--out", tmp_path).sentence(3, "there is no library", "Build one: edgeir plugins build")


def test_list(cli: Any, tmp_path: Path, make_library: Callable[..., Path]) -> None:
    make_library(said())
    old = make_library(said(), sources="0" * 64)
    folder = tmp_path / "plugins"
    outcome = cli("plugins", "list", "--out", folder)
    assert "3 fused ops; 2 libraries" in outcome.out
    assert "of another edgeir: build again" in outcome.out
    data = json.loads(cli("plugins", "list", "--out", folder, "--json").out)
    assert [row["ahead_of_time"] for row in data["ops"]] == [True, True, False]
    assert {row["file"]: row["current"] for row in data["libraries"]}[str(old)] is False


def test_build(
    cli: Any, tmp_path: Path, make_library: Callable[..., Path], gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = tmp_path / "include"
    headers.mkdir()
    (headers / "NvInfer.h").touch()
    parts = zip(("MAJOR", "MINOR", "PATCH"), (10, 3, 0), strict=True)
    version = "\n".join(f"#define NV_TENSORRT_{name} {number}" for name, number in parts)
    (headers / "NvInferVersion.h").write_text(version, encoding="utf-8")
    made = make_library(said())
    asked: list[Any] = []

    def build(*arguments: Any, force: bool) -> tuple[BuiltLibrary, bool]:
        asked.append((*arguments, force))
        return BuiltLibrary(made, BuildKey("0", ("87",), "13.0.88", "10.3.0")), force

    monkeypatch.setattr(library, "build", build)
    where = ("--headers", headers, "--out", tmp_path / "plugins")
    outcome = cli("plugins", "build", *where)
    assert (outcome.code, asked) == (0, [(headers, ("87",), tmp_path / "plugins", False)])  # the GPU's own architecture
    assert "TensorRT 10.3.0, for sm87" in outcome.err
    assert f"Already built: {made}\n" in outcome.out
    data = json.loads(cli("plugins", "build", *where, "--sm", "110,87", "--force", "--json").out)
    assert (data["built"], data["file"], data["current"]) == (True, str(made), False)
    assert asked[-1][1] == ("87", "110")
    made = make_library(said(version="2"), sources="1" * 64)
    cli("plugins", "build", *where).sentence(1, "not what was to be built", "it is edgeir 2, expected edgeir 1")


def test_what_cannot_be_built(cli: Any, tmp_path: Path, no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_USUAL_FOLDERS", (str(tmp_path),))
    cli("plugins", "build", "--sm", "87").sentence(3, "TensorRT's headers are not on this machine", "--headers FOLDER")
    cli("plugins", "build", "--headers", tmp_path).sentence(2, "NvInfer.h is not there")
    (tmp_path / "NvInfer.h").touch()
    cli("plugins", "build").sentence(3, "there is no GPU to build for", "Say which one: --sm 87")
    cli("plugins", "build", "--sm", "75").sentence(2, "--sm", "from 8.0 on", "got 75")


def test_check_without_a_gpu(cli: Any, tmp_path: Path, make_library: Callable[..., Path], no_gpu: None) -> None:
    """What a library says is checked everywhere; that no kernel ran is said."""
    made = make_library(said())
    for arguments in (("--out", tmp_path / "plugins"), (made,)):
        outcome = cli("plugins", "check", *arguments)
        assert outcome.code == 0
        assert "1 library; kernels were not run." in outcome.out
        assert "Kernels were not run: CUDA: NVIDIA's driver is not on this machine" in outcome.out
    data = json.loads(cli("plugins", "check", made, "--json").out)
    assert data["libraries"] == [{"file": str(made), "wrong": []}]
    assert data["kernels_not_run"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (None, "it is no library of edgeir's plugins"),
        (said(ops=said()["ops"][:2]), "it has no EdgeirGstAttention"),
        (said(ops=[{**said()["ops"][0], "attributes": []}, *said()["ops"][1:]]), "EdgeirKeyGraph has inputs"),
    ],
)
def test_a_library_that_is_wrong(
    text: dict[str, Any] | None, wrong: str, cli: Any, make_library: Callable[..., Path], no_gpu: None
) -> None:
    made = make_library(text)
    outcome = cli("plugins", "check", made, "--json")
    assert outcome.code == 1
    assert "a library is not right" in outcome.err
    assert wrong in json.loads(outcome.out)["libraries"][0]["wrong"][0]


def test_check_on_a_gpu(
    cli: Any, make_library: Callable[..., Path], gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_library(said())
    small = tuple(checking.cases(64))
    monkeypatch.setattr(checking, "cases", lambda: small)
    monkeypatch.setattr(checking, "check", lambda _, case, __: checking.Verdict(case, 0.0, 0))
    outcome = cli("plugins", "check", made)
    assert outcome.code == 0
    assert f"1 library; {len(small)} kernel calls." in outcome.out
    assert "EdgeirKeyGraph 2x64x20 float16" in outcome.out
    errors = {table.KEY_GRAPH.name: (0.25, 0), table.KEY_GRAPH_ATTENTION.name: (np.inf, -1)}
    monkeypatch.setattr(
        checking, "check", lambda _, case, __: checking.Verdict(case, *errors.get(case.op.name, (0.0, 0)))
    )
    outcome = cli("plugins", "check", made, "--json")
    assert outcome.code == 1
    [row] = json.loads(outcome.out)["libraries"]
    assert row["device"] == "FAKE 40"
    assert {one["case"].split()[0] for one in row["kernels"] if not one["passed"]} == set(errors)
    text = cli("plugins", "check", made).out
    assert "not launched" in text
    assert "FAILED" in text
