"""Small pictures and small recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

MICRO = {"dim": 8, "blocks": [1, 1, 1, 1], "refine": 1, "heads": [1, 2, 1, 2], "rank": 4, "adapter_width": 8}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four smooth pictures of 48x56 pixels in ``train`` and one in ``held-out``; gives their parent."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.linspace(0, 1, 48), np.linspace(0, 1, 56), indexing="ij")
    for index in range(5):
        folder = tmp_path / "data" / ("held-out" if index == 4 else "train")
        folder.mkdir(parents=True, exist_ok=True)
        waves = [0.5 + 0.4 * np.sin(rng.uniform(2, 9) * x + rng.uniform(2, 9) * y + index) for _ in range(3)]
        Image.fromarray((np.stack(waves, axis=2) * 255).round().astype(np.uint8)).save(folder / f"p{index}.png")
    return tmp_path / "data"


@pytest.fixture
def content() -> Callable[..., dict[str, Any]]:
    """A recipe of a micro CEA on noisy patches of 16 pixels, as the YAML's value; keywords replace sections."""

    def make(**changes: Any) -> dict[str, Any]:
        return {
            "name": "micro",
            "seed": 3,
            "model": {"variant": "cea-tiny", "overrides": MICRO},
            "data": [{"layout": "folder", "root": "train"}],
            "degradations": {"noise": {"weight": 1, "steps": [{"kind": "gaussian-noise", "sigma_8bit": [5, 40]}]}},
            "stages": [{"steps": 6, "patch_px": 16, "batch": 2}],
            "optimiser": {"learning_rate": 2e-3, "warmup_steps": 1, "clip_norm": 1.0},
            "ema_decay": 0.9,
            "workers": 0,
            **changes,
        }

    return make
