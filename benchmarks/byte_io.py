"""What does a host save when the graph takes and gives bytes? Prepare, execute and encode, floats beside bytes.

    python -m benchmarks.byte_io --out benchmarks/results/byte-io-cpu.json

One dynamic FP32 graph per network and its twin of bytes (`edgeir.export.byte_io`), both in ONNX Runtime on this
machine's CPU, in one thread, one picture of 8 bits at a time. Every round runs both ways once, in turn; figures are
medians over the rounds, with the lowest and the highest, and of ratios within a round. Times are processor time of this
process: other work on a shared machine changes it less than the clock. The clock's medians are in the JSON.

| stage | floats | bytes |
|---|---|---|
| prepare | divide by 255, H W C to N C H W | nothing |
| execute | the session | the session, which does both conversions |
| encode | clip, scale, round, N C H W to H W C | nothing |

`ends` is a network that gives back what it gets: the conversions alone. A CPU does the same work in either place, in
ONNX Runtime instead of numpy; what a device with memory of its own saves besides is the difference in bytes copied,
which no CPU can time. Correctness stands in the same row: bytes that differ between the two ways, and by how much.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from benchmarks.result_files import GrowingTable
from edgeir.cli.tile_checks import measuring_square
from edgeir.export.byte_io import with_bytes
from edgeir.export.graph import DynamicSize, TraceShape
from edgeir.export.rewrites.apply import rewrite
from edgeir.export.trace import trace
from edgeir.imaging.byte_formats import ByteFormat
from edgeir.imaging.colour import to_uint8
from edgeir.imaging.measuring import MEASURING_SET_SHA256
from edgeir.models.build import LoadedModel, build_seeded, describe
from edgeir.models.loading import load_named
from edgeir.runtime.byte_session import ByteGraph, Bytes
from edgeir.runtime.memory import keep_for_reuse
from edgeir.runtime.ort_session import OrtSession

NETWORKS = ("ends", "micro", "exda-tiny")
_MICRO = {"dim": 8, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 1, 1, 1]}
_UINT8 = ByteFormat("uint8")
_PICTURE = "astronaut"
_LARGEST_PX = 1024
_STAGES = ("prepare", "execute", "encode")
HEAD = (
    "| network | size | way | prepare ms | execute ms | encode ms | whole ms | lowest to highest | bytes in + out |\n"
    "|---|---:|---|---:|---:|---:|---:|---:|---:|"
)

Milliseconds = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ways:
    """One network both ways, opened."""

    floats: OrtSession
    in_bytes: ByteGraph

    def by_floats(self, picture: Bytes) -> tuple[Bytes, list[float]]:
        """``(H, W, 3) uint8`` restored; milliseconds of the processor for each of `_STAGES`, and by the clock."""
        began = time.perf_counter()
        marks = [time.process_time()]
        batch = np.ascontiguousarray((picture.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None])
        marks.append(time.process_time())
        restored = self.floats.run(batch)
        marks.append(time.process_time())
        encoded = np.ascontiguousarray(to_uint8(restored[0]).transpose(1, 2, 0))
        marks.append(time.process_time())
        return encoded, _milliseconds(marks, began)

    def by_bytes(self, picture: Bytes) -> tuple[Bytes, list[float]]:
        """The same."""
        began = time.perf_counter()
        marks = [time.process_time()]
        batch = picture[None]
        marks.append(time.process_time())
        restored = self.in_bytes.run_bytes(batch)
        marks.append(time.process_time())
        encoded = restored[0]
        marks.append(time.process_time())
        return encoded, _milliseconds(marks, began)


def measure(ways: Ways, picture: Bytes, rounds: int) -> dict[str, object]:
    """One row: both ways in turn, after one round that does not count."""
    runners: dict[str, Callable[[Bytes], tuple[Bytes, list[float]]]] = {
        "floats": ways.by_floats,
        "bytes": ways.by_bytes,
    }
    samples: dict[str, list[list[float]]] = {name: [] for name in runners}
    outputs = {name: run(picture)[0] for name, run in runners.items()}
    for _ in range(rounds):
        for name, run in runners.items():
            samples[name].append(run(picture)[1])
    steps = np.abs(outputs["floats"].astype(np.int16) - outputs["bytes"])
    found = {name: np.asarray(rows) for name, rows in samples.items()}
    stages = len(_STAGES)
    ratios = found["floats"][:, :stages].sum(axis=1) / found["bytes"][:, :stages].sum(axis=1)
    pixels = picture.shape[0] * picture.shape[1]
    return {
        "rounds": rounds,
        **{name: _summary(rows) for name, rows in found.items()},
        "time_ratio": _rounded(np.median(ratios)),
        "time_ratio_low": _rounded(ratios.min()),
        "time_ratio_high": _rounded(ratios.max()),
        "copied_bytes": {"floats": 2 * 12 * pixels, "bytes": 2 * 3 * pixels},
        "output_bytes": steps.size,
        "differing_bytes": int(np.count_nonzero(steps)),
        "largest_step": int(steps.max()),
    }


def _summary(samples: Milliseconds) -> dict[str, float]:
    whole = samples[:, : len(_STAGES)].sum(axis=1)
    stages = {f"{name}_ms": _rounded(np.median(samples[:, index])) for index, name in enumerate(_STAGES)}
    return stages | {
        "whole_ms": _rounded(np.median(whole)),
        "lowest_ms": _rounded(whole.min()),
        "highest_ms": _rounded(whole.max()),
        "clock_ms": _rounded(np.median(samples[:, -1])),
    }


def _rounded(value: float) -> float:
    return round(float(value), 3)


def _milliseconds(marks: list[float], began: float) -> list[float]:
    return [1e3 * float(step) for step in (*np.diff(marks), time.perf_counter() - began)]


def opened(graph: ir.Model) -> Ways:
    """Both ways of a graph."""
    twin = with_bytes(graph, _UINT8)
    first, second = (OrtSession(ir.to_proto(one).SerializeToString(), threads=1, arena=False) for one in (graph, twin))
    return Ways(first, ByteGraph(second, _UINT8))


def network(name: str) -> ir.Model:
    """A dynamic FP32 graph, rewritten as `edgeir export` does."""
    if name == "ends":
        return ir.from_proto(
            onnx.parser.parse_model(
                '<ir_version: 10, opset_import: ["": 20]> g (float[1, 3, H, W] image) => '
                '(float[1, 3, H, W] restored) { ["ends/Identity"] restored = Identity(image) }'
            )
        )
    if name == "micro":
        loaded = LoadedModel(build_seeded("exda", _MICRO, seed=1).eval(), describe("micro", "exda", _MICRO, None))
    else:
        loaded = load_named(name)
    size = DynamicSize((128, 128), (256, 256), (_LARGEST_PX, _LARGEST_PX))
    graph = trace(loaded, TraceShape(1, 256, 256, dynamic=size))
    rewrite(graph)
    return graph


def lines(row: dict[str, object]) -> list[str]:
    """Of Markdown, one per way."""
    copied = row["copied_bytes"]
    assert isinstance(copied, dict)
    found = []
    for way in ("floats", "bytes"):
        figures = row[way]
        assert isinstance(figures, dict)
        cells = [f"{figures[f'{stage}_ms']:.1f}" for stage in (*_STAGES, "whole")]
        cells += [f"{figures['lowest_ms']:.1f} to {figures['highest_ms']:.1f}", f"{copied[way] / 1e6:.2f} MB"]
        found.append(f"| {row['network']} | {row['size_px']} | {way} | {' | '.join(cells)} |")
    return found


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024], help="sides in pixels")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--alone", action="store_true", help="nothing else ran on the machine")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    keep_for_reuse()
    setting = {
        "threads": 1,
        "time": "of the processor",
        "machine": "alone" if arguments.alone else "shared with other work",
        "measuring_set_sha256": MEASURING_SET_SHA256,
    }
    table = GrowingTable(arguments.out, ("network", "size_px"), setting)
    print(HEAD, flush=True)
    for name in arguments.networks:
        ways = opened(network(name))
        for size in arguments.sizes:
            picture = to_uint8(measuring_square(_PICTURE, size, size))
            row = {"network": name, "size_px": size, **measure(ways, picture, arguments.rounds)}
            table.put(row)
            print("\n".join(lines(row)), flush=True)
            print(
                f"time of floats / bytes {row['time_ratio']} ({row['time_ratio_low']} to {row['time_ratio_high']}); "
                f"{row['differing_bytes']} of {row['output_bytes']} bytes differ, by {row['largest_step']} at most",
                flush=True,
            )


if __name__ == "__main__":
    main()
