"""``edgeir doctor``: what is installed here and what its absence disables, and which backends run on this machine."""

from __future__ import annotations

import importlib.util
import json
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata

import typer

from edgeir import __version__
from edgeir.cli.console import print_result


@dataclass(frozen=True, slots=True)
class Part:
    """One thing edgeir can use.

    Attributes:
        name: the distribution, or the program.
        module: import name, or ``None`` for a program on the PATH.
        disables: what does not work without it.
        fix: how to get it.
    """

    name: str
    module: str | None
    disables: str
    fix: str


PARTS = (
    Part("onnxruntime", "onnxruntime", "run, bench and validate with ONNX Runtime", "pip install onnxruntime"),
    Part("torch", "torch", "export; the PyTorch reference in validate and bench", "pip install 'edgeir[export]'"),
    Part("onnx", "onnx", "export and inspect of graphs", "pip install 'edgeir[export]'"),
    Part("onnx-ir", "onnx_ir", "export and inspect of graphs", "pip install 'edgeir[export]'"),
    Part("onnxscript", "onnxscript", "export", "pip install 'edgeir[export]'"),
    Part("safetensors", "safetensors", "reading checkpoints", "pip install 'edgeir[export]'"),
    Part("scikit-image", "skimage", "the measuring pictures of export and validate", "pip install 'edgeir[export]'"),
    Part("scikit-learn", "sklearn", "two of the measuring pictures", "pip install 'edgeir[export]'"),
    Part("tensorrt_rtx_cu13", "tensorrt_rtx", "engines for RTX cards", "pip install 'edgeir[rtx]'"),
    Part("tensorrt", "tensorrt", "engines for this machine's GPU, Jetson included", "JetPack, or NVIDIA's own index"),
    Part("plotly", "plotly", "charts in HTML reports; sweep", "pip install 'edgeir[report]'"),
    Part("psutil", "psutil", "sweep", "pip install 'edgeir[sweep]'"),
    Part("ray", "ray", "sweep --ray", "pip install 'edgeir[fleet]'"),
    Part("nvidia-ml-py", "pynvml", "power and clocks of NVIDIA cards in bench", "pip install 'edgeir[nvml]'"),
    Part("nvcc", None, "kernels for TensorRT in bundles, edgeir plugins build", "install NVIDIA's CUDA toolkit"),
    Part("cmake", None, "edgeir plugins build", "install CMake 3.18 or later"),
    Part("av", "av", "videos and cameras in run, validate --video", "pip install 'edgeir[video]'"),
    Part("cuda-bindings", "cuda.bindings", "run and bench with engines", "pip install 'edgeir[gpu]'"),
    Part("nvidia-smi", None, "use of an NVIDIA GPU", "install NVIDIA's driver"),
)


def command(
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """Show what is installed and what its absence disables, and which backends can run here."""
    from edgeir.runtime.availability import BACKENDS, why_not

    rows = [{**asdict(part), "version": _version(part)} for part in PARTS]
    reasons = {backend: why_not(backend) for backend in BACKENDS}
    if as_json:
        result = {"edgeir": __version__, "python": platform.python_version(), "machine": platform.machine()}
        print_result(json.dumps({**result, "parts": rows, "backends": reasons}, indent=2))
        return
    from edgeir.report.formats import emit
    from edgeir.report.value import Fact, Report, Table

    missing = [row for row in rows if row["version"] is None]
    report = Report(
        title="edgeir doctor",
        summary=f"{len(rows) - len(missing)} of {len(rows)} parts are here; backends that run on this machine: "
        f"{', '.join(name for name, reason in reasons.items() if reason is None) or 'none'}.",
        facts=(
            Fact("edgeir", __version__),
            Fact("python", platform.python_version()),
            Fact("machine", platform.machine()),
        ),
        tables=(
            Table(
                title="Parts",
                columns=("part", "version", "without it"),
                rows=tuple(
                    (
                        str(row["name"]),
                        str(row["version"] or "not installed"),
                        "" if row["version"] else f"no {row['disables']}. To get it: {row['fix']}",
                    )
                    for row in rows
                ),
            ),
            Table(
                title="Backends",
                columns=("--backend", "runs here", "why not"),
                rows=tuple((name, "no" if reason else "yes", reason or "") for name, reason in reasons.items()),
                note="Of run and bench. The driver and a GPU are looked for; whether a bundle has an engine for this "
                "machine shows when it is opened.",
            ),
        ),
    )
    print_result(emit(report, "text"))


def _version(part: Part) -> str | None:
    """Version of an installed part, ``"found"`` for a program, ``None`` where it is missing. Nothing is imported."""
    if part.module is None:
        return "found" if shutil.which(part.name) else None
    try:
        if importlib.util.find_spec(part.module) is None:
            return None
    except ModuleNotFoundError:  # of a package that is not there, asked for a part of it
        return None
    try:
        return metadata.version(part.name)
    except metadata.PackageNotFoundError:
        return "found"
