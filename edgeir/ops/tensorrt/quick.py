"""The fused ops as quickly deployable plugins of TensorRT 10.9 and later: Python at build time, PTX in the engine.

What TensorRT wants to know of an op comes from `edgeir.ops.table`, the kernels from `edgeir.ops.tensorrt.ahead`; there
is no arithmetic here. TensorRT reads Python signatures, so each function is given the one that the table describes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from types import GenericAlias
from typing import Any

from edgeir.errors import MissingDependency
from edgeir.ops import table
from edgeir.ops.tensorrt.ahead import AheadKernel, Baked, baked

OLDEST = (10, 9)
_NAMES = {"FLOAT": "float32", "HALF": "float16"}
_TUNED = {"float16": "FP16", "float32": "FP32"}


def is_supported() -> bool:
    """Whether the TensorRT that is installed takes kernels ahead of time: 10.9 and later."""
    try:
        _tensorrt()
    except MissingDependency:
        return False
    return True


def register(kernels: Iterable[AheadKernel]) -> tuple[str, ...]:
    """Make TensorRT's parser take these kernels for the ops that they are of, in this process.

    Args:
        kernels: compiled ones, of a bundle's ``kernels.json``.

    Returns:
        The ids that were registered, such as ``"edgeir::EdgeirKeyGraph"``.

    Raises:
        MissingDependency: TensorRT is not installed, or is older than 10.9.
    """
    trt, plugin = _tensorrt()
    known = {kernel.of: kernel for kernel in kernels}
    registered = []
    for op in table.FUSED_OPS:
        if any(of.op == op.name for of in known):
            _register(op, known, trt, plugin)
            registered.append(op.qualified_name)
    return tuple(registered)


def _tensorrt() -> tuple[Any, Any]:
    try:
        import tensorrt as trt
    except ImportError as error:
        raise MissingDependency(
            "TensorRT is not installed",
            where="plugins",
            got=str(error),
            fix="JetPack brings it, or NVIDIA's own index.",
        ) from error
    version = tuple(int(part) for part in str(trt.__version__).split(".")[:2])
    if version < OLDEST:
        raise MissingDependency(
            "this TensorRT takes no kernels ahead of time",
            where="plugins",
            expected="10.9 or later",
            got=str(trt.__version__),
            fix="Build the plugin library instead: edgeir plugins build.",
        )
    import tensorrt.plugin

    return trt, tensorrt.plugin


def _register(op: table.FusedOp, known: dict[Baked, AheadKernel], trt: Any, plugin: Any) -> None:
    """Say shapes, types and kernel of one op."""
    tensors = [(field.name, plugin.TensorDesc) for field in op.inputs]
    attributes = [(attribute.name, int) for attribute in op.attributes]
    outputs = [("outputs", GenericAlias(tuple, (plugin.TensorDesc,)))]

    def describe(*given: Any) -> Any:
        output = given[0].like()
        axes = [field.axes for field in op.inputs]
        for axis, letter in enumerate(op.outputs[0].axes):
            tensor = next(index for index, letters in enumerate(axes) if letter in letters)
            output.shape_expr[axis] = given[tensor].shape_expr[axes[tensor].index(letter)]
        if op.outputs[0].dtype == "bool":
            output.dtype = trt.bool
        return output

    def autotune(*_: Any) -> Any:
        types = [*op.inputs, *op.outputs]
        wanted = sorted({of.dtype for of in known if of.op == op.name})
        letters = {"T": "|".join(_TUNED[name] for name in wanted), "bool": "BOOL"}
        return [plugin.AutoTuneCombination(", ".join(letters[field.dtype] for field in types), "LINEAR")]

    def kernel(*given: Any) -> Any:
        inputs = given[: len(op.inputs)]
        values = given[len(op.inputs) : len(op.inputs) + len(op.attributes)]
        shapes = [[_constant(size) for size in tensor.shape_expr] for tensor in inputs]
        named = {attribute.name: int(value) for attribute, value in zip(op.attributes, values, strict=True)}
        dtype = _NAMES.get(inputs[0].dtype.name, inputs[0].dtype.name.lower())
        of = baked(op.name, shapes, named, dtype)
        if of not in known:
            raise MissingDependency(
                f"the bundle has no kernel '{of.name}'",
                where="kernels.json",
                expected=", ".join(sorted(other.name for other in known)),
                fix="Export again, with nvcc on that machine.",
            )
        made = known[of]
        launch = plugin.KernelLaunchParams()
        launch.grid_x, launch.grid_y, launch.grid_z = made.grid_x, made.grid_y, inputs[0].shape_expr[0]
        launch.block_x, launch.shared_mem = made.threads, made.shared_bytes
        return of.name, made.ptx, launch, plugin.SymIntExprs(0)

    name = op.qualified_name
    plugin.register(name)(_signed(describe, [*tensors, *attributes], plugin.TensorDesc))
    combinations = GenericAlias(list, (plugin.AutoTuneCombination,))
    plugin.autotune(name)(_signed(autotune, [*tensors, *attributes, *outputs], combinations))
    compiled = GenericAlias(tuple, (str, str, plugin.KernelLaunchParams, plugin.SymIntExprs))
    plugin.aot_impl(name)(_signed(kernel, [*tensors, *attributes, *outputs, ("tactic", int)], compiled))


def _constant(size: Any) -> int | None:
    """An axis's size where the builder knows it."""
    return int(size.constant_value()) if size.is_constant else None


def _signed(function: Callable[..., Any], parameters: list[tuple[str, Any]], returns: Any) -> Callable[..., Any]:
    """The function with a signature for TensorRT to read."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    listed = [inspect.Parameter(name, kind, annotation=annotation) for name, annotation in parameters]
    function.__signature__ = inspect.Signature(listed, return_annotation=returns)  # type: ignore[attr-defined]
    return function
