r"""How far is ``edgeir plan-size`` off on this machine's processor? Time and peak memory, modelled and measured.

    python -m benchmarks.sizes --models exda-tiny cea-tiny kgt-tiny --sizes 128 256 \
        --out benchmarks/results/sizes-cpu.json
    python -m benchmarks.sizes --table benchmarks/results/sizes-cpu.json

Each network in FP32 as ONNX Runtime gets it: ``model.onnx``, and what ``--for onnxruntime`` prepares. The processor is
measured anew beside each round, so that other work on the machine slows both alike. The file holds what was measured;
``--table`` sets what the model says today beside it, which is the table of docs/sizes.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result_files import GrowingTable
from edgeir.bundle import Bundle, BundleWriter
from edgeir.export.graph import TraceShape, save_graph
from edgeir.export.portability import prepare
from edgeir.export.rewrites.apply import rewrite
from edgeir.export.runtimes import runtime_named
from edgeir.export.trace import trace
from edgeir.manifest import Manifest
from edgeir.models.loading import load_named
from edgeir.provenance import collect
from edgeir.runtime.memory import peak_memory_bytes
from edgeir.runtime.opening import open_session
from edgeir.sizing.devices import THIS_MACHINE, Device, Mode, Rates
from edgeir.sizing.here import this_machine
from edgeir.sizing.networks import network
from edgeir.sizing.plan import plan_named
from edgeir.spec import INPUT_NAME, TensorSpec

MIB = 1 << 20


def bundles(model: str, side: int, folder: Path) -> dict[str, Path]:
    """The smallest bundles that hold one graph each, by what was done to it."""
    loaded = load_named(model)
    graph = trace(loaded, TraceShape(1, side, side))
    rewrite(graph)
    made = {}
    for form in ("model", "prepared"):
        if form == "prepared":
            graph = prepare(graph, runtime_named("onnxruntime"))
        with BundleWriter(folder / f"{model}-{side}-{form}.edgeir") as writer:
            save_graph(graph, writer.path("model.onnx"))
            writer.add("model.onnx", "model")
            made[form] = writer.commit(
                Manifest(
                    name=model,
                    precision="fp32",
                    input=TensorSpec(INPUT_NAME, (1, 3, side, side)),
                    batch=1,
                    model=loaded.spec,
                    provenance=collect(seconds=0.0),
                )
            )
    return made


def measure(model: str, side: int, rounds: int) -> list[dict[str, object]]:
    """A row per form of the graph."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for form, path in bundles(model, side, Path(name)).items():
            bundle = Bundle.open(path)
            session = open_session(bundle, "ort")
            picture = np.random.default_rng(0).random((1, 3, side, side), dtype=np.float32)
            session.run(picture)
            seconds, processors = [], []
            for _ in range(rounds):
                processors.append(this_machine())
                started = time.perf_counter()
                session.run(picture)
                seconds.append(time.perf_counter() - started)
            del session
            modes = [processor.modes[0] for processor in processors]
            rows.append(
                {
                    "model": model,
                    "size": f"{side}x{side}",
                    "graph": form,
                    "gmac_per_s": round(statistics.median(mode.rates.fp32 for mode in modes) / 1e9, 1),
                    "gb_per_s": round(statistics.median(mode.bandwidth for mode in modes) / 1e9, 1),
                    "measured_ms": round(1e3 * statistics.median(seconds), 1),
                    "measured_mib": round(peak_memory_bytes(path, "ort") / MIB),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def modelled(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Quickest and slowest time in ms and memory in MiB that the model has for one row of the file."""
    side = int(row["size"].partition("x")[0])
    rate = row["gmac_per_s"] * 1e9
    mode = Mode("measured", Rates(rate, rate, rate), row["gb_per_s"] * 1e9)
    processor = Device(THIS_MACHINE, "a processor", "cpu", 1 << 40, shared=True, modes=(mode,))
    plan = plan_named(network(row["model"]), (side, side), processor, "fp32")
    seconds = plan.seconds()
    return 1e3 * seconds.quickest, 1e3 * seconds.slowest, plan.memory.engine / MIB


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The prepared graphs, Markdown."""
    lines = [
        "| | quickest ms | measured ms | slowest ms | modelled MiB | measured MiB | error |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        if row["graph"] == "prepared":
            quickest, slowest, mib = modelled(row)
            error = 100 * (mib / row["measured_mib"] - 1)
            lines.append(
                f"| {row['model']} {row['size']} | {quickest:.0f} | {row['measured_ms']:.0f} | {slowest:.0f} "
                f"| {mib:.0f} | {row['measured_mib']} | {error:+.0f} % |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", nargs="+", default=["exda-tiny", "cea-tiny", "kgt-tiny"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, help="print the table of a results file and measure nothing")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table(json.loads(arguments.table.read_text(encoding="utf-8"))["rows"]))
        return
    for model in arguments.models:
        network(model)
    results = GrowingTable(arguments.out, ("model", "size", "graph"), {"rounds": arguments.rounds})
    for model in arguments.models:
        for side in arguments.sizes:
            for row in measure(model, side, arguments.rounds):
                results.put(row)


if __name__ == "__main__":
    main()
