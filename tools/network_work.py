"""Count the work of every named network, for devices without PyTorch.

python tools/network_work.py            writes edgeir/sizing/networks.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "edgeir" / "sizing" / "networks.json"
SIDE = 256
"""Counts are in proportion to the pixels, but for parts far below a hundredth, and for the operators."""


def row(name: str, side: int = SIDE) -> dict[str, Any]:
    """What the table says of one variant, counted at ``side`` x ``side`` pixels."""
    from edgeir.models.build import build, describe
    from edgeir.models.registry import VARIANTS
    from edgeir.models.work import count_work

    variant = VARIANTS[name]
    network = build(variant.architecture, variant.config, device="meta").eval()
    work = count_work(network, side, side)
    pixels = side * side
    return {
        "minimum": describe(name, variant.architecture, variant.config, None).size.minimum,
        "macs": round(work.macs / pixels),
        "least_values": round(work.least_values / pixels),
        "most_values": round(work.most_values / pixels),
        "live_values": round(work.live_values / pixels),
        "kernels": work.kernels,
        "operators": work.operators,
    }


def table() -> str:
    """The whole file, as it should be."""
    from edgeir.models.registry import VARIANTS

    return json.dumps({name: row(name) for name in VARIANTS}, indent=1) + "\n"


def main() -> None:
    """Write it."""
    TABLE.write_text(table(), encoding="utf-8")
    print(TABLE.relative_to(ROOT))


if __name__ == "__main__":
    main()
