r"""The kernels on a GPU: are they right, how fast, and how far from what the card can do?

    python -m benchmarks.gpu --out benchmarks/results
    compute-sanitizer --tool memcheck python -m benchmarks.gpu --only check

Any CUDA machine with torch and nvcc; edgeir need not be installed. Three steps, one table each:

1. build: nvcc for this card, launchers only (no TensorRT).
2. check: the launchers over a grid of sizes and types against the NumPy twins in float64; each way's answer at the
   sizes that are timed against the same formula in float64; FP16 and BF16, twice the same; the kernels compiled ahead
   of time, launched as TensorRT does.
3. measure: every way in turn, in rounds, over more inputs than the cache holds; medians of rounds, by CUDA events.
   The floor is the larger of bytes over the copy bandwidth and operations over the matrix rate, both measured here.

The JSON is ``gpu-NAME.json``, by the name of the card.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_ways import Inputs, Workload, attention_workload, gst_workload, key_graph_workload
from benchmarks.result_files import write_result
from edgeir.ops import toolchain
from edgeir.ops.tensorrt.ahead import AHEAD, Baked, baked, compile_ahead
from edgeir.ops.tensorrt.checking import Case, cases, check, judged
from edgeir.runtime.cuda_driver import CudaDevice, Launch

ROUNDS = 15
LEAST_MS = 3.0
MOST_SETS = 12
# Relative L2 distance: four roundings of 2^-11 or 2^-8 in a row.
ROUNDING = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def build(folder: Path, architecture: str) -> ctypes.CDLL:
    """The launchers, compiled for one compute capability (``"90"``)."""
    nvcc = str(toolchain.find("nvcc"))
    target = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
    flags = ["-std=c++17", "-O3", "-Xcompiler", "-fPIC", target]
    sources = sorted(toolchain.CUDA_SOURCES.glob("*.cu"))

    def compiled(source: Path) -> str:
        made = folder / f"{source.stem}.o"
        toolchain.run([nvcc, *flags, "-c", str(source), "-o", str(made)], what=source.name)
        return str(made)

    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(compiled, sources))
    library = folder / "launchers.so"
    toolchain.run([nvcc, "-shared", target, *objects, "-o", str(library)], what="linking")
    return ctypes.CDLL(str(library))


def workloads(library: ctypes.CDLL, **options: Any) -> Iterator[Workload]:
    """The sizes that are timed; ``options`` as of `attention_workload`."""
    yield attention_workload(library, "KGT-S at 256x256", (64, 6, 1024, 30, 512), **options)
    yield attention_workload(library, "kgt-tiny at 256x256", (256, 2, 256, 16, 64), **options)
    yield key_graph_workload(library, "KGT-S at 256x256", (64, 1024, 180, 512), **options)
    yield key_graph_workload(library, "kgt-tiny at 256x256", (256, 256, 32, 64), **options)
    yield gst_workload(library, "exda-full level 1 at 512x512", (1, 48, 512, 1, 2), **options)
    yield gst_workload(library, "exda-tiny level 1 at 512x512", (1, 24, 512, 1, 2), **options)
    yield gst_workload(library, "exda-tiny level 2 at 512x512", (1, 48, 256, 2, 2), **options)
    yield gst_workload(library, "exda-tiny level 4 at 512x512", (1, 192, 64, 8, 2), **options)


def check_ahead(device: CudaDevice) -> list[dict[str, object]]:
    """PTX of the ops that have it, launched with TensorRT's arguments, on the same cases."""
    rows = []
    for case in cases():
        of = _baked(case)
        if of is None:
            continue
        made, output = compile_ahead(of), case.output
        with device.holding(*case.inputs, output) as addresses:
            launch = Launch((made.grid_x, made.grid_y, case.sizes[0]), made.threads, made.shared_bytes)
            device.launch(device.kernel(made.ptx, of.name), launch, addresses)
            found = device.read(addresses[-1], output)
        rows.append({**judged(case, found).row(), "case": f"PTX {case.name}"})
    return rows


def _baked(case: Case) -> Baked | None:
    if case.op.name not in AHEAD:
        return None
    return baked(case.op.name, [array.shape for array in case.inputs], case.attributes, case.dtype)


def check_launchers(library: ctypes.CDLL, device: CudaDevice) -> list[dict[str, object]]:
    """Every case against its twin."""
    return [check(library, case, device).row() for case in cases()]


