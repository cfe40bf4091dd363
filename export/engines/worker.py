"""The build process: ``python -m edgeir.export.engines.worker``, one request on stdin, one answer on stdout.

Lines before the answer are progress. A request without a graph is answered with the builder's version and the GPUs that
it can be told to build for.
It may abort (NVIDIA's builders do) or be killed: the parent process reads how it ended. Standard input stays open for
as long as the parent lives; when it closes, the worker ends itself, so that no build outlives an interrupted export.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeir.export.engines.phases import watch
from edgeir.export.engines.target import BuildRequest, Progress

_MODULES = {"rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
_WARNING_LIMIT = 20
# One function body is imported once per node that calls it; its inner names repeat, which is expected.
_EXPECTED_WARNING = "already exists, the output tensors of this new instance will not be queryable"


def main() -> int:
    """Read one request, build, answer. Exit code 0 with a JSON answer, 1 with ``{"error": ...}``."""
    request = BuildRequest.from_dict(json.loads(sys.stdin.readline()))
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        answer = build(request) if request.onnx_path else about(_import(request.target.runtime))
    except OSError as error:  # a full disk is not the builder's fault: the parent tells them apart by the number
        answer = {"error": str(error), "errno": error.errno}
    except Exception as error:  # the parent turns it into one sentence
        answer = {"error": f"{error}" or type(error).__name__}
    _say(answer)
    return 1 if "error" in answer else 0


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _tell(progress: Progress) -> None:
    _say({"progress": asdict(progress)})


def _exit_with_parent() -> None:
    # Read the descriptor itself: a thread blocked in a buffered read would hold the lock interpreter shutdown needs.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(3)


def about(trt: Any) -> dict[str, Any]:
    """What a builder says of itself."""
    listed = getattr(getattr(trt, "ComputeCapability", None), "__members__", ())
    return {"version": str(trt.__version__), "targets": [name.lower() for name in listed if name.startswith("SM")]}


def build(request: BuildRequest) -> dict[str, Any]:
    """Parse and build one engine; the parent moves the file to its place once this process ended well.

    TensorRT-RTX and TensorRT proper share this path: both parse the same strongly typed ONNX.
    """
    trt: Any = _import(request.target.runtime)
    started = time.perf_counter()
    logger = _make_logger(trt)
    _load_libraries(trt, logger, request.libraries)
    kernels = _register_kernels(request)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(Path(request.onnx_path).read_bytes()):
        errors = [str(parser.get_error(index)).strip() for index in range(parser.num_errors)]
        raise RuntimeError("the parser refuses the graph: " + " | ".join(errors[:3]))
    config = builder.create_builder_config()
    if request.target.runtime == "rtx":
        config.num_compute_capabilities = len(request.target.architectures)
        for index, architecture in enumerate(request.target.architectures):
            config.set_compute_capability(getattr(trt.ComputeCapability, architecture.upper()), index)
    if request.profile is not None:
        profile = builder.create_optimization_profile()
        profile.set_shape(
            request.profile.input_name, request.profile.minimum, request.profile.optimum, request.profile.maximum
        )
        config.add_optimization_profile(profile)
        let_memory_shrink(trt, config)
    if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        for name in request.weak_flags:
            config.set_flag(getattr(trt.BuilderFlag, name))
    cache = TimingCache(config, request)
    watch(trt, config, _tell)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("the builder gave no engine: " + " | ".join(logger.errors[-3:] or ["no reason stated"]))
    data = memoryview(plan)
    with Path(request.engine_path).open("wb") as file:
        file.write(data)
    cache.write()
    return {
        "version": str(trt.__version__),
        "layers": network.num_layers,
        "seconds": time.perf_counter() - started,
        "bytes": data.nbytes,
        "warnings": list(logger.warnings)[:_WARNING_LIMIT],
        "kernels": list(kernels),
        "timing_cache": cache.state,
    }


def let_memory_shrink(trt: Any, config: Any) -> None:
    """Have the engine ask for less scratch memory for smaller shapes, where the builder can (TensorRT 10.10).

    Else it asks for what the largest shape of its range takes, whatever the picture, and smaller tiles would save only
    their own buffers. TensorRT-RTX 1.7.1 does so unasked.
    """
    features = getattr(trt, "PreviewFeature", None)
    feature = getattr(features, "RUNTIME_ACTIVATION_RESIZE_10_10", None)
    if feature is not None:
        config.set_preview_feature(feature, True)


class TimingCache:
    """The timing cache of one build: the same graph builds in a fraction of the time, and into the same engine.

    TensorRT-RTX has none: its calls for one do nothing and warn, so they are not made.

    Attributes:
        state: as in `edgeir.export.engines.target.BuildResult`.
    """

    def __init__(self, config: Any, request: BuildRequest) -> None:
        self.state = "none"
        self._config = config
        self._path: Path | None = None
        if request.timing_cache_path is None or request.target.runtime == "rtx":
            return
        self._path = Path(request.timing_cache_path)
        old = self._path.read_bytes() if self._path.is_file() else b""
        self.state = "used" if old else "new"
        # The builder refuses one that another GPU or version made, and would build without any.
        if old and not self._set(old):
            self.state = "refused"
        if self.state != "used":
            self._set(b"")

    def _set(self, data: bytes) -> bool:
        cache = self._config.create_timing_cache(data)
        return cache is not None and bool(self._config.set_timing_cache(cache, False))

    def write(self) -> None:
        """Write what the cache holds after the build, replacing the old file in one step."""
        cache = None if self._path is None else self._config.get_timing_cache()
        if self._path is not None and cache is not None:
            temporary = self._path.with_name(f"{self._path.name}.part")
            temporary.write_bytes(memoryview(cache.serialize()))
            temporary.replace(self._path)


def _load_libraries(trt: Any, logger: Any, libraries: tuple[str, ...]) -> None:
    """Load plugin libraries, by TensorRT's own call where it has one (from 10.0 on)."""
    if libraries and hasattr(trt, "init_libnvinfer_plugins"):
        trt.init_libnvinfer_plugins(logger, "")
    for library in libraries:
        registry = trt.get_plugin_registry()
        if hasattr(registry, "load_library"):
            registry.load_library(library)
        else:
            ctypes.CDLL(library)


