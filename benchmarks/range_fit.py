"""How much the worst range of each calibration method loses, and how much one scale that is eight times too large does.

Every range is judged by the values that were seen: rounding and clipping with it against the range that would lose
least, in dB (`edgeir.calibrate.range_fit`). Needs a folder of photographs; seconds on a CPU, no time is measured.

    python -m benchmarks.range_fit PHOTOGRAPHS --out benchmarks/results/range-fit.json
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.result_files import write_result
from edgeir.calibrate.observe import observe
from edgeir.calibrate.observers import OBSERVERS, make_observer
from edgeir.calibrate.qdq import INT8, input_tensors
from edgeir.calibrate.range_fit import fit_of
from edgeir.cli.calibrating import CalibrationRequest, choose_pictures
from edgeir.export.graph import TraceShape
from edgeir.export.rewrites.apply import rewrite
from edgeir.export.trace import trace
from edgeir.models.loading import load_named
from edgeir.runtime.restore import GraphInput

FAULT = 8


def losses(name: str, photographs: Path, side: int) -> dict[str, dict[str, float]]:
    """For each method, dB of the worst range, and of its ranges times `FAULT` the least and the median."""
    loaded = load_named(name)
    size = (side, side)
    model = trace(loaded, TraceShape(1, *size))
    rewrite(model)
    pictures = choose_pictures(CalibrationRequest(photographs), GraphInput(1, size, size, size, loaded.spec.size, 1))
    tensors = list(dict.fromkeys(input_tensors(model.graph).values()))
    seen = observe(model, tensors, pictures.batches, method="percentile").seen
    found: dict[str, dict[str, float]] = {}
    for method in OBSERVERS:
        fits = []
        for tensor, magnitudes in seen.items():
            observer = make_observer(method)
            observer.magnitudes = magnitudes
            fits.append((fit_of(tensor, magnitudes, observer.amax(), INT8), observer.amax()))
        worst = max(fit.lost_db for fit, _ in fits)
        broken = sorted(fit_of(fit.tensor, seen[fit.tensor], FAULT * amax, INT8).lost_db for fit, amax in fits)
        found[method] = {
            "tensors": len(fits),
            "worst_db": round(worst, 2),
            "wrong": sum(fit.wrong for fit, _ in fits),
            "fault_least_db": round(broken[0], 2),
            "fault_median_db": round(broken[len(broken) // 2], 2),
        }
        print(f"| {name} | {method} | {' | '.join(str(value) for value in found[method].values())} |")
    return found


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--models", nargs="+", default=["exda-tiny", "cea-tiny", "kgt-tiny"])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    print("| model | method | tensors | worst dB | called wrong | one scale x 8: least dB | median dB |")
    print("|---|---|---:|---:|---:|---:|---:|")
    started = time.perf_counter()
    rows = {name: losses(name, arguments.photographs, arguments.size) for name in arguments.models}
    write_result(arguments.out, {"size": arguments.size, "fault": FAULT, "models": rows}, started=started)


if __name__ == "__main__":
    main()
