"""How much memory does a large picture take, and how much a small one?

    python -m benchmarks.large_picture BUNDLE --out benchmarks/results/large-picture-cpu.json

`edgeir run` in a process of its own on a measuring picture, enlarged and with noise 25; the peak is what the
system says of that process when it has ended. Tiles are restored one by one, so that the peak is bounded by the
tile and by the pictures themselves, not by the work. Seconds are stated and nothing is concluded from them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from benchmarks.result_files import write_result
from edgeir.imaging.measuring import load_measuring

NOISE_255 = 25.0


def make_picture(path: Path, width: int, height: int) -> None:
    """A noisy picture of ``width`` x ``height``."""
    source = Image.fromarray(np.rint(load_measuring("astronaut", crop_px=512) * 255).astype(np.uint8))
    side = max(width, height)
    clean = source.resize((side, side), Image.Resampling.LANCZOS).crop((0, 0, width, height))
    noise = np.random.default_rng(0).normal(0, NOISE_255, (height, width, 3)).astype(np.float32)
    Image.fromarray((np.asarray(clean, np.float32) + noise).clip(0, 255).astype(np.uint8)).save(path, compress_level=1)


def peak_of(command: list[str]) -> tuple[int, float]:
    """Peak memory in bytes and seconds of a command that ends well."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * 1024, time.perf_counter() - started


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["1000x750", "4000x3000"], help="WIDTHxHEIGHT")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    began = time.perf_counter()
    rows = []
    with TemporaryDirectory() as folder:
        for size in arguments.sizes:
            width, height = map(int, size.split("x"))
            source, restored = Path(folder) / "in.png", Path(folder) / "out.png"
            make_picture(source, width, height)
            command = [sys.executable, "-m", "edgeir", "run", str(arguments.bundle), str(source), "-o", str(restored)]
            peak, seconds = peak_of(command)
            picture = width * height * 3 * 4  # one in floats
            rows.append(
                {
                    "size": size,
                    "peak_mib": round(peak / 2**20),
                    "picture_mib": round(picture / 2**20),
                    "seconds": round(seconds),
                }
            )
            print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    write_result(arguments.out, {"bundle": arguments.bundle.name, "rows": rows}, started=began)


if __name__ == "__main__":
    main()
