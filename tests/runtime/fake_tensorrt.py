"""A stand-in for ``tensorrt_rtx`` and ``tensorrt`` on a `FakeCuda`: real names and signatures, engines in JSON.

An engine computes ``1 - x / 2`` (bytes: ``255 - x // 2``), each pixel repeated ``scale`` times, or gives what its
``behaviour`` says. Every attribute that the product uses is written down, to be looked up in the real module.
"""

from __future__ import annotations

import enum
import importlib.machinery
import inspect
import json
import types
import weakref
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"FAKE"
_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "INT32": np.int32, "BOOL": np.bool_}
_FIXED = {"statistics": (3,), "use_statistics": (1,), "own_statistics": (3,)}  # shapes of what is not a picture


def plan(minimum: tuple[int, ...], maximum: tuple[int, ...] | None = None, **more: Any) -> bytes:
    """An engine file.

    Args:
        minimum, maximum: shapes of the input; equal where one is given.
        more: ``dtype``, ``out_dtype``, ``scale``, ``mean`` (a second output), ``behaviour`` (``"nan"``, ``"nan-once"``,
            ``"flat"``), ``statistics`` (takes and gives three means), ``weights`` and ``scratch`` (bytes; scratch per
            pixel), ``format``, ``input``.
    """
    return MAGIC + json.dumps({"minimum": minimum, "maximum": maximum or minimum, **more}).encode().ljust(64)


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


def make(cuda: Any, name: str, version: str, used: set[tuple[str, str]] | None = None) -> Any:
    """A fake module; ``used`` collects (class, attribute) of everything that is looked up."""
    return _Module(name, cuda, version, set() if used is None else used)


class _Recorded:
    _names: set[tuple[str, str]]
    _real = ""  # the class's name in the real module

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            caller = inspect.currentframe().f_back  # type: ignore[union-attr]
            if caller is not None and Path(caller.f_code.co_filename).name != "fake_tensorrt.py":
                object.__getattribute__(self, "_names").add((type(self)._real, name))
        return object.__getattribute__(self, name)


class _Module(types.ModuleType):
    """The module: also the world that its objects live in."""

    def __init__(self, name: str, cuda: Any, version: str, names: set[tuple[str, str]]) -> None:
        super().__init__(name)
        rtx = name == "tensorrt_rtx"
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.__version__ = version
        self._names = names
        world = World(cuda, names)
        self._world = world
        self.ILogger = type("ILogger", (), {"__init__": lambda self: None, "Severity": Severity})
        self.TensorIOMode = enum.Enum("TensorIOMode", "NONE INPUT OUTPUT")
        self.TensorFormat = enum.Enum("TensorFormat", "LINEAR HWC")
        self.DataType = enum.Enum("DataType", "FLOAT HALF UINT8 INT32 BOOL")
        self.ExecutionContextAllocationStrategy = enum.Enum(
            "ExecutionContextAllocationStrategy", "STATIC ON_PROFILE_CHANGE USER_MANAGED"
        )
        self.get_plugin_registry = lambda: world.registry
        self.Runtime = lambda logger: world.keep((RtxRuntime if rtx else Runtime)(world, self, logger))
        if rtx:
            self.ComputeCapability = enum.Enum("ComputeCapability", "NONE CURRENT SM75 SM80 SM86 SM89 SM120 SM121")
            self.EngineValidity = enum.Enum("EngineValidity", "VALID SUBOPTIMAL INVALID")
            self.EngineInvalidityDiagnostics = enum.IntEnum(
                "EngineInvalidityDiagnostics",
                {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "INSUFFICIENT_GPU_MEMORY": 16},
            )
            self.CudaGraphStrategy = enum.Enum("CudaGraphStrategy", "DISABLED WHOLE_GRAPH_CAPTURE")
            self.DynamicShapesKernelSpecializationStrategy = enum.Enum(
                "DynamicShapesKernelSpecializationStrategy", "LAZY EAGER NONE"
            )

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            object.__getattribute__(self, "_names").add(("", name))
        return object.__getattribute__(self, name)


class World:
    """What the tests look at.

    Attributes:
        deserialized: every plan that was handed to a runtime.
        looked_at: headers that were.
        loaded: libraries of plugins that are loaded.
        refuse: words of an error for the next call of that name.
        compiled: shapes that the runtime cache holds.
    """

    def __init__(self, cuda: Any, names: set[tuple[str, str]]) -> None:
        self.cuda, self.names = cuda, names
        self.deserialized: list[bytes] = []
        self.looked_at: list[bytes] = []
        self.refuse: dict[str, str] = {}
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self.problems: list[str] = []
        self.compiled: list[str] = []
        self.configs: list[Any] = []
        self.cache_environment = "here"
        self.host_code: list[bool] = []
        self.not_capturable = False
        self.registry = PluginRegistry(self)

    def keep(self, thing: Any) -> Any:
        self.alive.add(thing)
        return thing

    def refused(self, call: str, logger: Any) -> bool:
        words = self.refuse.get(call)
        if words is not None and logger is not None:
            logger.log(Severity.ERROR, words)
        return words is not None

    def assert_nothing_left(self) -> None:
        assert not list(self.alive), list(self.alive)
        assert not self.registry._libraries, self.registry._libraries
        assert not self.problems, self.problems
        assert not any(self.host_code)


