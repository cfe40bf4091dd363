"""The ops as quickly deployable plugins: what TensorRT is told, with a stand-in for its Python package.

The stand-in has the classes that the adaptor uses and TensorRT's rules on signatures. The adaptor was also tried on the
Python package of TensorRT 10.9 and 11.1 itself, whose sources are public, on a stand-in for its binary part.
"""

from __future__ import annotations

import enum
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import pytest

from edgeir.errors import MissingDependency, UsageError
from edgeir.ops import table
from edgeir.ops.tensorrt import quick
from edgeir.ops.tensorrt.ahead import AheadKernel, Baked

GRAPH = AheadKernel(Baked(table.KEY_GRAPH.name, "float16", (("N", 64), ("C", 20), ("K", 9))), 4, 1, 256, 512, "PTX 1")
WIDE = replace(GRAPH, of=replace(GRAPH.of, dtype="float32"), ptx="PTX 2")
ATTENTION = AheadKernel(
    Baked(table.KEY_GRAPH_ATTENTION.name, "float16", (("HEADS", 3), ("N", 64), ("D", 10))), 1, 3, 128, 999, "PTX 3"
)


class DataType(enum.Enum):
    """As in TensorRT."""

    FLOAT = 0
    HALF = 1
    BOOL = 4


@dataclass
class Size:
    """One axis; ``None`` where the builder does not know it."""

    value: int | None

    @property
    def is_constant(self) -> bool:
        return self.value is not None

    def constant_value(self) -> int:
        assert self.value is not None
        return self.value


@dataclass
class TensorDesc:
    """Shape expressions and a type."""

    shape_expr: list[Size]
    dtype: DataType

    def like(self) -> TensorDesc:
        return TensorDesc(list(self.shape_expr), self.dtype)


@dataclass
class AutoTuneCombination:
    """Types of all inputs and outputs, and their layouts."""

    types: str
    layouts: str


@dataclass
class KernelLaunchParams:
    """Grid, block and shared memory."""

    grid_x: Any = 1
    grid_y: Any = 1
    grid_z: Any = 1
    block_x: Any = 1
    shared_mem: Any = 0


@dataclass
class SymIntExprs:
    """Further arguments of a kernel."""

    count: int


@dataclass
class Registry:
    """What was registered, by step and id."""

    found: dict[str, dict[str, Callable[..., Any]]] = field(default_factory=dict)

    def step(self, name: str, order: tuple[str, ...]) -> Callable[[str], Callable[..., Any]]:
        def decorator(identifier: str) -> Callable[..., Any]:
            def keep(function: Callable[..., Any]) -> Callable[..., Any]:
                steps = self.found.setdefault(identifier, {})
                assert tuple(steps) == order, "another order"
                steps[name] = function
                return function

            return keep

        return decorator


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    found = Registry()
    tensorrt, plugin = ModuleType("tensorrt"), ModuleType("tensorrt.plugin")
    tensorrt.__version__ = "10.13.3.9"  # type: ignore[attr-defined]
    tensorrt.bool = DataType.BOOL  # type: ignore[attr-defined]
    tensorrt.plugin = plugin  # type: ignore[attr-defined]
    for known in (TensorDesc, AutoTuneCombination, KernelLaunchParams, SymIntExprs):
        setattr(plugin, known.__name__, known)
    plugin.register = found.step("register", ())  # type: ignore[attr-defined]
    plugin.autotune = found.step("autotune", ("register",))  # type: ignore[attr-defined]
    plugin.aot_impl = found.step("aot_impl", ("register", "autotune"))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", plugin)
    return found


def tensors(*shapes: tuple[int | None, ...], dtype: DataType = DataType.HALF) -> list[TensorDesc]:
    return [TensorDesc([Size(size) for size in shape], dtype) for shape in shapes]


def test_only_ops_with_kernels_are_registered(registry: Registry) -> None:
    assert quick.register([GRAPH]) == ("edgeir::EdgeirKeyGraph",)
    assert set(registry.found) == {"edgeir::EdgeirKeyGraph"}


