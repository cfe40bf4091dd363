"""From a bundle to a deserialized engine: every check first, then the bytes that were checked.

In this order, each step refusing with one sentence before the next is tried: the runtime can be loaded; the manifest
has an engine for its version and this GPU (`engine_choice`); plugins are at the listed paths, load and are all there;
the file's bytes, read once, are those of the manifest; the runtime's own look at the header. Only then are these bytes
deserialized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeir.bundle import Bundle
from edgeir.errors import MissingDependency
from edgeir.runtime.engine_choice import ChosenEngine, Ends, choose_engine, rebuild_command, target_missing
from edgeir.runtime.engine_runtimes import EngineRuntime, load_runtime
from edgeir.runtime.gpu_device import Gpu, OutOfDeviceMemory
from edgeir.runtime.plugin_libraries import PluginLibraries, check_paths

_NO_MEMORY = ("out of memory", "outofmemory", "cudaerrormemoryallocation", "insufficient_gpu_memory")


class LoadedEngine:
    """A deserialized engine and all that has to live as long as it does.

    Attributes:
        runtime: which runtime it is.
        trt: its module.
        engine: the engine itself, ``None`` after `close`.
        chosen: what the manifest says of it.
        digest: sha256 of its bytes.
    """

    def __init__(
        self,
        runtime: EngineRuntime,
        trt: Any,
        chosen: ChosenEngine,
        digest: str,
        parts: tuple[Any, Any, Any, PluginLibraries],
    ) -> None:
        self.runtime = runtime
        self.trt = trt
        self.chosen = chosen
        self.digest = digest
        self.engine, self._runtime, self._logger, self._libraries = parts

    @property
    def version(self) -> str:
        """Of the runtime."""
        return str(self.trt.__version__)

    def listen(self) -> None:
        """Forget what the runtime said so far: the next `failure` is of the next call, and not of an old one."""
        self._logger.errors.clear()

    def failure(self, what: str) -> MissingDependency:
        """The error for a call that the runtime refused, with the last thing it said since `listen`."""
        return _failure(what, self.chosen.path, self._logger)

    def close(self) -> None:
        """Let the engine go, then its runtime, then the plugins. Every context must be gone."""
        if self.engine is not None:
            self.engine = None
            self._runtime = None
            self._logger = None
            self._libraries.close()


def load_engine(
    bundle: Bundle,
    runtime: EngineRuntime,
    gpu: Gpu,
    *,
    plugins: Sequence[Path] = (),
    ends: Ends = "floats",
    frames: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> LoadedEngine:
    """Check everything, then deserialize.

    Args:
        bundle: an opened bundle.
        runtime: which runtime.
        gpu: opened.
        plugins: libraries the user listed.
        ends, frames: see `edgeir.runtime.engine_choice.choose_engine`.
        say: told what the user should know and no error is.

    Raises:
        BundleError: there is no engine for this runtime, or none for pictures where ``frames`` is off; or its bytes are
            not the manifest's.
        MissingDependency: see the module.
        UsageError: a path of a plugin library is refused.
        OutOfDeviceMemory: the weights do not fit.
    """
    check_paths(plugins, runtime)
    trt = load_runtime(runtime)
    version, architecture = str(trt.__version__), gpu.architecture
    chosen = choose_engine(
        bundle,
        runtime,
        version=version,
        architecture=architecture,
        ends=ends,
        plugins=bool(plugins),
        frames=frames,
        fix=target_missing(trt, runtime, architecture),
    )
    if plugins and not chosen.needs_plugins:
        say(f"{chosen.path} was built without plugins, and none fits that was built with them: they go unused.")
    logger = _logger(trt)
    libraries = PluginLibraries(trt, plugins)
    try:
        if chosen.needs_plugins:
            libraries.require_ours(chosen.path)
        data = bundle.read(chosen.path)
        digest = next(artifact.sha256 for artifact in bundle.manifest.artifacts if artifact.path == chosen.path)
        trt_runtime = trt.Runtime(logger)
        trt_runtime.engine_host_code_allowed = False  # as it is; nothing may have turned it on
        _look_at_header(trt, trt_runtime, data, chosen.path, rebuild_command(bundle.path, runtime), say)
        logger.errors.clear()
        engine = trt_runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise _failure(f"{runtime.title} {version} refuses the engine", chosen.path, logger)
    except BaseException:
        libraries.close()
        raise
    return LoadedEngine(runtime, trt, chosen, digest, (engine, trt_runtime, logger, libraries))


def _look_at_header(trt: Any, trt_runtime: Any, data: bytes, where: str, fix: str, say: Callable[[str], None]) -> None:
    """What the runtime itself thinks of the header, where it can say so (TensorRT-RTX); the rest is not looked at."""
    if not hasattr(trt_runtime, "get_engine_validity"):
        return
    validity, diagnostics = trt_runtime.get_engine_validity(data[: trt_runtime.engine_header_size])
    named = trt.EngineInvalidityDiagnostics
    reasons = [name for name, kind in named.__members__.items() if int(diagnostics) & int(kind)]
    if validity == trt.EngineValidity.INVALID and reasons == [named.INSUFFICIENT_GPU_MEMORY.name]:
        raise OutOfDeviceMemory("the GPU has not enough memory left for the engine", where=where)
    if validity == trt.EngineValidity.INVALID:
        got = ", ".join(reasons).lower() or "no reason"
        raise MissingDependency("the runtime calls the engine invalid here", where=where, got=got, fix=fix)
    if validity == trt.EngineValidity.SUBOPTIMAL:
        say(f"{where}: the runtime calls the engine slower than it could be here. {fix}")


def _failure(what: str, where: str, logger: Any) -> MissingDependency:
    said = logger.errors[-1] if logger.errors else None
    if any(word in text.lower() for text in logger.errors for word in _NO_MEMORY):
        logger.errors.clear()
        return OutOfDeviceMemory("the GPU has not enough memory left", where=where, got=said)
    logger.errors.clear()
    return MissingDependency(what, where=where, got=said)


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps errors, for the sentence that a failure becomes; nothing goes to the terminal."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors = [*self.errors[-9:], " ".join(message.split())]

    return Logger()
