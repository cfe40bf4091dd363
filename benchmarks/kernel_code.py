"""What the compiler makes of the CUDA kernels: registers, warps on an SM, instructions of their loops; needs no GPU.

    python -m benchmarks.kernel_code --out benchmarks/results/kernel-code.json
    python -m benchmarks.kernel_code --before OTHER_CHECKOUT

Needs nvcc, and nvdisasm of the CUDA toolkit or of `pip install nvidia-cuda-nvdisasm` (13.0 to 13.5 were tried). This is
no measurement of time: it says how much a kernel issues, not how long it waits. A product loop of attention turns once
for 64 keys, that of the key graph once for 16 channels, and the other one of the key graph once for a bit, at most 32.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.result_files import write_result
from edgeir.ops import table, toolchain
from edgeir.ops.tensorrt.ahead import AHEAD, Baked, macros

ROOT = Path(__file__).parents[1]
ARCHITECTURES = ("87", "89", "90", "120")
REGISTERS, PIECE = 65536, 256  # of an SM, and what a warp gets them in
# Shared memory of an SM in bytes, and its warps: CUDA C++ Programming Guide, compute capabilities.
SHARED = {"80": 167936, "87": 167936, "89": 102400, "90": 233472, "110": 233472, "120": 102400}
WARPS = {"80": 64, "87": 48, "89": 48, "90": 64, "110": 48, "120": 48}
KINDS = ("HMMA", "MUFU", "LDG", "LDS", "LDSM", "STS", "BAR")


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel at the sizes of a network.

    Attributes:
        name: op and network.
        baked: what is compiled in.
        numbers: of one lane in one turn of its loops: logits, or similarities.
    """

    name: str
    baked: Baked
    numbers: int


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop of the machine code.

    Attributes:
        instructions: from its label to the branch back, loops in it counted once.
        kinds: how often it has each of `KINDS`.
        inner: lengths of the loops in it, which may turn more than once.
    """

    instructions: int
    kinds: dict[str, int]
    inner: list[int]


ATTENTION, GRAPH = table.KEY_GRAPH_ATTENTION.name, table.KEY_GRAPH.name
KERNELS = (
    Kernel("attention, KGT-S", Baked(ATTENTION, "float16", (("HEADS", 6), ("N", 1024), ("D", 30))), 32),
    Kernel("attention, kgt-tiny", Baked(ATTENTION, "float16", (("HEADS", 2), ("N", 256), ("D", 16))), 32),
    Kernel("key graph, KGT-S", Baked(GRAPH, "float16", (("N", 1024), ("C", 180), ("K", 512))), 64),
)


def nvdisasm() -> str:
    """The disassembler: of the toolkit, else of the package.

    Raises:
        SystemExit: neither is here.
    """
    spec = find_spec("nvidia")
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    found = [path for folder in folders for path in folder.glob("*/bin/nvdisasm")]
    beside = toolchain.find("nvcc").with_name("nvdisasm")
    if beside.is_file():
        return str(beside)
    if not found:
        raise SystemExit("nvdisasm is not here: pip install nvidia-cuda-nvdisasm")
    return str(found[0])


def compiled(kernel: Kernel, root: Path, architecture: str, folder: Path) -> tuple[int, str]:
    """Registers of a thread, and the machine code."""
    made = folder / "kernel.cubin"
    said = subprocess.run(
        [
            *(str(toolchain.find("nvcc")), "-cubin", "-std=c++17", "-O3", f"-arch=sm_{architecture}", "-Xptxas", "-v"),
            *(f"-D{name}={text}" for name, text in macros(kernel.baked).items()),
            *(f"-I{root / 'edgeir' / 'ops' / 'cuda'}", "-o", str(made)),
            str(root / "edgeir" / "ops" / "tensorrt" / AHEAD[kernel.baked.op].source),
        ],
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    registers = re.search(r"Used (\d+) registers", said)
    assert registers is not None, said
    code = subprocess.run([nvdisasm(), "-c", str(made)], capture_output=True, text=True, check=True).stdout
    return int(registers[1]), code


def loops(code: str) -> Iterator[Loop]:
    """Loops with products or barriers that have no such loop in them: where the time goes; in the order of the code."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in code.splitlines():
        if label := re.match(r"\s*(\.L_x_\w+):", line):
            labels[label[1]] = len(instructions)
        elif found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            instructions.append(re.sub(r"^@!?U?P\w+ ", "", found[1]))
    backward = [
        (labels[target[1]], place)
        for place, text in enumerate(instructions)
        if (target := re.match(r"BRA.*`\((\.L_x_\w+)\)", text)) and labels.get(target[1], place) < place
    ]

    def kinds(first: int, last: int) -> Counter[str]:
        return Counter(text.split()[0].split(".")[0] for text in instructions[first : last + 1])

    busy = [(first, last) for first, last in backward if kinds(first, last).keys() & {"HMMA", "BAR"}]
    for first, last in busy:
        inside = [
            (low, high) for low, high in backward if (low, high) != (first, last) and first <= low and high <= last
        ]
        if any(pair in busy for pair in inside):
            continue
        count = kinds(first, last)
        yield Loop(
            last + 1 - first,
            {kind: count[kind] for kind in KINDS if count[kind]},
            [high + 1 - low for low, high in inside],
        )