def test_signatures_are_those_that_tensorrt_wants(registry: Registry) -> None:
    """Tensors, then attributes, by name and with types that are classes; then the outputs, then the tactic."""
    quick.register([GRAPH, ATTENTION])
    for op in (table.KEY_GRAPH, table.KEY_GRAPH_ATTENTION):
        steps = registry.found[op.qualified_name]
        names = [one.name for one in (*op.inputs, *op.attributes)]
        signatures = {step: inspect.signature(function) for step, function in steps.items()}
        assert list(signatures["register"].parameters) == names
        assert list(signatures["autotune"].parameters) == [*names, "outputs"]
        assert list(signatures["aot_impl"].parameters) == [*names, "outputs", "tactic"]
        annotations = [one.annotation for one in signatures["register"].parameters.values()]
        assert annotations == [TensorDesc] * len(op.inputs) + [int] * len(op.attributes)
        assert signatures["register"].return_annotation is TensorDesc
        assert signatures["aot_impl"].return_annotation == tuple[str, str, KernelLaunchParams, SymIntExprs]


def test_shapes_and_types(registry: Registry) -> None:
    quick.register([GRAPH, WIDE, ATTENTION])
    graph = registry.found["edgeir::EdgeirKeyGraph"]
    output = graph["register"](*tensors((None, 64, 20)), 9)
    assert ([size.value for size in output.shape_expr], output.dtype) == ([None, 64, 64], DataType.BOOL)
    assert graph["autotune"]() == [AutoTuneCombination("FP16|FP32, BOOL", "LINEAR")]
    attention = registry.found["edgeir::EdgeirKeyGraphAttention"]
    output = attention["register"](*tensors((None, 3, 64, 10)), *tensors((1,), (1,), (1,), (1,), (1,)))
    assert ([size.value for size in output.shape_expr], output.dtype) == ([None, 3, 64, 10], DataType.HALF)
    assert attention["autotune"]() == [AutoTuneCombination("FP16, FP16, FP16, BOOL, FP16, FP16, FP16", "LINEAR")]


def test_the_kernel_of_sizes_and_type(registry: Registry) -> None:
    quick.register([GRAPH, WIDE, ATTENTION])
    kernel = registry.found["edgeir::EdgeirKeyGraph"]["aot_impl"]
    [tokens] = tensors((None, 64, 20))
    name, ptx, launch, extra = kernel(tokens, 9, (None,), 0)
    assert (name, ptx, extra) == (GRAPH.of.name, "PTX 1", SymIntExprs(0))
    assert launch == KernelLaunchParams(4, 1, tokens.shape_expr[0], 256, 512)
    assert kernel(*tensors((2, 64, 20), dtype=DataType.FLOAT), 9, (None,), 0)[1] == "PTX 2"
    rows = tensors((5, 3, 64, 10), (5, 3, 64, 10), (5, 3, 64, 10), (5, 64, 64), (3, 64, 64), (3, 1, 1))
    attention = registry.found["edgeir::EdgeirKeyGraphAttention"]["aot_impl"](*rows, (None,), 0)
    assert attention[2] == KernelLaunchParams(1, 3, Size(5), 128, 999)


def test_sizes_that_the_bundle_has_no_kernel_for(registry: Registry) -> None:
    quick.register([GRAPH])
    kernel = registry.found["edgeir::EdgeirKeyGraph"]["aot_impl"]
    with pytest.raises(MissingDependency, match=r"no kernel 'edgeir_keygraph_n64_c20_k8_float16'.*expected .*_k9_"):
        kernel(*tensors((1, 64, 20)), 8, (None,), 0)
    with pytest.raises(UsageError, match=r"axis 1 of input 0 of EdgeirKeyGraph is not fixed"):
        kernel(*tensors((1, None, 20)), 9, (None,), 0)


def test_a_tensorrt_that_is_too_old_or_missing(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "10.3.0")
    with pytest.raises(MissingDependency, match=r"takes no kernels ahead of time .expected 10.9 or later, got 10.3.0"):
        quick.register([GRAPH])
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependency, match=r"TensorRT is not installed"):
        quick.register([GRAPH])
