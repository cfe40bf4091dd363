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

T is float16 or float32, the same for all T of one node (launchers of attention take bfloat16 too); bool is one byte.
"""

TAIL = """
## What has run

Bodies: ONNX Runtime on a CPU, and TensorRT-RTX builds engines of them. Kernels: on no GPU yet. They compile with nvcc
13 for sm_80, 87, 89, 90, 110 and 120 without warnings and without spills (`tests/ops/cuda/test_compilation.py`), and
their own source runs in an emulator of CUDA blocks (`tests/ops/cuda/emulator.hpp`), where it gives what the twins give,
whatever the order of threads. That says nothing about speed, caches, or what a GPU does with memory that others write
at the same time. The TensorRT adaptors and `edgeir plugins` are not written yet, and no graph uses the kernels.

## How to add an op

1. State it in `table.py`. Its name carries the prefix and means one body for good: a changed meaning is a new name.
2. Write the twin in `reference.py`, with the shape comments of the table, in the type of its inputs.
3. Write the body in `functions.py`, of operators that TensorRT has; sizes come from inputs.
   `tests/ops/test_bodies.py` holds it against the twin in float32 and float16.
4. Name the torch side in `edgeir/models/fused.py`: a network calls it, and tracing writes the node.
5. Write the kernel as a `.cuh` that includes `device.cuh` or `rows.cuh` and nothing else, its launcher beside it, and a
   test in `tests/ops/cuda` that holds it against the twin: every size class, odd sizes, any order of threads.
6. Run `python tools/ops_readme.py`.
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