class PluginRegistry(_Recorded):
    _real = "IPluginRegistry"

    def __init__(self, world: World) -> None:
        self._names = world.names
        self._libraries: dict[int, str] = {}
        self._known: dict[str, set[str]] = {}
        self._opened: list[str] = []

    def load_library(self, plugin_path: str) -> Any:
        self._opened.append(plugin_path)
        words = Path(plugin_path).read_text().split()
        if words[:1] != ["plugins:"]:
            return None
        number = len(self._opened)
        self._libraries[number], self._known[plugin_path] = plugin_path, set(words[1:])
        return number

    def deregister_library(self, handle: Any) -> None:
        del self._known[self._libraries.pop(handle)]

    def get_creator(self, type: str, version: str, plugin_namespace: str = "") -> Any:
        assert (version, plugin_namespace) == ("1", "edgeir")
        return type if any(type in known for known in self._known.values()) else None


class Runtime(_Recorded):
    _real = "Runtime"
    engine_header_size = 64

    def __init__(self, world: World, trt: Any, logger: Any) -> None:
        self._names, self._world, self._trt, self._logger = world.names, world, trt, logger
        self._host_code = False

    @property
    def engine_host_code_allowed(self) -> bool:
        return self._host_code

    @engine_host_code_allowed.setter
    def engine_host_code_allowed(self, value: bool) -> None:
        self._world.host_code.append(value)
        self._host_code = value

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        self._world.deserialized.append(bytes(serialized_engine))
        if self._world.refused("deserialize_cuda_engine", self._logger) or not serialized_engine.startswith(MAGIC):
            return None
        spec = json.loads(serialized_engine[len(MAGIC) :])
        self._world.cuda.weights += spec.get("weights", 0)
        return self._world.keep(Engine(self, spec))


class RtxRuntime(Runtime):
    def get_engine_validity(self, buffer: bytes) -> tuple[Any, int]:
        assert len(buffer) == 64
        self._world.looked_at.append(buffer)
        name, diagnostics = self._world.refuse.get("get_engine_validity", "VALID 0").split()
        return self._trt.EngineValidity[name], int(diagnostics)