def check_types(library: ctypes.CDLL, *, device: str = "cuda", most: int = 1024) -> list[dict[str, object]]:
    """Attention in FP16 and BF16, which has no case of NumPy: against float64, and twice the same to the last bit.

    Args:
        library: the launchers.
        device: where they run.
        most: leave out windows of more tokens, and pictures of more than four times as many positions.
    """
    rows: list[dict[str, object]] = []
    for dtype, at_most in ROUNDING.items():
        options: dict[str, Any] = {"dtype": dtype, "device": device, "compiles": False}
        found = [attention_workload(library, "x".join(map(str, sizes)), sizes, **options)
                 for sizes in ((1, 1, 17, 5, 4), (2, 7, 144, 48, 40), (1, 2, 256, 16, 64), (2, 6, 1024, 30, 512))
                 if sizes[2] <= most]  # fmt: skip
        found += [gst_workload(library, "x".join(map(str, sizes)), sizes, **options)
                  for sizes in ((2, 16, 16, 2, 8), (2, 24, 32, 3, 2), (1, 48, 64, 1, 2), (1, 128, 128, 2, 4))
                  if sizes[2] ** 2 <= 4 * most]  # fmt: skip
        for workload in found:
            inputs, ours = workload.make(0), workload.ways["ours"]
            error = errors(replace(workload, ways={"ours": ours}), inputs)["ours"]
            same = bool((ours(inputs) == ours(inputs)).all())
            name = f"{workload.name} {str(dtype).removeprefix('torch.')}{'' if same else ', not twice the same'}"
            rows.append({"case": name, "error": error, "at_most": at_most, "passed": same and error <= at_most})
    return rows


def errors(workload: Workload, inputs: Inputs) -> dict[str, float]:
    """How far each way is from float64: the relative L2 distance, or the share of a key graph that differs."""
    found = {name: way(inputs) for name, way in workload.ways.items()}
    count = inputs[workload.per_window[0]].shape[0]
    off, size = dict.fromkeys(found, 0.0), 0.0
    for index in range(count):
        part = {
            name: (tensor[index : index + 1] if name in workload.per_window else tensor)
            for name, tensor in inputs.items()
        }
        exact = workload.exact({name: t if t.dtype == torch.bool else t.double() for name, t in part.items()})
        chosen = exact.dtype == torch.bool
        size += float(exact.numel() if chosen else exact.square().sum())
        for name, output in found.items():
            got = output[index : index + 1]
            off[name] += float((got != exact).sum() if chosen else (got.double() - exact).square().sum())
    return {name: total / size if chosen else (total / size) ** 0.5 for name, total in off.items()}


def peak_bytes(way: Callable[[Inputs], Tensor], inputs: Inputs) -> int:
    """What a way allocates beyond its inputs and its output."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    output = way(inputs)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before - output.numel() * output.element_size()


def event_ms(run: Callable[[int], object], repeats: int) -> float:
    """Milliseconds of one of ``repeats`` runs that follow each other."""
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    first.record()
    for index in range(repeats):
        run(index)
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / repeats


def rounds_of(runs: dict[str, Callable[[int], object]]) -> dict[str, list[float]]:
    """Milliseconds per round of each, in turn; warm before."""
    repeats = {}
    for name, run in runs.items():
        event_ms(run, 3)
        repeats[name] = max(1, round(LEAST_MS / max(event_ms(run, 3), 1e-3)))
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            found[name].append(event_ms(run, repeats[name]))
    return found


def copy_bandwidth() -> float:
    """Bytes per second of a large copy on the card, read and written."""
    source = torch.empty(1 << 29, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    ms = statistics.median(rounds_of({"copy": lambda _: target.copy_(source)})["copy"])
    return 2 * source.numel() / (ms / 1e3)


def matrix_rate() -> float:
    """Operations per second of a large product in FP16."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.float16) for _ in range(2))
    ms = statistics.median(rounds_of({"product": lambda _: a @ b})["product"])
    return 2 * 8192**3 / (ms / 1e3)


