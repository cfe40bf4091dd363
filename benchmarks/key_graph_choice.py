"""How stable is KGT's choice of neighbours? PyTorch FP32 against PyTorch FP64, the same network, the same picture.

    python -m benchmarks.key_graph_choice --out benchmarks/results/key-graph-choice-cpu.json

Choosing the k largest is discontinuous. This is why parity of networks with a key graph is judged given one choice
(`edgeir.cli.measuring.check_parity`): no export can agree with PyTorch more closely than PyTorch agrees with itself.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from benchmarks.result_files import write_result
from edgeir.imaging.measuring import measuring_crop
from edgeir.imaging.metrics import fidelity_db, max_abs
from edgeir.models import fused
from edgeir.models.loading import load_named


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="kgt-tiny")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    started = time.perf_counter()
    single, double = load_named(arguments.model).module, load_named(arguments.model).module.double()
    picture = torch.from_numpy(measuring_crop("astronaut", 256, 256).transpose(2, 0, 1)[None].copy())
    chosen: list[torch.Tensor] = []
    original = fused.key_graph

    def recorded(tokens: torch.Tensor, k: int) -> torch.Tensor:
        chosen.append(original(tokens, k))
        return chosen[-1]

    with torch.inference_mode():
        exact = double(picture.double()).float().numpy()
        fused.key_graph = recorded
        free = single(picture).numpy()
        fused.key_graph = original
        with fused.given_key_graphs(chosen) as given:
            same_choice = double(picture.double()).float().numpy()
    result = {
        "model": arguments.model,
        "free_fidelity_db": round(fidelity_db(free, exact), 2),
        "free_max_abs": max_abs(free, exact),
        "given_choice_fidelity_db": round(fidelity_db(free, same_choice), 2),
        "given_choice_max_abs": max_abs(free, same_choice),
        "smallest_overlap": min(given.overlaps),
    }
    print(json.dumps(result, indent=2))
    write_result(arguments.out, result, started=started)


if __name__ == "__main__":
    main()