def launch(kernel: Kernel, root: Path, folder: Path) -> tuple[int, int]:
    """Threads of a block and its shared memory, as the source states them."""
    header = folder / "launch.cu"
    sizes = dict(kernel.baked.sizes)
    call = (
        f"key_graph_launch({sizes['N']}, {sizes['C']})"
        if kernel.baked.op == GRAPH
        else f"attention_launch<edgeir::float16>({sizes['HEADS']}, {sizes['N']}, {sizes['D']})"
    )
    source = Path(AHEAD[kernel.baked.op].source).stem.removeprefix("ahead_")
    header.write_text(
        f'#include <cstdio>\n#include "{source}.cuh"\n'
        f"int main() {{ const edgeir::Launch l = edgeir::{call}; "
        'std::printf("%d %d", l.threads, l.shared_bytes); }\n'
    )
    program = folder / "launch"
    include = f"-I{root / 'edgeir' / 'ops' / 'cuda'}"
    subprocess.run([str(toolchain.find("nvcc")), "-std=c++17", include, str(header), "-o", str(program)], check=True)
    threads, shared = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.split()
    return int(threads), int(shared)


def resident_warps(architecture: str, registers: int, threads: int, shared: int) -> int:
    """Warps that one SM holds at once, by registers, shared memory and its own limit."""
    warps = threads // 32
    per_warp = -(-registers * 32 // PIECE) * PIECE
    blocks = min(REGISTERS // (per_warp * warps), SHARED[architecture] // (shared + 1024), WARPS[architecture] // warps)
    return blocks * warps


def rows(root: Path, architectures: Sequence[str]) -> Iterator[dict[str, object]]:
    """One row per kernel and architecture."""
    for kernel in KERNELS:
        with tempfile.TemporaryDirectory(prefix="edgeir-") as place:
            folder = Path(place)
            threads, shared = launch(kernel, root, folder)
            for architecture in architectures:
                registers, code = compiled(kernel, root, architecture, folder)
                yield {
                    "kernel": kernel.name,
                    "architecture": f"sm{architecture}",
                    "registers": registers,
                    "shared_bytes": shared,
                    "resident_warps": resident_warps(architecture, registers, threads, shared),
                    "numbers": kernel.numbers,
                    "loops": [asdict(loop) for loop in loops(code)],
                }


def main() -> None:
    """Compile, disassemble, count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--architectures", nargs="+", default=ARCHITECTURES, choices=tuple(SHARED))
    parser.add_argument("--before", type=Path, help="another checkout, whose kernels are counted beside these")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    started = time.perf_counter()
    found: dict[str, Any] = {"now": list(rows(ROOT, arguments.architectures))}
    if arguments.before is not None:
        found = {"before": list(rows(arguments.before, arguments.architectures)), **found}
    print("| | kernel | | registers | warps | numbers of a lane | loops: instructions |")
    print("|---|---|---|---:|---:|---:|---|")
    for when, table_rows in found.items():
        for row in table_rows:
            text = "; ".join(
                f"{loop['instructions']} ({', '.join(f'{count} {kind}' for kind, count in loop['kinds'].items())}"
                f"{'; in it ' + ', '.join(map(str, loop['inner'])) if loop['inner'] else ''})"
                for loop in row["loops"]
            )
            cells = (when, row["kernel"], row["architecture"], row["registers"], row["resident_warps"], row["numbers"])
            print("|", " | ".join(map(str, cells)), "|", text, "|")
    version = toolchain.nvcc_version(toolchain.find("nvcc"))
    write_result(arguments.out, {"nvcc": version, **found}, started=started)


if __name__ == "__main__":
    main()
