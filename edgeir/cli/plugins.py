"""``edgeir plugins``: the fused ops as kernels in TensorRT: building the library, and whether it is right."""

from __future__ import annotations

import json
from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgeir.cli.console import Console, print_result
from edgeir.errors import CheckFailed, MissingDependency

if TYPE_CHECKING:
    from edgeir.ops.tensorrt.checking import Verdict
    from edgeir.ops.tensorrt.library import BuiltLibrary

app = typer.Typer(
    name="plugins",
    help="The fused ops as CUDA kernels inside TensorRT. TensorRT-RTX has no plugins: it runs the bodies in the graph.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

_FOLDER = typer.Option(None, "--out", metavar="FOLDER", help="Where libraries are kept (edgeir/plugins in the cache).")
_JSON = typer.Option(False, "--json", help="Print one JSON value.")


@app.command("build")
def build(
    architectures: str | None = typer.Option(
        None, "--sm", metavar="LIST", help="Compute capabilities, such as 87 or 89,120 (this machine's GPU)."
    ),
    headers: Path | None = typer.Option(
        None, "--headers", metavar="FOLDER", help="TensorRT's headers, where packages do not put them."
    ),
    out: Path | None = _FOLDER,
    force: bool = typer.Option(False, "--force", help="Build although the library is there."),
    as_json: bool = _JSON,
) -> None:
    """Compile the plugin library against TensorRT 10.0 or later, on the machine that will use it."""
    from edgeir.ops.tensorrt import library

    console = Console(stages=2)
    found = library.find_headers(headers)
    wanted = library.parse_architectures(architectures or _architecture_here())
    console.stage(f"TensorRT {library.headers_version(found)}, for {', '.join(f'sm{sm}' for sm in wanted)}")
    console.stage("compiling")
    built, now = library.build(found, wanted, out or library.default_folder(), force=force)
    wrong = library.differences(library.open_library(built.path))
    if wrong:
        raise CheckFailed("the library is not what was to be built", where=str(built.path), got="; ".join(wrong))
    if as_json:
        print_result(json.dumps({"built": now, **_row(built)}, indent=2))
        return
    print_result(
        f"{'Built' if now else 'Already built'}: {built.path}\n"
        "Next:\n"
        f"  edgeir plugins check {built.path}\n"
        f"  trtexec --dynamicPlugins={built.path} --onnx=model.onnx\n"
    )


@app.command("list")
def list_libraries(out: Path | None = _FOLDER, as_json: bool = _JSON) -> None:
    """Show the ops, what has a kernel of them, and the libraries that were built here."""
    from edgeir.ops import table
    from edgeir.ops.tensorrt import library
    from edgeir.ops.tensorrt.ahead import AHEAD

    folder = out or library.default_folder()
    libraries = library.built_libraries(folder)
    ops = [{"op": op.name, "doc": op.doc, "library": True, "ahead_of_time": op.name in AHEAD} for op in table.FUSED_OPS]
    if as_json:
        print_result(json.dumps({"ops": ops, "libraries": [_row(one) for one in libraries]}, indent=2))
        return
    from edgeir.report.formats import emit
    from edgeir.report.value import Report, Table

    report = Report(
        title="edgeir plugins",
        summary=f"{len(ops)} fused ops; {_count(libraries)} in {folder}.",
        tables=(
            Table(
                title="Ops",
                columns=("op", "in the library", "ahead of time", "what it is"),
                rows=tuple(
                    (op.name, "yes", "yes" if op.name in AHEAD else "no: more than one kernel", op.doc)
                    for op in table.FUSED_OPS
                ),
                note="Ahead of time: PTX in a bundle's kernels.json, for TensorRT 10.9 and later.",
            ),
            Table(
                title="Libraries",
                columns=("TensorRT", "CUDA", "for", "sources", "file"),
                rows=tuple(
                    (
                        one.key.tensorrt,
                        one.key.cuda,
                        " ".join(f"sm{sm}" for sm in one.key.architectures),
                        "of this edgeir" if one.is_current else "of another edgeir: build again",
                        str(one.path),
                    )
                    for one in libraries
                ),
                note="" if libraries else "None. edgeir plugins build makes one.",
            ),
        ),
    )
    print_result(emit(report, "text"))


@app.command("check")
def check(
    library_file: Path | None = typer.Argument(
        None, metavar="[LIBRARY]", help="libedgeir_plugins.so; all that were built here if left out."
    ),
    out: Path | None = _FOLDER,
    as_json: bool = _JSON,
) -> None:
    """Load libraries, compare what they say with what edgeir expects, and run their kernels where there is a GPU."""
    from edgeir.ops.tensorrt import library
    from edgeir.runtime.cuda_driver import CudaDevice

    folder = out or library.default_folder()
    files = [library_file] if library_file else [one.path for one in library.built_libraries(folder)]
    if not files:
        raise MissingDependency("there is no library", where=str(folder), fix="Build one: edgeir plugins build.")
    opened = [(file, library.open_library(file)) for file in files]
    results: list[dict[str, Any]] = [{"file": str(file), "wrong": library.differences(one)} for file, one in opened]
    usable = [(row, one) for row, (_, one) in zip(results, opened, strict=True) if not row["wrong"]]
    not_run = None
    try:
        with CudaDevice() as device:
            for row, one in usable:
                row["device"] = device.name
                row["kernels"] = [verdict.row() for verdict in _run(one, device)]
    except MissingDependency as error:
        not_run = str(error)
    if as_json:
        print_result(json.dumps({"libraries": results, "kernels_not_run": not_run}, indent=2))
    else:
        _print_check(results, not_run)
    bad = [row["file"] for row in results if row["wrong"] or any(not one["passed"] for one in row.get("kernels", ()))]
    if bad:
        raise CheckFailed("a library is not right", where=", ".join(bad), fix="Build it again: edgeir plugins build.")


def _run(library: Any, device: Any) -> list[Verdict]:
    from edgeir.ops.tensorrt import checking

    return [checking.check(library, case, device) for case in checking.cases()]


def _print_check(results: list[dict[str, Any]], not_run: str | None) -> None:
    from edgeir.report.formats import emit
    from edgeir.report.value import Check, Report, Table

    kernels = [(row["file"], one) for row in results for one in row.get("kernels", ())]
    checks = tuple(
        Check(f"differences from edgeir's ops, {row['file']}", len(row["wrong"]), 0, advice="; ".join(row["wrong"]))
        for row in results
    )
    tables = (
        Table(
            title="Kernels",
            columns=("case", "largest difference", "at most", "verdict"),
            rows=tuple(
                (
                    one["case"],
                    _difference(one),
                    f"{one['at_most']:g}",
                    "passed" if one["passed"] else "FAILED",
                )
                for _, one in kernels
            ),
            note=f"Kernels were not run: {not_run}" if not_run else "Against the NumPy twins in float64.",
        ),
    )
    summary = f"{_count(results)}; " + ("kernels were not run." if not_run else f"{len(kernels)} kernel calls.")
    print_result(emit(Report(title="edgeir plugins check", summary=summary, checks=checks, tables=tables), "text"))


def _difference(row: dict[str, Any]) -> str:
    if row["status"] != 0:
        return "not launched"
    return "not a number" if row["error"] is None else f"{row['error']:.2g}"


def _count(libraries: Sized) -> str:
    return "1 library" if len(libraries) == 1 else f"{len(libraries)} libraries"


def _row(library: BuiltLibrary) -> dict[str, Any]:
    key = library.key
    return {
        "file": str(library.path),
        "tensorrt": key.tensorrt,
        "cuda": key.cuda,
        "architectures": list(key.architectures),
        "current": library.is_current,
    }


def _architecture_here() -> str:
    """Of this machine's GPU.

    Raises:
        MissingDependency: there is none to ask.
    """
    from edgeir.runtime.cuda_driver import CudaDevice

    try:
        with CudaDevice() as device:
            return device.architecture
    except MissingDependency as error:
        raise MissingDependency(
            "there is no GPU to build for", where="edgeir plugins build", fix="Say which one: --sm 87."
        ) from error
