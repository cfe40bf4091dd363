"""What the named networks cost per pixel, read from a table that was counted with PyTorch and needs none.

``networks.json`` is written by ``tools/network_work.py`` from `edgeir.models.work.count_work`, in fast form, and a test
counts it again. Costs are in proportion to the pixels: channel attention and attention in windows both are.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from importlib import resources

from edgeir.errors import MissingDependency, UsageError, nearest
from edgeir.models.registry import VARIANTS
from edgeir.spec import ModelSpec, SizeRule

_COUNTED_PX = 256


@dataclass(frozen=True, slots=True)
class Network:
    """One network; costs are for one input pixel, but for the number of operators.

    Attributes:
        name: of the variant.
        rule: which sizes it accepts.
        scale: output pixels per input pixel along each side.
        parameters: in all.
        macs: multiply-accumulates.
        chooses_neighbours: whether it has a key graph (KGT), whose sorting is no arithmetic of this table.
        least_values, most_values, live_values, kernels, operators: as in `edgeir.models.work.Work`.
    """

    name: str
    rule: SizeRule
    scale: int
    parameters: int
    macs: int
    chooses_neighbours: bool
    least_values: int
    most_values: int
    live_values: int
    kernels: int
    operators: int


def network(name: str) -> Network:
    """The row of one named model.

    Raises:
        UsageError: there is no such model; the nearest name is offered.
    """
    if name not in VARIANTS:
        raise UsageError(f"unknown model '{name}'", where="--model", fix=nearest(name, VARIANTS))
    variant = VARIANTS[name]
    row = json.loads(resources.files("edgeir.sizing").joinpath("networks.json").read_text(encoding="utf-8"))[name]
    return Network(
        name=name,
        rule=SizeRule(variant.multiple, row["minimum"]),
        scale=variant.scale,
        parameters=variant.parameters,
        macs=row["macs"],
        chooses_neighbours=variant.architecture == "kgt",
        least_values=row["least_values"],
        most_values=row["most_values"],
        live_values=row["live_values"],
        kernels=row["kernels"],
        operators=row["operators"],
    )


def network_of(spec: ModelSpec) -> Network:
    """The row of a bundle's model; one with settings of its own is counted here and now, which takes PyTorch.

    Raises:
        MissingDependency: it is not in the table, and there is no PyTorch.
    """
    if spec.name in VARIANTS:
        return network(spec.name)
    if importlib.util.find_spec("torch") is None:
        raise MissingDependency(
            f"the cost of '{spec.name}' is not known: its settings are its own, and counting takes PyTorch",
            where="--model",
            fix="Plan where edgeir[export] is installed, or measure on the device: edgeir bench BUNDLE.",
        )
    from edgeir.models.build import build
    from edgeir.models.cost import count_parameters
    from edgeir.models.work import count_work

    module = build(spec.architecture, spec.config, device="meta").eval()
    side = spec.size.near(_COUNTED_PX)
    work = count_work(module, side, side)
    pixels = side**2
    return Network(
        name=spec.name,
        rule=spec.size,
        scale=spec.scale,
        parameters=count_parameters(module),
        macs=round(work.macs / pixels),
        chooses_neighbours=spec.chooses_neighbours,
        least_values=round(work.least_values / pixels),
        most_values=round(work.most_values / pixels),
        live_values=round(work.live_values / pixels),
        kernels=work.kernels,
        operators=work.operators,
    )