def _register_kernels(request: BuildRequest) -> tuple[str, ...]:
    """Let TensorRT proper take the bundle's kernels, where this version can; the ops that it takes them for."""
    if request.kernels_path is None or request.target.runtime != "tensorrt":
        return ()
    from edgeir.ops.tensorrt.ahead import from_json
    from edgeir.ops.tensorrt.quick import is_supported, register

    file = Path(request.kernels_path)
    return register(from_json(file.read_bytes(), where=file.name)) if is_supported() else ()


def _import(runtime: str) -> ModuleType:
    import importlib

    return importlib.import_module(_MODULES[runtime])


def _network_flags(trt: Any) -> int:
    """Strong typing where it is a choice (TensorRT 9 and 10); 11 and RTX have nothing else.

    8 has no strong typing, and has to be told that the batch is a side like others.
    """
    known = trt.NetworkDefinitionCreationFlag
    flag = getattr(known, "STRONGLY_TYPED", None)
    if flag is None and str(trt.__version__).startswith("8."):
        flag = known.EXPLICIT_BATCH
    return 0 if flag is None else 1 << int(flag)


def _make_logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps distinct warnings and errors; nothing goes to the terminal."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.warnings: dict[str, None] = {}
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message.strip())
            elif severity == trt.ILogger.Severity.WARNING and _EXPECTED_WARNING not in message:
                self.warnings[message.strip()] = None

    return Logger()


if __name__ == "__main__":
    sys.exit(main())
