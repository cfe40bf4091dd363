"""Write edgeir/ops/README.md: the fused ops as the table states them, and how to add one.

python tools/ops_readme.py
"""

from __future__ import annotations

from pathlib import Path

from edgeir.ops import table

README = Path(__file__).parents[1] / "edgeir" / "ops" / "README.md"

HEAD = f"""# Fused ops, domain `{table.DOMAIN}`, version {table.VERSION}

Written by `python tools/ops_readme.py` from `table.py`; a test compares.

| where | what |
|---|---|
| `table.py` | names, inputs, outputs, attributes: stated once |
| `reference.py` | the readable NumPy twin of each op: what it means |
| `functions.py` | the ONNX body of each op, for runtimes that know no plugin |
| `cuda/*.cuh` | kernels on raw pointers; `device.cuh` is all they know of the machine |
| `cuda/*.cu`, `cuda/launchers.h` | their launchers, C ABI, no arithmetic |
| `tensorrt/ahead.py`, `tensorrt/ahead_*.cu` | one kernel with its sizes compiled in, as PTX; needs nvcc, no GPU |
| `tensorrt/quick.py` | that PTX as a quickly deployable plugin of TensorRT 10.9 and later |
| `tensorrt/plugins.cpp`, `tensorrt/CMakeLists.txt` | all ops as `IPluginV3`, TensorRT 10.0 to 11.x |
| `tensorrt/library.py`, `toolchain.py` | that library, built where it is used, keyed by all that makes it |
| `tensorrt/checking.py` | a library's kernels against the twins, on a GPU |

T is float16 or float32, the same for all T of one node (launchers of attention take bfloat16 too); bool is one byte.
"""

TAIL = """
## Two ways into TensorRT

| | ahead of time | library |
|---|---|---|
| TensorRT | 10.9 and later, through its Python package | 10.0 and later |
| ops | `EdgeirKeyGraph`, `EdgeirKeyGraphAttention` | all |
| made by | `edgeir export`, where nvcc is: `kernels.json` in the bundle | `edgeir plugins build`, on the device |
| sizes | compiled in, but for the number of windows | any |
| an engine needs | nothing: the kernel is in it | the library, `--dynamicPlugins` of trtexec |

TensorRT takes one kernel per op ahead of time and no workspace; `EdgeirGstAttention` is six kernels with one. PTX is
for compute capability 8.0 and PTX 8.0 (CUDA 12.0), so that a driver compiles it for any later card. TensorRT-RTX has
no plugins and runs the bodies.

`keep` is one byte per pair, in the table and everywhere, because a body that packs bits would write the unpacked form
besides; for KGT-S at 256 pixels that is 64 MiB, once per stage, next to 768 MiB of logits per layer in the masked form.
The kernel of attention allocates nothing: a block of it reads the bytes of its queries once and keeps them as bits, on
the chip, for all of its heads.

## What has run

Bodies: ONNX Runtime on a CPU, and TensorRT-RTX builds engines of them. Kernels: on no GPU yet. They compile with nvcc
13 for sm_80, 87, 89, 90, 110 and 120 without warnings and without spills (`tests/ops/cuda/test_compilation.py`), and
their own source runs in an emulator of CUDA blocks (`tests/ops/cuda/emulator.hpp`), where it gives what the twins give,
whatever the order of threads. That says nothing about speed, caches, or what a GPU does with memory that others write
at the same time. How many instructions the compiler makes of a logit, and how many warps an SM holds, is counted by
`python -m benchmarks.kernel_code` (`benchmarks/results/kernel-code.json`); that is no time either.

PTX: made and read by ptxas for the same architectures, no spills; its source runs in the emulator with TensorRT's
arguments and the launch that it states. What `quick.py` tells TensorRT is held against a stand-in, and was tried on the
Python sources of TensorRT 10.9 and 11.1. The C++ adaptor is compiled against the headers of TensorRT 10.0, 10.3, 10.13
and 11.1 without warnings; a program that needs no TensorRT (`tests/ops/tensorrt/harness.cpp`) finds its creators,
makes, asks, serializes, clones and runs each plugin, on emulated kernels. `edgeir plugins build` made the library with
nvcc and CMake; TensorRT-RTX's parser loaded it and made our plugin from a node's attributes, then ended the process,
since RTX has no plugins (`tests/ops/tensorrt/test_rtx.py`). No TensorRT proper has seen any of this.

Those tests look for TensorRT's headers, which are public and not ours, where packages put them; elsewhere say where:

    EDGEIR_TENSORRT_HEADERS=TRT-10.3/include:TRT-11.1/include make test

On a GPU: `edgeir plugins check` runs a library's kernels against the twins, `python -m benchmarks.gpu` checks and times
them beside what torch offers.

## How to add an op

1. State it in `table.py`. Its name carries the prefix and means one body for good: a changed meaning is a new name.
2. Write the twin in `reference.py`, with the shape comments of the table, in the type of its inputs.
3. Write the body in `functions.py`, of operators that TensorRT has; sizes come from inputs.
   `tests/ops/test_bodies.py` holds it against the twin in float32 and float16.
4. Name the torch side in `edgeir/models/fused.py`: a network calls it, and tracing writes the node.
5. Write the kernel as a `.cuh` that includes `device.cuh` or `rows.cuh` and nothing else, its launcher beside it, and a
   test in `tests/ops/cuda` that holds it against the twin: every size class, odd sizes, any order of threads.
6. Name it in `tensorrt/plugins.cpp` and `tensorrt/checking.py`; if it is one kernel, write its `ahead_*.cu` and a row
   of `AHEAD`.
7. Run `python tools/ops_readme.py`.
"""


def readme() -> str:
    """The text of the file."""
    parts = [HEAD]
    for op in table.FUSED_OPS:
        parts.append(f"\n## {op.name}\n\n{op.doc}\n\n| | name | axes | type |\n|---|---|---|---|\n")
        for kind, fields in (("input", op.inputs), ("output", op.outputs)):
            parts.extend(f"| {kind} | `{one.name}` | {' × '.join(one.axes)} | {one.dtype} |\n" for one in fields)
        parts.extend(f"| attribute | `{one.name}` | {one.doc} | int |\n" for one in op.attributes)
    return "".join([*parts, TAIL])


if __name__ == "__main__":
    README.write_text(readme(), encoding="utf-8")
