"""What goes into an engine and comes out: names, types, layouts and sizes, as the engine itself states them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgeir.errors import BundleError, UsageError
from edgeir.imaging.byte_formats import MEAN_NAME
from edgeir.spec import INPUT_NAME, OUTPUT_NAME, STATISTICS_INPUT, STATISTICS_OUTPUT, USE_STATISTICS_INPUT

Shape = tuple[int, ...]

_DTYPES: Mapping[str, DTypeLike] = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "BOOL": np.bool_}
# What may go in and come out besides, and its type: means of pictures as bytes, and of tiles that know their picture.
_MORE_IN: Mapping[str, DTypeLike] = {STATISTICS_INPUT: np.float32, USE_STATISTICS_INPUT: np.bool_}
_MORE_OUT: Mapping[str, DTypeLike] = {MEAN_NAME: np.float32, STATISTICS_OUTPUT: np.float32}


@dataclass(frozen=True, slots=True)
class EngineTensors:
    """The ends of an engine of edgeir's.

    Attributes:
        input_dtype, output_dtype: of `edgeir.spec.INPUT_NAME` and `OUTPUT_NAME`.
        minimum, maximum: shapes the input may have; equal for a static engine.
        more_in: further inputs, of fixed shape: (name, type, shape).
        more_out: names and types of further outputs.
    """

    input_dtype: np.dtype[Any]
    output_dtype: np.dtype[Any]
    minimum: Shape
    maximum: Shape
    more_in: tuple[tuple[str, np.dtype[Any], Shape], ...] = ()
    more_out: tuple[tuple[str, np.dtype[Any]], ...] = ()

    @property
    def takes_bytes(self) -> bool:
        """Whether pictures go in and come out as bytes, ``(N, H, W, 3) uint8``, and not as floats."""
        return self.input_dtype == np.uint8

    @property
    def outputs(self) -> tuple[tuple[str, np.dtype[Any]], ...]:
        """Names and types of what comes out."""
        return ((OUTPUT_NAME, self.output_dtype), *self.more_out)

    def with_defaults(self, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """``values`` with zeros for further inputs that are not given: a tile then takes its own statistics.

        Raises:
            UsageError: an input that the engine does not have, or of another shape.
        """
        known = {INPUT_NAME, *(name for name, _, _ in self.more_in)}
        if unknown := sorted(values.keys() - known):
            raise UsageError(f"the engine has no input '{unknown[0]}'", expected=", ".join(sorted(known)))
        whole = {name: np.zeros(shape, dtype) for name, dtype, shape in self.more_in} | dict(values)
        for name, _, shape in self.more_in:
            if whole[name].shape != shape:
                raise UsageError(
                    f"the input '{name}' has another shape", expected=str(shape), got=str(whole[name].shape)
                )
        self.require_shape(tuple(whole[INPUT_NAME].shape))
        return whole

    def require_shape(self, shape: Shape) -> None:
        """Raise ``UsageError`` unless the engine takes an input of this shape."""
        fits = len(shape) == len(self.minimum) and all(
            low <= side <= high for low, side, high in zip(self.minimum, shape, self.maximum, strict=True)
        )
        if not fits:
            low, high = ("x".join(map(str, sides)) for sides in (self.minimum, self.maximum))
            raise UsageError(
                "the engine does not take a batch of this shape",
                expected=low if low == high else f"{low} to {high}",
                got="x".join(map(str, shape)),
            )


def read_tensors(trt: Any, engine: Any, *, where: str) -> EngineTensors:
    """The ends of an engine.

    Raises:
        BundleError: they are not those of a network that edgeir exported; ``where`` names the file.
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    outputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
    strange = (set(inputs) - _MORE_IN.keys()) ^ {INPUT_NAME} or (set(outputs) - _MORE_OUT.keys()) ^ {OUTPUT_NAME}
    if strange:
        raise _other(where, f"{INPUT_NAME} in, {OUTPUT_NAME} out", f"{', '.join(inputs)} in, {', '.join(outputs)} out")
    dtypes = {name: _dtype(trt, engine, name, where) for name in names}
    for name, dtype in {**_MORE_IN, **_MORE_OUT}.items():
        if dtypes.get(name, dtype) != dtype:
            raise _other(where, f"{name} in {np.dtype(dtype)}", str(dtypes[name]))
    if np.bool_ in (dtypes[INPUT_NAME], dtypes[OUTPUT_NAME]):
        raise _other(where, "pictures in float32, float16 or uint8", "bool")
    if (dtypes[INPUT_NAME] == np.uint8) != (dtypes[OUTPUT_NAME] == np.uint8):
        raise _other(where, "bytes at both ends or at none", f"{dtypes[INPUT_NAME]} in, {dtypes[OUTPUT_NAME]} out")
    for name in names:
        # Formats other than rows after rows would need every copy to know them; edgeir builds none.
        if engine.get_tensor_format(name) != trt.TensorFormat.LINEAR:
            raise _other(where, f"{name} in linear layout", str(engine.get_tensor_format(name)))
    shape = tuple(engine.get_tensor_shape(INPUT_NAME))
    if -1 in shape:
        low, _, high = (tuple(sides) for sides in engine.get_tensor_profile_shape(INPUT_NAME, 0))
    else:
        low = high = shape
    if len(shape) != 4:
        raise _other(where, "a batch of pictures", f"{INPUT_NAME} of {len(shape)} sides")
    more = {name: tuple(engine.get_tensor_shape(name)) for name in inputs if name != INPUT_NAME}
    if dynamic := [name for name, sides in more.items() if -1 in sides]:
        raise _other(where, f"{dynamic[0]} of a fixed shape", str(more[dynamic[0]]))
    return EngineTensors(
        dtypes[INPUT_NAME],
        dtypes[OUTPUT_NAME],
        low,
        high,
        tuple((name, dtypes[name], sides) for name, sides in more.items()),
        tuple((name, dtypes[name]) for name in outputs if name != OUTPUT_NAME),
    )


def _dtype(trt: Any, engine: Any, name: str, where: str) -> np.dtype[Any]:
    kind = engine.get_tensor_dtype(name)
    known = {getattr(trt.DataType, word): dtype for word, dtype in _DTYPES.items()}
    if kind not in known:
        raise _other(where, f"{name} in float32, float16, uint8 or bool", str(kind))
    return np.dtype(known[kind])


def _other(where: str, expected: str, got: str) -> BundleError:
    return BundleError("the engine's ends are not those of edgeir's networks", where=where, expected=expected, got=got)
