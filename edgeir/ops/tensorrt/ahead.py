"""Kernels compiled ahead of time: PTX that TensorRT 10.9 and later puts into an engine, which then needs no library.

TensorRT takes one kernel per op, and no workspace: `EdgeirKeyGraph` and `EdgeirKeyGraphAttention` are one kernel each,
`EdgeirGstAttention` is six and stays a matter of the plugin library. Sizes and attributes are compiled in; the number
of windows is not, it is the last axis of the grid.

PTX is made for compute capability 8.0, the lowest one with the tensor-core products of the kernels: a driver compiles
it for every later one. nvcc names the newest PTX version that it knows, which an older driver refuses although nothing
in the text needs it; so the version is lowered to that of CUDA 12.0, and a test has ptxas read it.
"""

from __future__ import annotations

import json
import re
import struct
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeir.errors import BuildFailed, BundleError, UsageError
from edgeir.ops import table, toolchain

FILE_VERSION = 1
ARCHITECTURE = "compute_80"
PTX_VERSION = "8.0"
TYPES = {"float16": "edgeir::float16", "float32": "float"}
MOST_WINDOWS = 65535  # of the last axis of a grid
_LAUNCH = ("grid_x", "grid_y", "threads", "shared_bytes")


@dataclass(frozen=True, slots=True)
class AheadOp:
    """What of a fused op is compiled in.

    Attributes:
        source: file beside this one.
        sizes: macro to (input, axis) of the op's tensors.
        attributes: macro to attribute.
    """

    source: str
    sizes: Mapping[str, tuple[int, int]]
    attributes: Mapping[str, str]


AHEAD: Mapping[str, AheadOp] = {
    table.KEY_GRAPH.name: AheadOp("ahead_key_graph.cu", {"N": (0, 1), "C": (0, 2)}, {"K": "k"}),
    table.KEY_GRAPH_ATTENTION.name: AheadOp(
        "ahead_key_graph_attention.cu", {"HEADS": (0, 1), "N": (0, 2), "D": (0, 3)}, {}
    ),
}


@dataclass(frozen=True, slots=True)
class Baked:
    """One fused op with what is compiled in.

    Attributes:
        op: its type.
        dtype: ``"float16"`` or ``"float32"``, of T.
        sizes: macro to number: sizes, then attributes.
    """

    op: str
    dtype: str
    sizes: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        """Of the kernel: ``"edgeir_keygraph_n256_c48_k64_float16"``."""
        sizes = "_".join(f"{macro.lower()}{number}" for macro, number in self.sizes)
        return f"{self.op.lower().replace('edgeir', 'edgeir_', 1)}_{sizes}_{self.dtype}"


@dataclass(frozen=True, slots=True)
class AheadKernel:
    """A compiled kernel and how it is launched: a grid of ``(grid_x, grid_y, windows)`` blocks.

    Attributes:
        of: what it computes.
        grid_x, grid_y: blocks.
        threads: of a block.
        shared_bytes: dynamic shared memory of a block.
        ptx: the text, one entry called ``of.name``; parameters are the addresses of inputs, then of the output.
    """

    of: Baked
    grid_x: int
    grid_y: int
    threads: int
    shared_bytes: int
    ptx: str


def baked(op: str, shapes: Iterable[Iterable[int | None]], attributes: Mapping[str, int], dtype: str) -> Baked:
    """What is compiled in for one node.

    Args:
        op: type of the node.
        shapes: of its inputs; ``None`` for an axis that is not fixed.
        attributes: of the node.
        dtype: of T.

    Raises:
        UsageError: the op has no such kernel, an axis that must be fixed is not, the type is another one, or there are
            more windows than a grid has blocks.
    """
    if op not in AHEAD:
        raise UsageError(
            f"'{op}' is more than one kernel: only the plugin library has it", where="kernels ahead of time"
        )
    if dtype not in TYPES:
        raise UsageError(
            f"there is no {op} ahead of time in {dtype}", where="kernels ahead of time", expected=" or ".join(TYPES)
        )
    given = [list(shape) for shape in shapes]
    windows = given[0][0] if given and given[0] else None
    if windows is not None and windows > MOST_WINDOWS:
        raise UsageError(
            f"there is no {op} ahead of time for so many windows",
            where="kernels ahead of time",
            expected=f"at most {MOST_WINDOWS}",
            got=str(windows),
            fix="Restore the picture in tiles, or let TensorRT take the ONNX body.",
        )
    numbers: list[tuple[str, int]] = []
    for macro, (tensor, axis) in AHEAD[op].sizes.items():
        size = given[tensor][axis]
        if size is None:
            raise UsageError(
                f"axis {axis} of input {tensor} of {op} is not fixed",
                where="kernels ahead of time",
                fix="Export without --dynamic, or use the plugin library.",
            )
        numbers.append((macro, size))
    numbers.extend((macro, attributes[name]) for macro, name in AHEAD[op].attributes.items())
    return Baked(op, dtype, tuple(numbers))


