"""``edgeir bench --layers``: which layers take the time, in which type they run, and what that type cost in dB."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from edgeir.precision import PrecisionPlan, module_of
from edgeir.report.chart import Chart
from edgeir.report.value import Cell, Table
from edgeir.runtime.ort_profile import NodeTime

SHOWN = 20
TITLE = "Layers by time"

# A function's body, inlined by ONNX Runtime: `_inlfunc_EdgeirGstAttention_token_23_...`; a fused op is one layer.
_INLINED = re.compile(r"_inlfunc_([A-Za-z]+)_token_\d+")
_LAYER = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+")  # a module's path has a dot


def layer_of(node: str, op: str) -> str:
    """The layer that a node of ONNX Runtime's belongs to: its module, its fused op, or what ONNX Runtime put in.

    >>> layer_of("encoder1.0.ffn.dwconv/QuantizeLinear", "QuantizeLinear")
    'encoder1.0.ffn.dwconv'
    >>> layer_of("_inlfunc_EdgeirGstAttention_token_23_EdgeirGstAttention.high", "Resize")
    'EdgeirGstAttention'
    >>> layer_of("ReorderOutput_token_3098", "ReorderOutput")
    '(ReorderOutput)'
    """
    if found := _INLINED.search(node):
        return found[1]
    module = module_of(node)
    return module if _LAYER.fullmatch(module) else f"({op})"


def layer_table(nodes: Sequence[NodeTime], plan: PrecisionPlan | None) -> tuple[Table, Chart]:
    """The costliest layers, and a chart of them.

    Args:
        nodes: `edgeir.runtime.ort_profile.node_times`.
        plan: of the bundle, for types and costs; ``None`` where it has none.
    """
    times: dict[str, float] = defaultdict(float)
    for node in nodes:
        times[layer_of(node.name, node.op)] += node.ms
    total = sum(times.values())
    ordered = sorted(times, key=lambda name: -times[name])
    rows: list[tuple[Cell, ...]] = [
        (name, round(times[name], 3), round(100 * times[name] / total, 1), *_planned(name, plan))
        for name in ordered[:SHOWN]
    ]
    rest = sum(times[name] for name in ordered[SHOWN:])
    if rest:
        others = f"{len(ordered) - SHOWN} others"
        rows.append((others, round(rest, 3), round(100 * rest / total, 1), None, None))
    table = Table(
        title=TITLE,
        columns=("layer", "ms", "share %", "type", "cost dB"),
        rows=tuple(rows),
        note="In ONNX Runtime on this machine's CPU, by its profiler, casts and Q/DQ counted with their layer; in "
        "brackets: what it put in itself. Cost: mean PSNR that the layer's type loses alone, where plan.yaml has it.",
    )
    return table, layer_chart(TITLE)


def layer_chart(title: str) -> Chart:
    """Bars of a `layer_table` of that title, a colour per type."""
    return Chart(title, "bars", title, "layer", ("ms",), group="type")


def _planned(layer: str, plan: PrecisionPlan | None) -> Iterable[Cell]:
    if plan is None or layer.startswith("("):
        return None, None
    exception = plan.exception_for(layer)
    kind = plan.default if exception is None else exception.type
    return str(kind), None if exception is None else exception.evidence_db
