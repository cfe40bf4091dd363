"""Which layer is to blame: what each one costs in eight bits, alone, in dB of PSNR against the truth.

Every layer goes into eight bits by itself (leave-one-in) and the output is compared with the FP32 network's. Errors of
different layers are almost uncorrelated, so that their mean squares add up: what a set of layers will cost is known
from what its members cost alone, and whoever plans needs to measure sets only to confirm it.

A mean square error ``e`` on top of the network's own error ``r`` against the truth costs ``10 log10(1 + e / r)`` dB,
where both are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeir.calibrate.switched import SwitchedGraph
from edgeir.compare.drift import Sample
from edgeir.errors import UsageError
from edgeir.imaging.layout import nchw_from_hwc
from edgeir.imaging.look import as_shown
from edgeir.imaging.metrics import brightness_shift_8bit

Picture = NDArray[np.float32]

# A network that returns a picture to the last bit has no error to compare with: 80 dB is more than any display shows.
_LEAST_OWN_ERROR = 1e-8


@dataclass(frozen=True)
class Effect:
    """What one layer in eight bits does to the output.

    Attributes:
        errors: mean square difference to the FP32 network's output, per sample.
        shifts: mean difference, per sample, in steps of an 8-bit picture.
    """

    errors: NDArray[np.float64]
    shifts: NDArray[np.float64]


@dataclass(frozen=True)
class Sensitivity:
    """What each layer does to each sample, alone in eight bits.

    Attributes:
        conditions: of the samples, in order.
        own_errors: mean square error of the FP32 network against the truth, per sample.
        effects: by layer, in the order of the graph.
    """

    conditions: tuple[str, ...]
    own_errors: NDArray[np.float64]
    effects: Mapping[str, Effect]

    def costs_db(self, layers: Collection[str]) -> NDArray[np.float64]:
        """What these layers together will cost each sample, dB, by the sum of their errors."""
        none = np.zeros_like(self.own_errors)
        together = np.sum([self.effects[name].errors for name in layers], axis=0) if layers else none
        costs: NDArray[np.float64] = 10 * np.log10(1 + together / self.own_errors)
        return costs

    def shift_8bit(self, layers: Collection[str]) -> float:
        """Largest brightness shift that these layers together will cause, of 255: shifts add with their signs."""
        if not layers:
            return 0.0
        return float(np.abs(np.sum([self.effects[name].shifts for name in layers], axis=0)).max())

    def cost_db(self, layer: str) -> float:
        """What this layer alone costs, dB: mean over the samples."""
        return float(self.costs_db([layer]).mean())

    def costs_by_condition(self, layer: str) -> dict[str, float]:
        """What this layer alone costs under each condition, dB: mean over its samples."""
        costs, names = self.costs_db([layer]), np.asarray(self.conditions)
        return {name: float(costs[names == name].mean()) for name in dict.fromkeys(self.conditions)}

    def ranked(self) -> list[tuple[str, float, float]]:
        """Layer, its cost in dB, and its share of the errors of all (0 to 1), the worst first."""
        shares = {name: float((effect.errors / self.own_errors).mean()) for name, effect in self.effects.items()}
        total = sum(shares.values()) or 1.0
        order = sorted(shares, key=lambda name: (-shares[name], name))
        return [(name, self.cost_db(name), shares[name] / total) for name in order]


def measure_sensitivity(
    graph: SwitchedGraph,
    samples: Sequence[Sample],
    *,
    known: Mapping[str, Effect] | None = None,
    on_layer: Callable[[str, Effect], None] = lambda name, effect: None,
) -> Sensitivity:
    """Leave-one-in for every layer of ``graph``.

    Args:
        graph: its layers are the candidates.
        samples: at least one.
        known: layers that were measured before, which are not measured again.
        on_layer: called with each newly measured layer, to be kept.

    Raises:
        UsageError: there is no sample.
    """
    if not samples:
        raise UsageError("there is no picture to measure sensitivity on", where="sensitivity")
    batches = [sample.batch() for sample in samples]
    plain = graph.run_each(batches)
    own = own_errors(plain, samples)
    effects: dict[str, Effect] = {}
    for name in graph.layers:
        if known is not None and name in known:
            effects[name] = known[name]
            continue
        outputs = graph.run_each(batches, [name])
        effects[name] = Effect(
            np.asarray([mean_square(low, output) for low, output in zip(outputs, plain, strict=True)]),
            np.asarray([_shift_8bit(low, output) for low, output in zip(outputs, plain, strict=True)]),
        )
        on_layer(name, effects[name])
    return Sensitivity(tuple(sample.condition for sample in samples), own, effects)


@dataclass(frozen=True)
class MeasuredSet:
    """What layers together do, per sample.

    Attributes:
        drift_db: loss of PSNR against the truth.
        shifts: of mean brightness, in steps of an 8-bit picture.
        lost_neighbours: share of the neighbours that FP32 and eight bits do not both choose, 0 to 1, of the worst key
            graph; nothing where the network chooses none.
    """

    drift_db: NDArray[np.float64]
    shifts: NDArray[np.float64]
    lost_neighbours: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


class Yardstick:
    """The FP32 network on some samples, against which sets of layers are measured.

    Args:
        graph: whose layers are switched.
        samples: at least one.
    """

    def __init__(self, graph: SwitchedGraph, samples: Sequence[Sample]) -> None:
        self._graph = graph
        self._samples = samples
        self._batches = [sample.batch() for sample in samples]
        self._plain, self._choices = zip(*graph.run_and_choose(self._batches), strict=True)
        self._own = own_errors(self._plain, samples)

    def measure(self, layers: Collection[str]) -> MeasuredSet:
        """With ``layers`` in eight bits together."""
        outputs, choices = zip(*self._graph.run_and_choose(self._batches, layers), strict=True)
        drift: NDArray[np.float64] = 10 * np.log10(own_errors(outputs, self._samples) / self._own)
        shifts = [_shift_8bit(low, output) for low, output in zip(outputs, self._plain, strict=True)]
        lost = [
            max(1 - jaccard(one, other) for one, other in zip(low, plain, strict=True))
            for low, plain in zip(choices, self._choices, strict=True)
            if low
        ]
        return MeasuredSet(drift, np.asarray(shifts), np.asarray(lost, np.float64))


def jaccard(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """What two key graphs share of what either has; 1 where both are empty."""
    either = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / either if either else 1.0


def own_errors(outputs: Sequence[Picture], samples: Sequence[Sample]) -> NDArray[np.float64]:
    """Mean square error against the truth, per sample."""
    found = [mean_square(output, nchw_from_hwc(sample.clean)) for output, sample in zip(outputs, samples, strict=True)]
    return np.maximum(np.asarray(found, np.float64), _LEAST_OWN_ERROR)


def mean_square(one: Picture, other: Picture) -> float:
    """Of the difference, both clipped to [0, 1] as for a PSNR; where ``one`` is not finite the difference is 1."""
    difference = np.clip(one.astype(np.float64), 0, 1) - np.clip(other.astype(np.float64), 0, 1)
    return float(np.mean(np.where(np.isfinite(one), difference, 1.0) ** 2))


def _shift_8bit(one: Picture, other: Picture) -> float:
    return brightness_shift_8bit(as_shown(one), as_shown(other))