def macros(of: Baked) -> dict[str, str]:
    """What the source is compiled with, name to text."""
    return {
        "EDGEIR_NAME": of.name,
        "EDGEIR_LAUNCH_NAME": f"{of.name}_launch",
        "EDGEIR_T": TYPES[of.dtype],
        **{f"EDGEIR_{macro}": str(number) for macro, number in of.sizes},
    }


def source(of: Baked) -> Path:
    """The file to compile."""
    return Path(__file__).parent / AHEAD[of.op].source


def compile_ahead(of: Baked) -> AheadKernel:
    """Compile one kernel to PTX; no GPU is needed.

    Raises:
        MissingDependency: nvcc is not here.
        BuildFailed: it refused.
    """
    nvcc = toolchain.find("nvcc")
    with tempfile.TemporaryDirectory(prefix="edgeir-") as folder:
        written = Path(folder) / "kernel.ptx"
        toolchain.run(
            [
                str(nvcc),
                *("-ptx", "-std=c++17", "-O3", f"-arch={ARCHITECTURE}", f"-I{toolchain.CUDA_SOURCES}"),
                *(f"-D{name}={text}" for name, text in macros(of).items()),
                *(str(source(of)), "-o", str(written)),
            ],
            what=of.name,
        )
        text = written.read_text(encoding="utf-8")
    return AheadKernel(of, **_launch_of(text, of.name), ptx=_stripped(text))


def _launch_of(ptx: str, name: str) -> dict[str, int]:
    """The launch that the source states as a constant, read off the PTX, which leaves zeros at the end away."""
    found = re.search(rf"\.b8 {name}_launch\[16\] = \{{([^}}]*)\}}", ptx)
    if found is None:
        raise BuildFailed("this nvcc writes constants in another form", where=name, fix="Report it, with its version.")
    content = bytes(int(number) for number in found.group(1).split(",")).ljust(16, b"\0")
    return dict(zip(_LAUNCH, struct.unpack("<4i", content), strict=True))


def _stripped(ptx: str) -> str:
    """Without comments, empty lines and the constant of the launch; of an older PTX version."""
    lines = [line for line in ptx.splitlines() if line.strip() and not line.lstrip().startswith("//")]
    kept = [line for line in lines if "_launch[" not in line]
    return re.sub(r"(?m)^\.version .*$", f".version {PTX_VERSION}", "\n".join(kept)) + "\n"


def to_json(kernels: Iterable[AheadKernel]) -> str:
    """The content of ``kernels.json``."""
    rows = [{**asdict(kernel), "of": {**asdict(kernel.of), "sizes": dict(kernel.of.sizes)}} for kernel in kernels]
    return json.dumps({"version": FILE_VERSION, "architecture": ARCHITECTURE, "kernels": rows}, indent=1) + "\n"


def from_json(text: str | bytes, *, where: str) -> tuple[AheadKernel, ...]:
    """What `to_json` wrote.

    Raises:
        BundleError: it is no such file, or one of another version.
    """
    try:
        data = json.loads(text)
        if data["version"] != FILE_VERSION:
            raise BundleError(
                "has another version of the format", where=where, expected=str(FILE_VERSION), got=str(data["version"])
            )
        return tuple(
            AheadKernel(
                Baked(row["of"]["op"], row["of"]["dtype"], tuple(row["of"]["sizes"].items())),
                **{name: int(row[name]) for name in _LAUNCH},
                ptx=str(row["ptx"]),
            )
            for row in data["kernels"]
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError("is not a file of kernels", where=where, got=f"{type(error).__name__}: {error}") from error