class Engine(_Recorded):
    _real = "ICudaEngine"

    def __init__(self, runtime: Runtime, spec: dict[str, Any]) -> None:
        self._runtime, self._spec = runtime, spec
        self._names, self._world, self._trt = runtime._names, runtime._world, runtime._trt
        more = {"mean": ((), ("restored_mean",)), "statistics": (("statistics", "use_statistics"), ("own_statistics",))}
        chosen = [ends for key, ends in more.items() if spec.get(key)]
        self._inputs = [spec.get("input", "image"), *(name for ends in chosen for name in ends[0])]
        self._tensors = [*self._inputs, "restored", *(name for ends in chosen for name in ends[1])]

    def __del__(self) -> None:
        self._world.cuda.weights -= self._spec.get("weights", 0)
        if any(isinstance(thing, Context) and thing._engine is self for thing in self._world.alive):
            self._world.problems.append("the engine goes before its contexts")

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return self._tensors[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self._trt.TensorIOMode.INPUT if name in self._inputs else self._trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        dtype = self._spec.get("dtype", "FLOAT")
        kinds = {"restored": self._spec.get("out_dtype", dtype), "restored_mean": "FLOAT", "use_statistics": "BOOL"}
        kinds |= dict.fromkeys(("statistics", "own_statistics"), "FLOAT")
        return self._trt.DataType[kinds.get(name, dtype)]

    def get_tensor_format(self, name: str) -> Any:
        return self._trt.TensorFormat[self._spec.get("format", "LINEAR")]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in _FIXED:
            return _FIXED[name]
        low, high = self._spec["minimum"], self._spec["maximum"]
        return tuple(a if a == b else -1 for a, b in zip(low, high, strict=True))

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert profile_index == 0
        return [tuple(self._spec["minimum"]), tuple(self._spec["minimum"]), tuple(self._spec["maximum"])]

    def create_runtime_config(self) -> Any:
        config = RuntimeConfig(self._world)
        self._world.configs.append(weakref.proxy(config))
        return config

    def create_execution_context(self, strategy: Any) -> Any:
        rtx = isinstance(strategy, RuntimeConfig)
        managed = strategy._strategy if rtx else strategy
        assert managed is self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._world.refused("create_execution_context", self._runtime._logger):
            return None
        return self._world.keep(RtxContext(self, strategy._cache) if rtx else Context(self, None))


class RuntimeConfig(_Recorded):
    _real = "IRuntimeConfig"
    cuda_graph_strategy: Any = None
    dynamic_shapes_kernel_specialization_strategy: Any = None

    def __init__(self, world: World) -> None:
        self._names, self._world = world.names, world
        self._strategy: Any = None
        self._cache: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self._strategy = strategy

    def create_runtime_cache(self) -> Any:
        return RuntimeCache(self._world)

    def set_runtime_cache(self, cache: Any) -> bool:
        self._cache = cache
        return "set_runtime_cache" not in self._world.refuse


class RuntimeCache(_Recorded):
    _real = "IRuntimeCache"

    def __init__(self, world: World) -> None:
        self._names, self._world = world.names, world
        self._shapes: list[str] = []

    def deserialize(self, blob: bytes) -> bool:
        where, _, shapes = bytes(blob).decode().partition(":")
        if where != self._world.cache_environment:
            return False
        self._shapes = shapes.split()
        return True

    def serialize(self) -> Any:
        return f"{self._world.cache_environment}:{' '.join(self._shapes)}".encode()


class Context(_Recorded):
    _real = "IExecutionContext"

    def __init__(self, engine: Engine, cache: RuntimeCache | None) -> None:
        self._engine, self._spec, self._cache = engine, engine._spec, cache
        self._names, self._world, self._cuda = engine._names, engine._world, engine._world.cuda
        self._shape: tuple[int, ...] | None = None
        self._addresses: dict[str, int] = {}
        self._scratch: tuple[int, int] = (0, 0)
        self._work: list[Any] = []
        self._runs = 0

    def __del__(self) -> None:
        if any(not work.waited_for for work in self._work):
            self._world.problems.append("a context goes under its work")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "image"
        assert all(a <= b <= c for a, b, c in zip(self._spec["minimum"], shape, self._spec["maximum"], strict=True))
        self._shape = tuple(shape)
        return "set_input_shape" not in self._world.refuse

    def infer_shapes(self) -> list[str]:
        return [] if self._shape else ["image"]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert self._shape is not None
        n, *sides = self._shape
        scale = self._spec.get("scale", 1)
        if name in _FIXED or name in ("restored_mean", "image"):
            return _FIXED.get(name, self._shape if name == "image" else (n,))
        spatial = (0, 1) if self._spec.get("dtype") == "UINT8" else (1, 2)
        return (n, *(side * scale if index in spatial else side for index, side in enumerate(sides)))

    def update_device_memory_size_for_shapes(self) -> int:
        assert self._shape is not None
        return int(np.prod(self._shape)) // 3 * int(self._spec.get("scratch", 0))

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0
        self._scratch = (memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self._shape is not None
        stream = self._cuda.streams[stream_handle]
        if self._world.refused("execute_async_v3", self._engine._runtime._logger):
            return False
        if stream.captured is not None and self._cuda.refuse_capture:
            stream.invalidated = True
            return True
        needed = self.update_device_memory_size_for_shapes()
        assert self._scratch[1] >= needed, "less scratch memory than the shapes need"
        shape = "x".join(map(str, self._shape))
        if self._cache is not None and shape not in self._cache._shapes:
            self._cache._shapes.append(shape)
            self._world.compiled.append(shape)
        views, touches = {}, []
        for name in self._engine._tensors:
            kind = self._engine.get_tensor_dtype(name).name
            size = int(np.prod(self.get_tensor_shape(name))) * np.dtype(_NUMPY[kind]).itemsize
            memory = self._cuda.find(self._addresses[name], size, "device")
            views[name] = memory.bytes[:size].view(_NUMPY[kind]).reshape(self.get_tensor_shape(name))
            touches.append((memory, name not in self._engine._inputs))
        scratch = self._cuda.find(self._scratch[0], max(needed, 1), "device")
        touches.append((scratch, True))
        before = len(self._cuda.history)
        self._cuda.queue(stream_handle, "execute", touches, lambda: self._compute(views, scratch), 5.0)
        self._work += self._cuda.history[before:]
        return True

    def _compute(self, views: dict[str, Any], scratch: Any) -> None:
        self._runs += 1
        scratch.bytes[:] = 0xAA
        image, restored = views["image"], views["restored"]
        behaviour = self._spec.get("behaviour", "")
        scale = self._spec.get("scale", 1)
        axes = (1, 2) if image.dtype == np.uint8 else (2, 3)
        result = 255 - image // 2 if image.dtype == np.uint8 else 1 - image.astype(np.float32) / 2
        for axis in axes:
            result = result.repeat(scale, axis)
        if behaviour == "flat":
            result = np.zeros_like(result)
        bad = behaviour == "nan" or (behaviour == "nan-once" and self._runs == 1)
        if bad and image.dtype != np.uint8:
            result[0, 0, 0, 0] = np.nan
        if "statistics" in views:
            views["own_statistics"][...] = image.mean(axis=(0, 2, 3))
            if views["use_statistics"][0]:
                result = result + views["statistics"][:, None, None]
        restored[...] = result
        if "restored_mean" in views:
            views["restored_mean"][...] = np.nan if bad else result.mean(axis=(1, 2, 3))


class RtxContext(Context):
    def is_stream_capturable(self, stream: int) -> bool:
        return not self._world.not_capturable