def measure(workload: Workload, bandwidth: float, rate: float) -> dict[str, Any]:
    """Times, memory and errors of every way of one workload."""
    free = torch.cuda.mem_get_info()[0]
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    one = workload.make(0)
    size = sum(tensor.numel() * tensor.element_size() for tensor in one.values())
    count = int(min(MOST_SETS, max(2, 2 * cache // size + 1), max(2, free // 4 // size)))
    sets = [one, *(workload.make(seed) for seed in range(1, count))]
    found = errors(workload, one)
    extra = {name: peak_bytes(way, one) for name, way in workload.ways.items()}
    for way in workload.ways.values():  # what a way keeps by input is made outside of the rounds
        for inputs in sets:
            way(inputs)
    torch.cuda.synchronize()
    times = rounds_of({name: (lambda index, way=way: way(sets[index % count])) for name, way in workload.ways.items()})
    ms = {name: statistics.median(each) for name, each in times.items()}
    floor = 1e3 * max(workload.moved_bytes / bandwidth, workload.flops / rate)
    rows = {
        name: {
            "ms": round(ms[name], 4),
            "ours_is_faster": round(statistics.median(a / b for a, b in zip(each, times["ours"], strict=True)), 2),
            "error": found[name],
            "extra_mb": round(extra[name] / 1e6, 2),
        }
        for name, each in times.items()
    }
    return {
        "workload": workload.name,
        "floor_ms": round(floor, 4),
        "floor_is": "bytes" if workload.moved_bytes / bandwidth > workload.flops / rate else "operations",
        "over_floor": round(ms["ours"] / floor, 2),
        "bandwidth_share": round(workload.moved_bytes / bandwidth / (ms["ours"] / 1e3), 3),
        "matrix_share": round(workload.flops / rate / (ms["ours"] / 1e3), 3),
        "masked_form_mb": round(workload.masked_bytes / 1e6, 1),
        "input_sets": count,
        "ways": rows,
    }


def print_checks(rows: Sequence[dict[str, Any]]) -> None:
    """What failed, and how many passed."""
    bad = [row for row in rows if not row["passed"]]
    print(f"checks: {len(rows) - len(bad)} of {len(rows)} passed")
    for row in bad:
        print(f"  FAILED {row['case']}: {row['error']}, at most {row['at_most']:g}")


def print_measured(row: dict[str, Any]) -> None:
    """One table."""
    print(
        f"\n{row['workload']}: floor {row['floor_ms']} ms ({row['floor_is']}), ours {row['over_floor']} x that, "
        f"{100 * row['bandwidth_share']:.0f} % of the bandwidth, {100 * row['matrix_share']:.0f} % of the matrix rate"
    )
    print("| way | ms | ours is faster | error | extra MB |\n|---|---:|---:|---:|---:|")
    for name, way in row["ways"].items():
        print(f"| {name} | {way['ms']} | {way['ours_is_faster']} | {way['error']:.2g} | {way['extra_mb']} |")


def main() -> None:
    """Build, check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", choices=("check", "measure"))
    parser.add_argument("--out", type=Path, help="folder for gpu-NAME.json")
    arguments = parser.parse_args()
    started = time.perf_counter()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU: nothing was built, checked or measured")
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    name = torch.cuda.get_device_name()
    major, minor = torch.cuda.get_device_capability()
    document: dict[str, Any] = {"gpu": name, "architecture": f"sm{major}{minor}", "torch_cuda": torch.version.cuda}
    print(f"{name}, sm{major}{minor}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory(prefix="edgeir-") as folder:
        library = build(Path(folder), f"{major}{minor}")
        print(f"built in {time.perf_counter() - started:.0f} s", flush=True)
        if arguments.only != "measure":
            with CudaDevice() as device:
                document["checks"] = [*check_launchers(library, device), *check_ahead(device)]
            document["checks"] += check_types(library)
            print_checks(document["checks"])
        if arguments.only != "check":
            document["copy_gb_per_s"], document["fp16_tflop_per_s"] = (
                round(copy_bandwidth() / 1e9, 1),
                round(matrix_rate() / 1e12, 1),
            )
            print(f"copy {document['copy_gb_per_s']} GB/s, FP16 products {document['fp16_tflop_per_s']} TFLOP/s")
            document["measured"] = []
            for workload in workloads(library):
                row = measure(workload, 1e9 * document["copy_gb_per_s"], 1e12 * document["fp16_tflop_per_s"])
                document["measured"].append(row)
                print_measured(row)
                torch.cuda.empty_cache()
    document["driver"] = driver_version()
    if arguments.out is not None:
        label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        write_result(arguments.out / f"gpu-{label}.json", document, started=started)
    print(f"\n{time.perf_counter() - started:.0f} s")
    if any(not row["passed"] for row in document.get("checks", ())):
        raise SystemExit(1)


def driver_version() -> str | None:
    """Of NVIDIA's driver, as nvidia-smi says it."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


if __name__ == "__main__":
    main()
