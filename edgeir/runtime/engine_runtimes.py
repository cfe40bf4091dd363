"""The runtimes that run engines, one row each: packages, words and how to get them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeir.errors import MissingDependency


@dataclass(frozen=True, slots=True)
class EngineRuntime:
    """One of them.

    Attributes:
        name: what ``--backend`` and the manifest call it.
        package: its Python package.
        title: for people.
        install: how to get it, a sentence.
        least: the oldest version that sessions are written for; before it contexts take no memory of ours with its
            size.
        has_plugins: whether libraries of plugins can be loaded into it.
    """

    name: str
    package: str
    title: str
    install: str
    least: tuple[int, int]
    has_plugins: bool


ENGINE_RUNTIMES: Mapping[str, EngineRuntime] = {
    "rtx": EngineRuntime(
        "rtx", "tensorrt_rtx", "TensorRT-RTX", "Run: pip install 'edgeir[rtx]'", (1, 0), has_plugins=False
    ),
    "tensorrt": EngineRuntime(
        "tensorrt",
        "tensorrt",
        "TensorRT",
        "JetPack brings it; elsewhere its wheels come from NVIDIA's own index.",
        (10, 1),
        has_plugins=True,
    ),
}


def load_runtime(runtime: EngineRuntime) -> Any:
    """The runtime's module.

    Raises:
        MissingDependency: it is not installed, its libraries cannot be loaded, or it is too old.
    """
    if importlib.util.find_spec(runtime.package) is None:
        raise MissingDependency(f"{runtime.title} is not installed", where=runtime.package, fix=runtime.install)
    try:
        trt: Any = importlib.import_module(runtime.package)
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingDependency(
            f"{runtime.title} is installed and cannot be loaded",
            where=runtime.package,
            got=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
            fix=runtime.install,
        ) from error
    major, minor = (int(part) for part in str(trt.__version__).split(".")[:2])
    if (major, minor) < runtime.least:
        raise MissingDependency(
            f"this {runtime.title} is too old for sessions",
            where=runtime.package,
            expected=f"{'.'.join(map(str, runtime.least))} or later",
            got=str(trt.__version__),
            fix="Its engines can be run with trtexec.",
        )
    return trt
